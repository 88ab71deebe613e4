"""The process: listen, load, serve, and leave without losing what was accepted."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from threading import Thread
from types import FrameType

import uvicorn

from ..engine import EmbeddingEngine
from . import callers
from .app import make_app
from .logs import log, logging_as_json
from .service import Service

Load = Callable[[], EmbeddingEngine]

_KEEP_ALIVE_S = 65  # longer than clients and proxies keep idle connections, so that it is they who close them
_LAST_ANSWERS_S = 10  # for answers on their way to slow readers, after all work is done


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


def run(service: Service, load: Load, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; answers 503 until the model is loaded.

    Raises:
        EmbeddingError: the model cannot be loaded.
    """
    config = uvicorn.Config(
        make_app(service), log_config=None, access_log=False, lifespan="off", server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S, timeout_graceful_shutdown=_LAST_ANSWERS_S,
    )  # fmt: skip
    server = _Server(config, service, load)
    with logging_as_json():
        server.run(sockets=[listener])
    if server.failure:
        raise server.failure


class _Server(uvicorn.Server):
    """uvicorn, which loads the model while it answers 503, and goes on listening while it finishes its work."""

    def __init__(self, config: uvicorn.Config, service: Service, load: Load) -> None:
        super().__init__(config)
        self._service, self._load = service, load
        self.failure: Exception | None = None
        self._signals: list[tuple[str, int]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        log("listening", model=self._service.model)
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

    async def on_tick(self, counter: int) -> bool:
        while self._signals:
            name, n_active = self._signals.pop(0)
            log("draining", signal=name, active=n_active)
        finished = self._service.draining and self._service.n_active == 0
        return await super().on_tick(counter) or finished

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self._service.engine:
            await self._service.engine.close()
        log("stopped")
