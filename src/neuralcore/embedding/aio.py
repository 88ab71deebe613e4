"""The engine for asyncio: the same vectors, and the event loop is never blocked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from functools import partial
from os import PathLike
from types import TracebackType
from typing import Any, Self

from .admission import AdmissionQueue
from .arguments import Truncation, check_text, check_texts
from .calls import Encoded
from .config import ModelConfig
from .engine import EmbeddingEngine
from .errors import InputError
from .providers import Device, GpuOptions
from .stream import WINDOW_CHARACTERS, collect, windows
from .types import Backend, EmbeddingType, Precision, PrecisionName, TokenBatch, Vectors

MAX_WAITING = 4096
"""Calls that may wait by default: memory for their texts and futures, a few MB."""
_WINDOW_TEXTS = 256  # of a batch or stream that wait together; in memory at once, not in one run
_SMALL_TEXTS, _SMALL_CHARACTERS = 16, 4_096
_WINDOWS_AHEAD = 2  # one runs, one waits


class AsyncEmbeddingEngine:
    """An `EmbeddingEngine` behind a bounded queue: concurrent calls share runs, the newest wait when there are many.

    There is no timer: a call starts at once when the engine is free; those that come meanwhile run together next, small
    ones beside large ones. A cancelled call gives its place back. Tokenization and encoding have threads of their own.

    Args:
        engine: is closed with this object. Synchronous calls beside it are fine.
        max_waiting: calls that may wait; more raise `Overloaded`.
        on_run: called in the worker thread with the numbers of texts and tokens of each run.

    Example:
        >>> async with await AsyncEmbeddingEngine.from_pretrained("all-MiniLM-L6-v2") as engine:  # doctest: +SKIP
        ...     vectors = await asyncio.gather(*map(engine.embed, texts))
    """

    def __init__(
        self,
        engine: EmbeddingEngine,
        *,
        max_waiting: int = MAX_WAITING,
        on_run: Callable[[int, int], object] | None = None,
    ) -> None:
        if max_waiting < 1:
            raise InputError(f"max_waiting must be at least 1, not {max_waiting}", limit=1)
        self._engine = engine
        self._queue = AdmissionQueue(engine, max_waiting=max_waiting, on_run=on_run)

    @classmethod
    async def from_pretrained(
        cls,
        model: str | PathLike[str],
        *,
        precision: PrecisionName | Precision = "fp32",
        backend: Backend = "auto",
        device: Device = "cpu",
        threads: int | None = None,
        truncation: Truncation = "truncate",
        max_tokens: int | None = None,
        dimensions: int | None = None,
        max_memory_bytes: int | None = None,
        gpu: GpuOptions | None = None,
        revision: str | None = None,
        cache_dir: str | PathLike[str] | None = None,
        endpoint: str | None = None,
        offline: bool | None = None,
        sources: Sequence[str] | None = None,
        token: str | None = None,
        verify_files: bool = False,
        max_waiting: int = MAX_WAITING,
    ) -> Self:
        """Load a model in a thread; arguments (but `max_waiting`) and errors: see `EmbeddingEngine.from_pretrained`."""
        options: dict[str, Any] = {
            name: value for name, value in locals().items() if name not in {"cls", "model", "max_waiting"}
        }
        return cls(
            await asyncio.to_thread(partial(EmbeddingEngine.from_pretrained, model, **options)), max_waiting=max_waiting
        )

    @property
    def engine(self) -> EmbeddingEngine:
        """The engine behind the queue."""
        return self._engine

    @property
    def config(self) -> ModelConfig:
        """The model's configuration."""
        return self._engine.config

    @property
    def dimension(self) -> int:
        """Components of a vector."""
        return self._engine.dimension

    @property
    def n_waiting(self) -> int:
        """Calls that wait for the engine now."""
        return len(self._queue)

    async def embed(self, text: str, *, embedding_type: str | None = None, prompt: str | None = None) -> Vectors:
        """Embed one text; see `EmbeddingEngine.embed`.

        Returns:
            float32 (dimension,).

        Raises:
            Overloaded: the queue is full.

        Example:
            >>> (await engine.embed("one text")).shape  # doctest: +SKIP
            (384,)
        """
        check_text(text)
        vector: Vectors = (await self._put([text], self.config.prefix(embedding_type, prompt))).vectors[0]
        return vector

    async def embed_query(self, text: str) -> Vectors:
        """Embed one query: as `embed`, with the prefix that asymmetric models put before queries.

        Example:
            >>> (await engine.embed_query("what is ONNX?")).shape  # doctest: +SKIP
            (384,)
        """
        return await self.embed(text, embedding_type=EmbeddingType.QUERY)

    async def embed_batch(
        self,
        texts: Iterable[str] | AsyncIterable[str],
        *,
        embedding_type: str | None = None,
        prompt: str | None = None,
    ) -> Vectors:
        """Embed several texts; see `EmbeddingEngine.embed_batch`. Other calls run between its parts.

        Args:
            texts: as in `embed_stream`.
            embedding_type: as in `embed`.
            prompt: as in `embed`.

        Returns:
            float32 (n, dimension), in input order.

        Raises:
            Overloaded: the queue is full.

        Example:
            >>> (await engine.embed_batch(["one text", "another"])).shape  # doctest: +SKIP
            (2, 384)
        """
        _check_texts(texts)
        prefix = self.config.prefix(embedding_type, prompt)
        with self._queue.promised():
            blocks = [block async for block in self._stream(texts, prefix, is_promised=True)]
        return collect(blocks, sum(map(len, blocks)), self.dimension)

    def embed_stream(
        self,
        texts: Iterable[str] | AsyncIterable[str],
        *,
        embedding_type: str | None = None,
        prompt: str | None = None,
    ) -> AsyncIterator[Vectors]:
        """Embed any number of texts in bounded memory; see `EmbeddingEngine.embed_stream`.

        Args:
            texts: an asynchronous iterable; or a plain one, which is read in threads unless it is a list or tuple, as
                it may block.
            embedding_type: as in `embed`.
            prompt: as in `embed`.

        Yields:
            Blocks of float32 (m, dimension), in input order.

        Raises:
            Overloaded: the queue is full at the beginning. A stream that has begun is not refused.
            InferenceError: the engine was closed before all texts were read; blocks already yielded are valid.

        Example:
            >>> async for block in engine.embed_stream(open("lines.txt")):  # doctest: +SKIP
            ...     index.add(block)
        """
        _check_texts(texts)
        return self._stream(texts, self.config.prefix(embedding_type, prompt))

    async def encode(self, tokenize: Callable[[], Iterable[TokenBatch]], *, is_small: bool = False) -> Encoded:
        """Vectors of what `tokenize` gives, with counts and times: what servers need.

        Args:
            tokenize: gives the tokens, some texts at a time; called in a thread of the queue when its turn has come.
                What it raises is raised here.
            is_small: whether to tokenize them takes a millisecond at most; see `is_small`.

        Raises:
            Overloaded: the queue is full.

        Example:
            >>> encoded = await engine.encode(lambda: engine.engine.tokenize_parts(["one text"]))  # doctest: +SKIP
            >>> encoded.n_tokens  # doctest: +SKIP
            4
        """
        return await self._queue.put(tokenize, is_small=is_small)

    @property
    def failure(self) -> str | None:
        """Why the queue itself failed last (no thread could be started, say); None when it has run something since."""
        return self._queue.failure

    def refuse_if_full(self) -> None:
        """Raise `Overloaded` if a call would be refused now."""
        self._queue.refuse_if_full()

    async def close(self) -> None:
        """Refuse new calls, finish those that were made, and free the model. Closing twice is fine.

        A stream has what it asked for so far, and no more.
        """
        await asyncio.to_thread(self._queue.drain)
        self._engine.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"Async{self._engine!r}"

    def _put(
        self,
        texts: list[str],
        prefix: str,
        *,
        first_index: int = 0,
        refusable: bool = True,
        is_promised: bool = False,
    ) -> asyncio.Future[Encoded]:
        tokenize = partial(self._engine.tokenize_parts, texts, prompt=prefix, first_index=first_index)
        return self._queue.put(
            tokenize,
            is_small=is_small(texts),
            first_index=first_index,
            refusable=refusable and not is_promised,
            is_promised=is_promised,
        )

    async def _stream(
        self, texts: Iterable[str] | AsyncIterable[str], prefix: str, *, is_promised: bool = False
    ) -> AsyncIterator[Vectors]:
        pending: deque[asyncio.Future[Encoded]] = deque()
        first = 0
        try:
            async for window in _windows(texts):
                pending.append(
                    self._put(window, prefix, first_index=first, refusable=first == 0, is_promised=is_promised)
                )
                first += len(window)
                if len(pending) == _WINDOWS_AHEAD:
                    yield (await pending.popleft()).vectors
            while pending:
                yield (await pending.popleft()).vectors
        finally:
            for future in pending:
                future.cancel()


