"""The process: listen, load, serve, and leave without losing what was accepted."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Thread
from types import FrameType

import uvicorn

from ..aio import AsyncEmbeddingEngine
from ..engine import EmbeddingEngine
from . import callers
from .app import make_app
from .connection import Connection
from .logs import log, logging_as_json
from .room import Patience, Room, most_connections
from .service import Service

Load = Callable[[], EmbeddingEngine]

_KEEP_ALIVE_S = 65  # longer than clients and proxies keep idle connections, so that it is they who close them
_LAST_ANSWERS_S = 5  # for connections to be closed by their clients, after all work is done
_ENGINE_S = 10  # for the run that is under way
_STUCK = 1  # exit code


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        OSError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can reach it."""
    return callers.is_loopback(listener.getsockname()[0])


def run(service: Service, load: Load, listener: socket.socket, *, drain_s: float) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; answers 503 until the model is loaded.

    Args:
        service: what is served.
        load: gives the engine; called in a thread.
        listener: is listened to.
        drain_s: seconds for accepted requests to be finished after the signal; those that are not get 503.

    Raises:
        EmbeddingError: the model cannot be loaded.
    """
    server = Server(service, load, drain_s=drain_s)
    with logging_as_json():
        server.run(sockets=[listener])
    if server.failure:
        raise server.failure


class Server(uvicorn.Server):
    """uvicorn, which loads the model while it answers 503, and goes on listening while it finishes its work."""

    def __init__(self, service: Service, load: Load, *, drain_s: float, patience: Patience | None = None) -> None:
        service.max_connections = most_connections(2 * service.max_under_way)
        self._room = Room(service.max_connections, service.metrics, patience or Patience())
        super().__init__(_configure(service, self._room))
        self._service, self._load = service, load
        self._drain_s, self._drained_by = drain_s, float("inf")
        self.failure: Exception | None = None
        self._signals: list[tuple[str, int]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and load the model in a thread."""
        await super().startup(sockets)
        log("listening", model=self._service.model, connections=self._service.max_connections)
        # A daemon, so that SIGTERM need not wait for a download.
        Thread(target=self._start, args=(asyncio.get_running_loop(),), daemon=True, name="neuralcore-load").start()

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            engine = self._load()
            engine.warmup()
        except Exception as error:  # noqa: BLE001 - `run` raises it; in this thread nobody would see it
            self.failure, self.should_exit = error, True
        else:
            loop.call_soon_threadsafe(self._service.start, engine)
            log("ready", model=self._service.model, precision=str(engine.precision), threads=engine.threads)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """New requests get 503, accepted ones are finished. A second Ctrl-C leaves at once."""
        if self._service.draining and sig == signal.SIGINT:
            self.should_exit = self.force_exit = True
        self._service.draining = True
        # Not logged here: the signal may have come while this very thread held the lock of the log's queue.
        self._signals.append((signal.Signals(sig).name, self._service.n_active))

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGHUP, too: of a terminal that was closed. Where it is ignored (nohup), it stays so."""
        hangup = getattr(signal, "SIGHUP", None)
        in_main = threading.current_thread() is threading.main_thread()
        with super().capture_signals():
            if hangup is None or not in_main or signal.getsignal(hangup) is signal.SIG_IGN:
                yield
                return
            before = signal.signal(hangup, self.handle_exit)
            try:
                yield
            finally:
                signal.signal(hangup, before)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        now = asyncio.get_running_loop().time()
        self._room.look()
        if counter % 10 == 0:
            self._room.sweep(now)
        while self._signals:
            name, n_active = self._signals.pop(0)
            log("draining", signal=name, active=n_active)
            self._drained_by = min(self._drained_by, now + self._drain_s)
        if now >= self._drained_by and not self._service.gave_up:
            log("drain-timeout", logging.WARNING, active=self._service.n_active)
            self._service.give_up()
        return await super().on_tick(counter) or self._has_drained()

    def _has_drained(self) -> bool:
        service = self._service
        return service.draining and service.n_active == 0 and (service.gave_up or self._room.all_is_sent)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, let the last answers go, and free the model."""
        self._service.give_up()  # nothing is under way, unless it was a second Ctrl-C
        await super().shutdown(sockets)
        if self._service.engine:
            await self._close(self._service.engine)
        log("stopped")

    async def _close(self, engine: AsyncEmbeddingEngine) -> None:
        """A run that does not end cannot be stopped, and Python would wait for its thread."""
        try:
            async with asyncio.timeout(_ENGINE_S):
                await engine.close()
        except TimeoutError:
            log("stuck", logging.ERROR, reason=f"the engine did not stop within {_ENGINE_S} s")
            await asyncio.sleep(0.5)  # for the log to be written
            os._exit(_STUCK)


def _configure(service: Service, room: Room) -> uvicorn.Config:
    return uvicorn.Config(
        make_app(service), log_config=None, access_log=False, lifespan="off", server_header=False,
        http=partial(Connection, room=room), ws="none",  # type: ignore[arg-type]  # uvicorn calls it, no more
        timeout_keep_alive=_KEEP_ALIVE_S, timeout_graceful_shutdown=_LAST_ANSWERS_S,
    )  # fmt: skip
