"""A call that waits in the queue: its texts, their tokens, and what came of those that have run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from .types import TokenBatch, Vectors
from .workers import Workers

Tokenize = Callable[[], Iterable[TokenBatch]]


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """What came of one entry.

    Args:
        vectors: float32 (n, dimension).
        n_tokens: tokens that were encoded.
        n_cut: texts that were longer than the limit.
        queue_s: seconds it waited for its first run.
        encode_s: seconds of the runs it was part of.
    """

    vectors: Vectors
    n_tokens: int
    n_cut: int
    queue_s: float
    encode_s: float


@dataclass(slots=True, eq=False)
class Entry:
    """Texts that wait, are half done, or wait again for their next part."""

    tokenize: Tokenize
    future: asyncio.Future[Encoded]
    is_small: bool
    first_index: int = 0
    entered: float = field(default_factory=time.monotonic)
    queue_s: float = 0.0
    encode_s: float = 0.0
    reading: Iterator[TokenBatch] | None = None
    parts: list[TokenBatch] = field(default_factory=list)
    tokens: TokenBatch | None = None
    n_taken: int = 0
    blocks: list[Vectors] = field(default_factory=list)

    def read(self) -> bool:
        """Tokenize the next part; whether it was the last."""
        self.reading = self.reading or iter(self.tokenize())
        part = next(self.reading, None)
        if part is not None:
            self.parts.append(part)
            return False
        self.tokens = TokenBatch.join(self.parts)
        self.parts, self.reading = [], None
        return True

    def take(self, n_tokens: int) -> TokenBatch:
        """The next texts, as many as fit so many tokens, and one at least."""
        while self.tokens is None:
            self.read()
        if not self.blocks:
            self.queue_s = time.monotonic() - self.entered
        start, offsets = self.n_taken, self.tokens.offsets
        fitting = int(np.searchsorted(offsets, offsets[start] + n_tokens, side="right")) - 1
        self.n_taken = min(len(self.tokens), max(start + 1, fitting))
        return self.tokens.part(start, self.n_taken)

    @property
    def all_taken(self) -> bool:
        """Whether all texts have run, or run now."""
        return self.tokens is not None and self.n_taken == len(self.tokens)

    def encoded(self) -> Encoded:
        """The outcome, when all parts are done."""
        assert self.tokens is not None
        vectors = self.blocks[0] if len(self.blocks) == 1 else np.concatenate(self.blocks)
        return Encoded(vectors, len(self.tokens.ids), self.tokens.n_cut, self.queue_s, self.encode_s)


class Worker:
    """A thread that runs one function until there is nothing more to do."""

    def __init__(self) -> None:
        self.running = False
        self._workers = Workers(1)

    def start(self, work: Callable[[], None]) -> None:
        """Unless it runs already.

        Raises:
            InferenceError: the system gives no thread.
        """
        if not self.running:
            self._workers.begin(lambda work: work(), [work])
            self.running = True

    def stop(self) -> None:
        """When it has done what it does."""
        self._workers.stop()
