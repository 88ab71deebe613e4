"""What a server sends, bounded in time and in size whatever it does: silent, slow, endless, packed, redirected."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

from ..errors import EmbeddingError

WINDOW_S = 30.0
LEAST_BYTES = 1 << 18
"""A server that sends fewer bytes than this in `WINDOW_S` is given up: at that rate, 437 MB take half a day."""
ANSWER_BYTES = 1 << 26
"""Most bytes of an answer in JSON: a listing of 100,000 files has 30 MB."""
PAUSE_S = 1.0
"""Before asking again; doubled each time. What the server asks for counts, up to `_LONGEST_PAUSE_S`."""

_TRIES = 5
_LONGEST_PAUSE_S = 30.0
_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_REDIRECTS = 5
_BUSY = {408, 429, 500, 502, 503, 504}
_NEXT_PAGE = re.compile(r'<([^<>]+)>\s*;\s*rel="?next"?')
T = TypeVar("T")


class SourceFailure(EmbeddingError):
    """A mirror or the Hub did not give what was asked for, or gave what cannot be trusted."""


class NotThere(SourceFailure):
    """The server knows no such thing."""


class Interrupted(SourceFailure):
    """An answer was cut off, or the server is busy: asking again may help.

    Attributes:
        pause_s: how long the server asks to wait, if it does.
    """

    def __init__(self, message: str, *, pause_s: float | None = None) -> None:
        self.pause_s = pause_s
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Head:
    """The first part of an answer; `headers` by names in lower case."""

    status: int
    headers: Mapping[str, str]


Stream = Iterator[Head | bytes]
Open = Callable[[str, str, Mapping[str, str]], Stream]
"""Sends a request (method, address, headers) and gives the head of the answer, then what follows as it was sent, not
unpacked. Follows no redirect."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose body has not been read yet.

    Args:
        stated: headers of the address that was asked, before any redirect to another origin.
        headers: of the answer itself.
        start: the first byte's place in the file.
        body: the rest, as it comes.
    """

    stated: Mapping[str, str]
    headers: Mapping[str, str]
    start: int
    body: Iterator[bytes]

    @property
    def n_bytes(self) -> int | None:
        """How many bytes the body is said to have."""
        length = self.headers.get("content-length", "")
        return int(length) if length.isdecimal() else None


@contextmanager
def ask(
    open_stream: Open, url: str, headers: Mapping[str, str], *, method: str = "GET", start: int = 0
) -> Iterator[Answer]:
    """Ask for an address, following redirects; what is secret in the headers goes to its own origin only.

    Args:
        open_stream: how to.
        url: the address.
        headers: of the request.
        method: "GET", or "HEAD" for the answer without a body.
        start: bytes to leave out, if the server can.

    Raises:
        Interrupted: it was cut off, or is busy.
        SourceFailure: any other answer than the file.
    """
    origin = _origin(url)
    stated: dict[str, str] = {}
    plain = {name: value for name, value in headers.items() if name.lower() != "authorization"}
    wanted = {"accept-encoding": "identity", **({"range": f"bytes={start}-"} if start else {})}
    for _ in range(_MOST_REDIRECTS + 1):
        own = _origin(url) == origin
        with closing(_bounded(open_stream, method, url, {**(headers if own else plain), **wanted})) as stream:
            head = next(stream)
            assert isinstance(head, Head)
            stated |= head.headers if own else {}
            if head.status in _REDIRECTS:
                url = _target(url, head)
                continue
            _check(url, head)
            yield Answer(stated, head.headers, start if head.status == 206 else 0, _body(stream))
            return
    raise SourceFailure(f"{host(url)} redirects without end")


def ask_json(open_stream: Open, url: str, headers: Mapping[str, str]) -> tuple[Any, str | None]:
    """The value of an answer in JSON, and the address of the next page of it, if there is one.

    Raises:
        SourceFailure: no such answer.
    """

    def read() -> tuple[Any, str | None]:
        content = bytearray()
        with ask(open_stream, url, headers) as answer:
            for chunk in answer.body:
                content += chunk
                if len(content) > ANSWER_BYTES:
                    raise SourceFailure(f"{host(url)} answers {urlsplit(url).path} with more than {ANSWER_BYTES} bytes")
            return _parse(bytes(content), url), _next_page(answer, url)

    return persistently(read)


def persistently(once: Callable[[], T], *, progress: Callable[[], int] = lambda: 0) -> T:
    """Do something again while it is interrupted: a few times, or as long as it gets on.

    Args:
        once: what to do.
        progress: how far it has come; what has come by `LEAST_BYTES` since the last time counts as a new beginning.
    """
    tries, before = 0, progress()
    while True:
        try:
            return once()
        except Interrupted as error:
            if progress() >= before + LEAST_BYTES:
                tries, before = 0, progress()
            tries += 1
            if tries == _TRIES:
                raise
            pause_s = PAUSE_S * 2 ** (tries - 1)
            time.sleep(min(max(pause_s, error.pause_s or 0), _LONGEST_PAUSE_S))


def host(url: str) -> str:
    """Who is asked, for messages."""
    return urlsplit(url).netloc.rpartition("@")[2]


def without_secrets(url: str) -> str:
    """An address, for messages: without the user and password that may stand in it."""
    before, mark, after = url.partition("://")
    authority, slash, path = after.partition("/")
    return f"{before}{mark}{authority.rpartition('@')[2]}{slash}{path}"


def printable(text: str, limit: int = 200) -> str:
    """What a server says, fit for a message: one line, no control characters."""
    return "".join(character if character.isprintable() else "?" for character in text[:limit])


def _bounded(
    open_stream: Open, method: str, url: str, headers: Mapping[str, str]
) -> Generator[Head | bytes, None, None]:
    """The stream, read by a thread of its own: neither a name service nor a drip of bytes can hold the caller.

    A thread that is given up ends with its connection, at the latest when the server lets go; it touches no file.
    """
    parts: Queue[Head | bytes | BaseException | None] = Queue(maxsize=16)
    given_up = Event()

    def put(part: Head | bytes | BaseException | None) -> bool:
        while not given_up.is_set():
            with suppress(Full):
                parts.put(part, timeout=0.2)
                return True
        return False

    def read() -> None:
        try:
            stream = open_stream(method, url, headers)
            for part in stream:
                if not put(part):
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            put(error)

    Thread(target=read, name=f"reading from {host(url)}", daemon=True).start()
    try:
        yield from _in_time(parts, host(url))
    finally:
        given_up.set()


def _in_time(parts: Queue[Head | bytes | BaseException | None], name: str) -> Iterator[Head | bytes]:
    n_bytes, waited_s, answered = 0, 0.0, False
    while True:
        began = time.monotonic()
        try:
            part = parts.get(timeout=max(WINDOW_S - waited_s, 0.001))
        except Empty:
            what = f"sent {n_bytes} bytes" if answered else "did not answer"
            raise SourceFailure(f"{name} {what} in {WINDOW_S:.0f} s") from None
        waited_s += time.monotonic() - began
        if part is None:
            return
        if isinstance(part, Exception):
            if answered or _was_dropped(part):
                raise Interrupted(f"{name} broke off: {type(part).__name__}: {printable(str(part))}") from part
            raise part
        if isinstance(part, BaseException):
            raise part
        if isinstance(part, bytes):
            n_bytes += len(part)
            if n_bytes >= LEAST_BYTES:
                n_bytes, waited_s = 0, 0.0
        answered = True
        yield part


def _was_dropped(error: Exception) -> bool:
    """Whether a connection that the session had kept was closed meanwhile, as httpx and requests say it."""
    return type(error).__name__ in {"RemoteProtocolError", "ReadError"} or "Connection aborted" in str(error)


def _body(stream: Iterator[Head | bytes]) -> Iterator[bytes]:
    for part in stream:
        assert isinstance(part, bytes)
        yield part


def _check(url: str, head: Head) -> None:
    if head.status in _BUSY:
        seconds = head.headers.get("retry-after", "")
        pause_s = float(seconds) if seconds.isdecimal() and len(seconds) < 10 else None
        raise Interrupted(f"{host(url)} is busy: HTTP status {head.status}", pause_s=pause_s)
    if head.status not in (200, 206):
        raise (NotThere if head.status == 404 else SourceFailure)(_refusal(url, head))
    packed = head.headers.get("content-encoding", "identity")
    if packed != "identity":
        raise SourceFailure(f"{host(url)} sends what is packed as {printable(packed)}, though it was asked not to")


def _refusal(url: str, head: Head) -> str:
    code = head.headers.get("x-error-code", "")
    told = head.headers.get("x-error-message") or code
    said = f"HTTP status {head.status}{told and f' ({printable(told)})'} for {urlsplit(url).path}"
    if code == "GatedRepo":
        advice = "accept its terms on its page, and give a token of that account: token=, HF_TOKEN or `hf auth login`"
        return f"{said}; it is given only to who has agreed to its terms: {advice}"
    if head.status in (401, 403):
        return f"{said}; it may need a token that may read it: token=, HF_TOKEN or `hf auth login`"
    return said


def _target(url: str, head: Head) -> str:
    target = urljoin(url, head.headers.get("location", ""))
    schemes = ("https",) if urlsplit(url).scheme == "https" else ("https", "http")
    if urlsplit(target).scheme not in schemes or not urlsplit(target).hostname:
        raise SourceFailure(f"{host(url)} redirects to {printable(target)!r}, which is not followed")
    return target


def _next_page(answer: Answer, url: str) -> str | None:
    link = _NEXT_PAGE.search(answer.headers.get("link", ""))
    target = urljoin(url, link[1]) if link else None
    if target and _origin(target) != _origin(url):
        raise SourceFailure(f"{host(url)} continues its listing elsewhere: {printable(target)}")
    return target


def _parse(content: bytes, url: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SourceFailure(f"{host(url)} answers {urlsplit(url).path} with what is no JSON: {error}") from error


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
