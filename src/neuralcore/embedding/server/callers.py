"""Who may ask: the names that this server answers to, and the pages whose scripts may call it.

Any page that a browser shows can send requests to this machine, as text/plain even without asking first, and the name
of its host can be made to point here (DNS rebinding), after which the browser takes this server for the page's own.
Where a key is needed such a page gets nothing. Where none is, requests are answered only under names that no stranger
can own, and to scripts of pages that came from here.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers

from .refusals import Refusal

# Never sold to anybody: RFC 6761, RFC 6762, RFC 8375, ICANN's resolution 2024.07.29.06, and Kubernetes' short form.
_NOBODYS = ("localhost", "local", "internal", "home.arpa", "svc")
_SCHEME_PORTS = {"http": ":80", "https": ":443"}
_EXPOSED = "retry-after, server-timing, x-request-id, x-truncated-texts"
_PREFLIGHT_S = "600"


@dataclass(frozen=True, slots=True, kw_only=True)
class Callers:
    """What is asked of the headers Host and Origin.

    Args:
        keyed: whether clients must show a key.
        hosts: names to answer to beside the natural ones; `*.example.com` is all below it, `*` any.
        origins: of pages elsewhere whose scripts may call (CORS), as in `https://example.com`; `*` is any.
    """

    keyed: bool = False
    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()

    def check(self, headers: Headers, http_version: str) -> None:
        """Refuse who asks under a stranger's name or for a stranger's page.

        Raises:
            Refusal: 400 without one Host, 421 for another's name, 403 for a page from elsewhere.
        """
        given = headers.getlist("host")
        if len(given) > 1 or (http_version not in {"1.0", "0.9"} and not any(given)):
            raise Refusal(400, "a request has one header Host (RFC 9112, section 3.2)")
        host, origin = "".join(given), headers.get("origin")
        if host and not self._answers_to(host):
            raise Refusal(421, f"this server does not answer to the name {host[:100]!r}; --allowed-host lets it")
        if origin is not None and not (self.keyed or self._may_call(origin, host)):
            raise Refusal(
                403, f"scripts of pages from {origin[:100]!r} may not call this server; --allow-origin lets them"
            )

    def sharing(self, headers: Headers) -> Mapping[str, str]:
        """Headers of an answer that let the browser give it to the page that asked (CORS)."""
        origin = headers.get("origin")
        if not self.origins or origin is None:
            return {}
        vary = {} if "*" in self.origins else {"vary": "origin"}
        if not self._is_named(origin):
            return vary
        allowed = "*" if "*" in self.origins else origin
        return {"access-control-allow-origin": allowed, "access-control-expose-headers": _EXPOSED, **vary}

    def permission(self, headers: Headers) -> Mapping[str, str] | None:
        """Headers of the answer to a browser that asks before it sends; None when it may not."""
        asked = headers.get("access-control-request-method")
        if not asked or not self._is_named(headers.get("origin", "")):
            return None
        wanted = headers.get("access-control-request-headers", "authorization, content-type")
        return {
            "access-control-allow-methods": "GET, POST",
            "access-control-allow-headers": wanted,
            "access-control-allow-private-network": "true",
            "access-control-max-age": _PREFLIGHT_S,
        }

    def _answers_to(self, host: str) -> bool:
        if self.keyed and not self.hosts:
            return True
        name = host_name(host)
        return _is_nobodys(name) or name == _own_name() or any(_matches(name, each) for each in self.hosts)

    def _may_call(self, origin: str, host: str) -> bool:
        scheme, _, authority = origin.lower().partition("://")
        port = _SCHEME_PORTS.get(scheme, "")
        return self._is_named(origin) or authority.removesuffix(port) == host.lower().removesuffix(port) != ""

    def _is_named(self, origin: str) -> bool:
        return "*" in self.origins or origin.lower() in self.origins


def host_name(host: str) -> str:
    """Of a header Host the name, without port, brackets and the dot of a full name."""
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].removesuffix(".")


def clean_hosts(hosts: Iterable[str]) -> Sequence[str]:
    """Names to compare with, without ports.

    Raises:
        ValueError: one is no name.
    """
    return [_clean_host(host) for host in hosts]


def _clean_host(host: str) -> str:
    name = host_name(host)
    if "/" in host or not re.fullmatch(r"\*|(\*\.)?[\w.:-]+", name):
        raise ValueError(f"{host!r} is not a name such as example.com, *.example.com or *")
    return name


def clean_origins(origins: Iterable[str]) -> Sequence[str]:
    """Origins as browsers write them.

    Raises:
        ValueError: one is no origin.
    """
    return [_clean_origin(origin) for origin in origins]


def _clean_origin(origin: str) -> str:
    cleaned = origin.strip().lower().removesuffix("/")
    scheme, separator, authority = cleaned.partition("://")
    if cleaned not in {"*", "null"} and not (scheme and separator and authority and "/" not in authority):
        raise ValueError(f"{origin!r} is not an origin such as https://example.com, null or *")
    return cleaned.removesuffix(_SCHEME_PORTS.get(scheme, "\n"))


def _is_nobodys(name: str) -> bool:
    """An address, a name without a dot (of a container, of a machine nearby), or one that cannot be had."""
    if "." not in name or name.rpartition(".")[2].isdecimal():
        return True
    return name.endswith(tuple(f".{suffix}" for suffix in _NOBODYS))


def _own_name() -> str:
    return socket.gethostname().lower()


def _matches(name: str, pattern: str) -> bool:
    return pattern in {"*", name} or (pattern.startswith("*.") and name.endswith(pattern[1:]))


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
        (True, False)
    """
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
