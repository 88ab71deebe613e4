"""Why a request is not answered with vectors, in the words of OpenAI and of TEI.

What the engine raises has its status in `errors.STATUS`; what is wrong with the HTTP request itself is a `Refusal`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..errors import EmbeddingError, Overloaded, UnsupportedModel, status_of

CLIENT_GONE = 499
"""What nginx logs when the client has closed the connection; nobody reads it."""


_HEADERS: Mapping[int, Mapping[str, str]] = {401: {"www-authenticate": "Bearer"}}


class Refusal(Exception):
    """A request that cannot be taken as it is.

    Attributes:
        status: the HTTP status.
        param: the field of the body that is to blame.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        self.status, self.param, self.retry_after_s = status, param, retry_after_s
        super().__init__(message)


def status_code(error: Refusal | EmbeddingError) -> int:
    """The HTTP status of an error."""
    return error.status if isinstance(error, Refusal) else status_of(error).http


def headers_of(error: Refusal | EmbeddingError) -> Mapping[str, str]:
    """Headers that go with an error."""
    if isinstance(error, Overloaded):
        return {"retry-after": str(max(1, math.ceil(error.retry_after_s)))}
    if isinstance(error, Refusal) and error.retry_after_s is not None:
        return {"retry-after": str(error.retry_after_s)}
    return _HEADERS.get(status_code(error), {})


def error_body(path: str, error: Refusal | EmbeddingError) -> dict[str, Any]:
    """In the dialect of a path."""
    return tei_error(error) if path in {"/", "/embed", "/info"} or path.startswith("/health") else openai_error(error)


def openai_error(error: Refusal | EmbeddingError) -> dict[str, Any]:
    """As OpenAI says it: `{"error": {"message", "type", "param", "code"}}`."""
    status = status_code(error)
    known = {401: "authentication_error", 429: "rate_limit_error", 424: "server_error"}
    kind = known.get(status, "invalid_request_error" if status < 500 else "server_error")
    code = {401: "invalid_api_key", 429: "overloaded"}.get(status)
    if isinstance(error, UnsupportedModel):
        code = "model_not_found"
    param = error.param if isinstance(error, Refusal) else None
    return {"error": {"message": str(error), "type": kind, "param": param, "code": code}}


def tei_error(error: Refusal | EmbeddingError) -> dict[str, Any]:
    """As TEI says it: `{"error", "error_type"}`."""
    known = {429: "overloaded", 503: "unhealthy", 424: "backend"}
    status = status_code(error)
    return {"error": str(error), "error_type": known.get(status, "validation" if status < 500 else "backend")}
