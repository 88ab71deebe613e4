"""What a request may be, and how its body is read no further than that."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.requests import Request

from ..errors import InputError
from ..types import TokenBatch
from .refusals import Refusal

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

    def check_tokens(self, tokens: TokenBatch) -> None:
        """Refuse too many tokens.

        Raises:
            InputError: too many.
        """
        if len(tokens.ids) > self.max_tokens:
            reason = f"{len(tokens.ids)} tokens, the limit of a request is {self.max_tokens}"
            raise InputError(reason, limit=self.max_tokens)


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The body, unless it is or becomes too large.

    Raises:
        Refusal: 413 when it is too large, 408 when it does not arrive.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(_BODY_S):
            return await _read(request, max_bytes)
    except TimeoutError as error:
        raise Refusal(408, f"the body did not arrive within {_BODY_S:.0f} s") from error


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
