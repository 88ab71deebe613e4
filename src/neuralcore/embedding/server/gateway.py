"""Around every request: who asks, whether there is room, and what came of it: counted and logged, without texts."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
import uuid
from collections.abc import Iterable
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .logs import log
from .refusals import Refusal, error_body, headers_of
from .replies import JsonResponse
from .routes import LIVE
from .service import RETRY_S, Service


class Gateway:
    """ASGI middleware, the outermost.

    Args:
        app: what it stands before.
        service: counts go there.
        paths: known ones; all others count as one, so that strangers cannot fill the metrics.
    """

    def __init__(self, app: ASGIApp, service: Service, paths: Iterable[str]) -> None:
        self._app, self._service, self._paths, self._callers = app, service, frozenset(paths), service.callers
        self._most = service.max_under_way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._service.under_way():
            await self._observe(scope, receive, send)

    async def _observe(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, request_id, status = time.perf_counter(), uuid.uuid4().hex, 500
        added = self._headers(request_id, Headers(scope=scope))

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        try:
            await self._answer(scope, receive, send_noted)
        except Exception as error:  # noqa: BLE001 - answered with 500 by Starlette; its message may quote a text
            log("failed", logging.ERROR, request=request_id, error=type(error).__name__, where=_place(error))
        seconds = time.perf_counter() - began
        path = scope["path"] if scope["path"] in self._paths else "other"
        self._service.metrics.observe_request(path, status, seconds)
        facts = scope.get("state", {}).get("facts", {})
        log("request", method=scope["method"], path=path, status=status, ms=round(seconds * 1000, 2),
            request=request_id, **facts)  # fmt: skip

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._check(scope)
            answer = self._permission(scope) or self._app
        except Refusal as refusal:
            answer = _refusing(scope, refusal)
        try:
            await answer(scope, receive, send)
        except asyncio.CancelledError:
            if not self._service.gave_up:
                raise
            left = Refusal(503, "the server left before this was done", retry_after_s=RETRY_S)
            await _refusing(scope, left)(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        self._callers.check(Headers(scope=scope), scope.get("http_version", "1.1"))
        if self._service.n_active > self._most and scope["path"] != LIVE:
            raise Refusal(503, f"more than {self._most} requests are under way", retry_after_s=RETRY_S)

    def _permission(self, scope: Scope) -> ASGIApp | None:
        """The answer to a browser's question whether a page may call."""
        if scope["method"] != "OPTIONS":
            return None
        headers = self._callers.permission(Headers(scope=scope))
        return None if headers is None else JsonResponse(b"", 204, headers=dict(headers))

    def _headers(self, request_id: str, given: Headers) -> list[tuple[bytes, bytes]]:
        added = {"x-request-id": request_id, **self._callers.sharing(given)}
        if self._service.draining:
            added["connection"] = "close"
        return [(name.encode(), value.encode("latin-1")) for name, value in added.items()]


def _refusing(scope: Scope, refusal: Refusal) -> ASGIApp:
    body = error_body(scope["path"], refusal)
    return JsonResponse(body, refusal.status, headers=dict(headers_of(refusal)))


def _place(error: BaseException) -> str:
    frame: Any = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}"