def is_small(texts: Sequence[str] | Sequence[Sequence[int]]) -> bool:
    """Whether to tokenize texts takes a millisecond at most, or to look at ids: such calls run beside large ones."""
    return (
        len(texts) <= _SMALL_TEXTS and sum(len(each) for each in texts if hasattr(each, "__len__")) <= _SMALL_CHARACTERS
    )


def _check_texts(texts: Iterable[str] | AsyncIterable[str]) -> None:
    if not isinstance(texts, AsyncIterable):
        check_texts(texts)


async def _windows(texts: Iterable[str] | AsyncIterable[str]) -> AsyncIterator[list[str]]:
    if isinstance(texts, AsyncIterable):
        async for window in _async_windows(texts):
            yield window
        return
    cut: Iterator[list[str]] = windows(texts, _WINDOW_TEXTS)
    in_memory = isinstance(texts, (list, tuple))
    while window := next(cut, []) if in_memory else await asyncio.to_thread(next, cut, []):
        yield window


async def _async_windows(texts: AsyncIterable[str]) -> AsyncIterator[list[str]]:
    window: list[str] = []
    n_characters = 0
    async for text in texts:
        window.append(text)
        n_characters += len(text) if isinstance(text, str) else 0
        if len(window) >= _WINDOW_TEXTS or n_characters >= WINDOW_CHARACTERS:
            yield window
            window, n_characters = [], 0
    if window:
        yield window
