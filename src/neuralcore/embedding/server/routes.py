"""The routes: what is asked for in either dialect goes one way."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..calls import Encoded
from ..errors import EmbeddingError
from ..types import Vectors
from .limits import check_content_type, read_body
from .page import page_routes
from .refusals import CLIENT_GONE, Refusal, headers_of, openai_error, status_code, tei_error
from .replies import JsonResponse, openai_body, tei_body, timings
from .requests import EmbeddingRequest, parse_openai, parse_tei
from .service import Service

T = TypeVar("T")
_MOST_ON_THE_LOOP = 100_000  # bytes of JSON; some ms
LIVE = "/health/live"
Handler = Callable[[Request], Awaitable[Response]]
ErrorBody = Callable[[Refusal | EmbeddingError], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a kind of client asks, and what it reads."""

    parse: Callable[[bytes], EmbeddingRequest]
    write: Callable[[Service, EmbeddingRequest, Vectors, Encoded], Awaitable[bytes]]
    error: ErrorBody


async def _write_openai(service: Service, request: EmbeddingRequest, vectors: Vectors, encoded: Encoded) -> bytes:
    return await openai_body(vectors, encoded, request.model or service.model, as_base64=request.base64)


async def _write_tei(service: Service, request: EmbeddingRequest, vectors: Vectors, encoded: Encoded) -> bytes:
    return await tei_body(vectors)


OPENAI = Dialect(parse_openai, _write_openai, openai_error)
TEI = Dialect(parse_tei, _write_tei, tei_error)


def make_routes(service: Service) -> list[BaseRoute]:
    """All routes of a service."""
    return [
        Route("/v1/embeddings", _embed_in(OPENAI, service), methods=["POST"]),
        Route("/v1/models", _models(service)),
        Route("/embed", _embed_in(TEI, service), methods=["POST"]),
        Route("/", _embed_in(TEI, service), methods=["POST"]),  # clients of the Hub, told the address alone
        Route("/info", _info(service)),
        Route("/health", _health(service)),
        Route("/health/ready", _health(service)),
        Route(LIVE, _live),
        Route("/metrics", _metrics(service)),
        *page_routes(),
    ]


def _embed_in(dialect: Dialect, service: Service) -> Handler:
    async def embed(request: Request) -> Response:
        _check_key(request, service.keys)
        check_content_type(request.headers)
        service.ready_engine().refuse_if_full()  # before the body is read
        parsed = await _parse(dialect, await read_body(request, service.limits.max_body_bytes))
        vectors, encoded = await _unless_gone(request, service.embed(parsed))
        request.state.facts = {"texts": len(vectors), "tokens": encoded.n_tokens, "truncated": encoded.n_cut}
        body = await dialect.write(service, parsed, vectors, encoded)
        return JsonResponse(body, headers=dict(timings(encoded)))

    return _answering(embed, dialect.error)


async def _parse(dialect: Dialect, body: bytes) -> EmbeddingRequest:
    """Large bodies in a thread: to look at each of a million numbers takes its time."""
    if len(body) <= _MOST_ON_THE_LOOP:
        return dialect.parse(body)
    return await asyncio.to_thread(dialect.parse, body)


def _models(service: Service) -> Handler:
    async def models(request: Request) -> Response:
        _check_key(request, service.keys)
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "neuralcore"} for name in service.names]
        return JsonResponse({"object": "list", "data": data})

    return _answering(models, openai_error)


def _info(service: Service) -> Handler:
    async def info(request: Request) -> Response:
        _check_key(request, service.keys)
        return JsonResponse(service.describe())

    return _answering(info, tei_error)


def _health(service: Service) -> Handler:
    async def health(request: Request) -> Response:
        service.check_health()
        return JsonResponse({"status": "ready"})

    return _answering(health, tei_error)


async def _live(request: Request) -> Response:
    """The event loop has its turn: all that restarting the process could mend."""
    return JsonResponse({"status": "alive"})


def _metrics(service: Service) -> Handler:
    from .metrics import CONTENT_TYPE

    async def metrics(request: Request) -> Response:
        return Response(service.metrics.render(), headers={"content-type": CONTENT_TYPE})

    return metrics


def _answering(handler: Handler, error_body: ErrorBody) -> Handler:
    """The handler, its errors answered in its dialect."""

    @wraps(handler)
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except (Refusal, EmbeddingError) as error:
            return JsonResponse(error_body(error), status_code(error), headers=dict(headers_of(error)))

    return answer


def _check_key(request: Request, keys: Sequence[str]) -> None:
    """Compare with every key in constant time, so that an answer's time tells nothing. Headers are Latin-1."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    found = [hmac.compare_digest(given.strip().encode("latin-1"), key.encode()) for key in keys]
    if keys and not (any(found) and scheme.lower() == "bearer"):
        raise Refusal(401, "a valid API key is needed: Authorization: Bearer KEY")


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The work's result; the work is dropped when the client leaves.

    Raises:
        Refusal: 499, which nobody reads.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Refusal(CLIENT_GONE, "the client has left")
    finally:
        task.cancel()
        gone.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
