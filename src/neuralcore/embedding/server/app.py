"""The ASGI application."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from .gateway import Gateway
from .refusals import Refusal, error_body
from .replies import JsonResponse
from .routes import make_routes
from .service import Service


def make_app(service: Service) -> ASGIApp:
    """The application of a service; any ASGI server can run it once `service.start(engine)` was called.

    Example:
        >>> service = Service(model="all-MiniLM-L6-v2")  # doctest: +SKIP
        >>> service.start(EmbeddingEngine.from_pretrained("all-MiniLM-L6-v2"))  # doctest: +SKIP
        >>> uvicorn.run(make_app(service))  # doctest: +SKIP
    """
    routes = make_routes(service)
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refuse, Exception: _fail})
    app.router.redirect_slashes = False  # it would send clients, and their keys, wherever Host says
    return Gateway(app, service, (route.path for route in routes if isinstance(route, Route)))


async def _refuse(request: Request, error: Exception) -> Response:
    """No such route, or another method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    message = {404: "no such path", 405: "this path takes another method"}.get(status, "the request failed")
    return JsonResponse(
        error_body(request.scope["path"], Refusal(status, message)), status, headers=dict(headers or {})
    )


async def _fail(request: Request, error: Exception) -> Response:
    """A defect of ours: what happened is in the log, under the request's id."""
    return JsonResponse(error_body(request.scope["path"], Refusal(500, "internal error; see the server's log")), 500)
