"""JSON answers, vectors in them as numbers or base64."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from starlette.responses import Response

from ..calls import Encoded
from ..types import Vectors

# Numbers of a vector take 45 ns each to write. What is larger than this is written in a thread, row by row, so that the
# event loop has its turn between rows.
_MOST_ON_THE_LOOP = 50_000


class JsonResponse(Response):
    """JSON by orjson, which writes NumPy's float32 with the fewest digits that give the same number."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Bytes are JSON already."""
        return content if isinstance(content, bytes) else orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


async def openai_body(vectors: Vectors, encoded: Encoded, model: str, *, as_base64: bool) -> bytes:
    """The body of an answer of `/v1/embeddings`."""
    usage = {"prompt_tokens": encoded.n_tokens, "total_tokens": encoded.n_tokens}
    write = _write_base64 if as_base64 else _write_numbers
    head = b'{"object":"list","model":%b,"usage":%b,"data":' % (orjson.dumps(model), orjson.dumps(usage))
    return head + await _written(vectors, lambda: _openai_rows(write(row) for row in vectors)) + b"}"


async def tei_body(vectors: Vectors) -> bytes:
    """The body of an answer of `/embed`: a list of lists."""
    return await _written(vectors, lambda: _listed(map(_write_numbers, vectors)))


def timings(encoded: Encoded) -> Mapping[str, str]:
    """Where the time went, for browsers and logs; and how many texts were cut."""
    parts = (("queue", encoded.queue_s), ("encode", encoded.encode_s))
    told = ", ".join(f"{name};dur={seconds * 1000:.2f}" for name, seconds in parts)
    return {"server-timing": told, "x-truncated-texts": str(encoded.n_cut)}


async def _written(vectors: Vectors, write: Any) -> bytes:
    body: bytes = write() if vectors.size <= _MOST_ON_THE_LOOP else await asyncio.to_thread(write)
    return body


def _openai_rows(rows: Iterable[bytes]) -> bytes:
    row = b'{"object":"embedding","index":%d,"embedding":%b}'
    return _listed(row % (index, values) for index, values in enumerate(rows))


def _listed(rows: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(rows) + b"]"


def _write_numbers(row: Vectors) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)


def _write_base64(row: Vectors) -> bytes:
    return b'"' + base64.b64encode(row.astype("<f4").tobytes()) + b'"'
