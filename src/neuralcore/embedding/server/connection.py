"""One client's connection: what it may send before it has said what it wants, how long that may take, how it ends."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from enum import Enum, auto
from typing import Any, cast

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from .logs import log
from .refusals import Refusal, openai_error
from .room import Room

_MOST_HEAD_BYTES = 65_536
_PIECE_BYTES = 16_384  # given to the parser at a time
_CLOSE = (b"connection", b"close")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class _Phase(Enum):
    IDLE = auto()  # nothing has come of the next request
    HEAD = auto()  # its headers are on their way
    BUSY = auto()  # a request is under way; the application has its own limits
    ENDING = auto()  # the last word is said; what still comes is thrown away


class Connection(HttpToolsProtocol):
    """uvicorn's connection, with bounds.

    - Whatever is no body (headers, what comes behind a chunk's length or the last chunk) ends within 64 KB, or is 431.
    - Requests that come before the one at hand is answered stay bytes, not objects.
    - A connection is closed when it is idle, its headers do not come or its answer is not taken; see `Patience`.
    - Who is answered while still sending is listened to for a while: a reset would take the answer away.
    - Who sends no more, but listens, is answered; who does neither is noticed by an interim answer.
    """

    def __init__(self, *, room: Room, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._room, self._phase, self._since = room, _Phase.IDLE, self.loop.time()
        self._wire: asyncio.Transport
        self._unanswered: deque[RequestResponseCycle] = deque()
        self._held = bytearray()
        self._n_unread = self._n_unsent = 0  # bytes since the parser last came to something; bytes not yet sent
        self._moved = self._in_head = self._in_message = self._deaf = self._half_closed = False
        self._keep_alive = True

    # What the event loop calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        self._wire = transport
        super().connection_made(cast(asyncio.Transport, _Wire(transport, self)))
        self._room.enter(self)
        self._enter(_Phase.IDLE)

    def connection_lost(self, exc: Exception | None) -> None:
        """End: all requests that are not answered, not only the last one, learn of it."""
        self._room.leave(self)
        for cycle in self._unanswered:
            _hang_up(cycle)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, a piece at a time, and no further than to the next request that has to wait."""
        if self._phase is _Phase.ENDING or self._deaf:
            return
        self._held += data
        self._feed()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Go on when there is still something to answer."""
        if self._phase is _Phase.ENDING or self._half_closed:
            return self._half_closed
        self._half_closed = True
        self._refuse_half()
        if not self._unanswered:
            return None
        self._room.watch(self)
        first = self._unanswered[0]
        if first.scope["http_version"] == "1.1" and not first.response_started:
            self._wire.write(_CONTINUE)  # to it, a machine whose client has left altogether replies with a reset
        return True

    # What the parser calls

    def on_message_begin(self) -> None:
        """A request begins."""
        self._moved = self._in_head = self._in_message = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; those behind a body are nobody's business."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A request is known."""
        self._moved, self._in_head = True, False
        if self.parser.should_upgrade():
            return
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > _MOST_HEAD_BYTES:
            self._refuse_head()
        if not self._deaf:
            super().on_headers_complete()
            self._unanswered.append(self.cycle)
            self._keep_alive, self.cycle.keep_alive = self.cycle.keep_alive, False
            self.cycle.default_headers = [*self.cycle.default_headers, _CLOSE]
            self._enter(_Phase.BUSY)

    def on_chunk_header(self) -> None:
        """The length of a chunk."""
        self._moved = True

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        self._moved = True
        if not self._deaf:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        if self.parser.should_upgrade():
            return
        self._moved, self._in_message = True, False
        if not self._deaf:
            # Whoever is answered earlier than this has more to say, and says it in vain.
            self.cycle.keep_alive, self.cycle.default_headers = self._keep_alive, self.server_state.default_headers
            super().on_message_complete()

    # What uvicorn calls

    def on_response_complete(self) -> None:
        """An answer is written; the next request may come."""
        self._unanswered.popleft()
        super().on_response_complete()
        if self._phase is not _Phase.ENDING:
            self._feed()
            if not self._unanswered:
                self._rest()

    def shutdown(self) -> None:
        """The server leaves."""
        if self._phase is _Phase.BUSY:
            self._keep_alive = False
            super().shutdown()
        else:
            self._wire.close()

    # What the room calls

    @property
    def n_unsent(self) -> int:
        """Bytes of answers that this machine's network has not taken yet."""
        return int(self._wire.get_write_buffer_size())

    def abort(self) -> None:
        """End without another word."""
        self._wire.abort()

    def drop_if_reset(self) -> None:
        """End if the client's machine says that nobody listens."""
        if self._wire.is_closing():
            return
        if self._wire.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.abort()

    def expire(self, now: float) -> None:
        """End if it takes too long; while a client takes its answer, however slowly, it does not."""
        n_unsent, before = self.n_unsent, self._n_unsent
        self._n_unsent = n_unsent
        if n_unsent < before:
            self._since = now
        if now - self._since < self._allowed_s():
            return
        if self._wire.is_closing():
            self.abort()
        elif self._phase is _Phase.HEAD:
            self._refuse(Refusal(408, f"the headers did not arrive within {self._room.patience.head_s:g} s"))
        elif self._phase is _Phase.IDLE and not n_unsent:
            self._wire.close()
        else:
            self.abort()

    def _allowed_s(self) -> float:
        patience = self._room.patience
        limits = {_Phase.IDLE: patience.idle_s, _Phase.HEAD: patience.head_s, _Phase.ENDING: patience.ending_s}
        return limits.get(self._phase, float("inf"))

    # What it does

    def _enter(self, phase: _Phase) -> None:
        self._phase, self._since = phase, self.loop.time()
        if phase is _Phase.BUSY:
            self._room.work(self)
        else:
            self._room.wait(self)

    def _rest(self) -> None:
        if self._half_closed:
            self._wire.close()
        else:
            self._enter(_Phase.HEAD if self._in_message else _Phase.IDLE)

    def _feed(self) -> None:
        while self._held and not self.pipeline:
            piece = bytes(self._held[:_PIECE_BYTES])
            del self._held[:_PIECE_BYTES]
            self._read(piece)
        if self._held:
            self.flow.pause_reading()
        else:
            self._refuse_half()

    def _read(self, piece: bytes) -> None:
        if self._phase is _Phase.IDLE:
            self._enter(_Phase.HEAD)
        self._moved = False
        self._unset_keepalive_if_required()
        self._parse(piece)
        self._n_unread = 0 if self._moved else self._n_unread + len(piece)
        if self._n_unread > _MOST_HEAD_BYTES:
            self._refuse_head()

    def _parse(self, piece: bytes) -> None:
        while piece and not self._deaf:
            try:
                self.parser.feed_data(piece)
                return
            except httptools.HttpParserUpgrade as offer:
                piece = self._decline(piece[offer.args[0] :])
            except httptools.HttpParserError:
                self._refuse(Refusal(400, "this is not HTTP"))

    def _decline(self, rest: bytes) -> bytes:
        """What a new parser must get when the client has offered to speak another protocol.

        Java's client offers HTTP/2 with every first request. The parser takes what follows, the body too, for the
        other protocol: the new one gets the request again, without the offer.
        """
        if self.parser.get_method() == b"CONNECT":
            self._refuse(Refusal(400, "this is not a proxy"))
            return b""
        head = self._head_without_offer()
        self.parser = _make_parser(self)
        return head + rest

    def _head_without_offer(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] not in {b"upgrade", b"connection"}]
        if any(name == b"connection" and b"close" in value.lower() for name, value in self.headers):
            lines.append(b"connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _refuse_head(self) -> None:
        self._refuse(Refusal(431, f"the headers are larger than {_MOST_HEAD_BYTES} bytes"))

    def _refuse_half(self) -> None:
        """Of a client that sends no more, the request that is not whole."""
        if self._half_closed and self._in_message and not self._held:
            self._refuse(Refusal(400, "the request is not whole"))

    def _refuse(self, refusal: Refusal) -> None:
        """Listen no more. Requests that were whole are answered first; then the connection ends."""
        if self._deaf or self._phase is _Phase.ENDING:
            return
        self._deaf = True
        self._held.clear()
        broken = self._unanswered[-1] if self._unanswered and self._unanswered[-1].more_body else None
        if broken:
            self._drop(broken)
        if self._unanswered:
            self._unanswered[-1].keep_alive = False
            return
        if not broken or not broken.response_started:
            self._wire.write(_answer(refusal))
        if not broken:  # the gateway counts the others
            self._room.metrics.observe_request("other", refusal.status, 0)
            log("refused", status=refusal.status, reason=str(refusal))
        self.end()

    def _drop(self, cycle: RequestResponseCycle) -> None:
        self._unanswered.pop()
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()
        _hang_up(cycle)

    @property
    def is_ending(self) -> bool:
        """Whether nothing more is written."""
        return self._phase is _Phase.ENDING

    def end(self) -> None:
        """Close, but not in the face of a client that still sends."""
        if self._phase is _Phase.ENDING or self._wire.is_closing():
            return
        if self._half_closed or not (self._deaf or self._in_message or self._held):
            self._wire.close()
            return
        self._enter(_Phase.ENDING)
        self._held.clear()
        self.flow.resume_reading()
        self._wire.write_eof()


def _make_parser(connection: Connection) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(connection)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's; to answer before what is wrong
    return parser


class _Wire:
    """The transport as uvicorn sees it: how it is closed is the connection's affair."""

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        self._transport, self.close = transport, connection.end
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._connection.is_ending or self._transport.is_closing()


def _hang_up(cycle: RequestResponseCycle) -> None:
    cycle.disconnected = True
    cycle.message_event.set()


def _answer(refusal: Refusal) -> bytes:
    body = orjson.dumps(openai_error(refusal))
    head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
    return STATUS_LINE[refusal.status] + head + body
