"""Around every request: counted, timed and logged, without the users' texts."""

from __future__ import annotations

import logging
import time
import traceback
import uuid
from collections.abc import Iterable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .logs import log
from .service import Service


class Gateway:
    """ASGI middleware, the outermost.

    Args:
        app: what it stands before.
        service: counts go there.
        paths: known ones; all others count as one, so that strangers cannot fill the metrics.
    """

    def __init__(self, app: ASGIApp, service: Service, paths: Iterable[str]) -> None:
        self._app, self._service, self._paths = app, service, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._service.n_active += 1
        try:
            await self._observe(scope, receive, send)
        finally:
            self._service.n_active -= 1

    async def _observe(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, request_id, status = time.perf_counter(), uuid.uuid4().hex, 500

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *self._headers(request_id)]
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except Exception as error:  # noqa: BLE001 - answered with 500 by Starlette; its message may quote a text
            log("failed", logging.ERROR, request=request_id, error=type(error).__name__, where=_place(error))
        seconds = time.perf_counter() - began
        path = scope["path"] if scope["path"] in self._paths else "other"
        self._service.metrics.observe_request(path, status, seconds)
        facts = scope.get("state", {}).get("facts", {})
        log("request", method=scope["method"], path=path, status=status, ms=round(seconds * 1000, 2),
            request=request_id, **facts)  # fmt: skip

    def _headers(self, request_id: str) -> list[tuple[bytes, bytes]]:
        leaving = [(b"connection", b"close")] if self._service.draining else []
        return [(b"x-request-id", request_id.encode()), *leaving]


def _place(error: BaseException) -> str:
    frame: Any = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}"
