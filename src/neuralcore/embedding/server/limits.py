"""What a request may be, and how its body is read no further than that."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from ..errors import InputError
from .refusals import CLIENT_GONE, Refusal

_JSON_OR_UNSAID = {
    "application/json", "text/json", "", "application/x-www-form-urlencoded", "text/plain", "application/octet-stream"
}  # fmt: skip
_BODY_S = 30.0  # for a body to arrive; slower clients hold memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of a request and of the queue.

    Args:
        max_body_bytes: of a request; more is 413, before it is read.
        max_texts: of a request; more is 422. OpenAI's own limit is 2,048.
        max_tokens: of a request, after texts were cut; more is 422. OpenAI's own limit is 300,000.
        max_waiting: requests that may wait for the engine; more are 429.
    """

    max_body_bytes: int = 4_000_000
    max_texts: int = 2048
    max_tokens: int = 300_000
    max_waiting: int = 512

    def check_texts(self, n_texts: int) -> None:
        """Refuse too many texts.

        Raises:
            InputError: too many.
        """
        if n_texts > self.max_texts:
            raise InputError(f"{n_texts} texts, the limit of a request is {self.max_texts}", limit=self.max_texts)

    def check_tokens(self, n_tokens: int, *, all_counted: bool) -> None:
        """Refuse too many tokens.

        Raises:
            InputError: too many.
        """
        if n_tokens > self.max_tokens:
            told = f"{n_tokens} tokens" if all_counted else f"{n_tokens} tokens before all texts were read"
            raise InputError(f"{told}, the limit of a request is {self.max_tokens}", limit=self.max_tokens)


def check_content_type(headers: Headers) -> None:
    """Refuse a body that says it is something else than JSON in UTF-8.

    Clients that do not say what they send are taken at what they mean: `curl -d` calls all a form, others plain text or
    bytes. That pages of strangers could do the same is why `callers.py` looks at their origin.

    Raises:
        Refusal: 415.
    """
    kind, *parameters = [part.strip().lower() for part in headers.get("content-type", "").split(";")]
    charset = next((each[8:].strip('"') for each in parameters if each.startswith("charset=")), "utf-8")
    if kind not in _JSON_OR_UNSAID and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Refusal(415, f"send JSON, content-type: application/json, not {kind[:100]!r}")
    if charset not in {"utf-8", "utf8", "us-ascii", "ascii"}:
        raise Refusal(415, f"send JSON in UTF-8, not {charset[:100]!r}")
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise Refusal(415, f"send the body as it is, without content-encoding: {coding[:100]}")


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The body, unless it is or becomes too large.

    Raises:
        Refusal: 413 when it is too large, 408 when it does not arrive, 499 when the client leaves before its end.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(_BODY_S):
            return await _read(request, max_bytes)
    except TimeoutError as error:
        raise Refusal(408, f"the body did not arrive within {_BODY_S:.0f} s") from error
    except ClientDisconnect as error:
        raise Refusal(CLIENT_GONE, "the client has left") from error


async def _read(request: Request, max_bytes: int) -> bytes:
    parts, n_bytes = [], 0
    async for part in request.stream():
        n_bytes += len(part)
        if n_bytes > max_bytes:
            raise _too_large(max_bytes)
        parts.append(part)
    return b"".join(parts)


def _too_large(max_bytes: int) -> Refusal:
    return Refusal(413, f"the body is larger than {max_bytes} bytes; send fewer texts at a time")
