"""A bounded queue in front of an engine: what waits runs together as soon as the engine is free.

There is no timer. While a run is under way, calls gather; when it ends, the next run takes them, oldest first, up to a
budget of tokens. So a lone call starts at once, many calls share their runs, and what is larger than a run is cut,
and others come between its parts.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock

import numpy as np

from .engine import EmbeddingEngine
from .errors import InferenceError, Overloaded
from .types import TokenBatch, Vectors

# Four of the encoder's micro-batches for each thread: all threads are busy, and those who wait soon have their turn.
_BUDGET_TOKENS_PER_THREAD = 1024
_GPU_BUDGET_TOKENS = 16_384  # untested
_MEMORY = 0.1  # weight of the latest run in the mean time of an entry


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
class _Entry:
    """Texts that wait, are half done, or wait again for their next part."""

    tokenize: Callable[[], TokenBatch]
    future: asyncio.Future[Encoded]
    entered: float = field(default_factory=time.monotonic)
    queue_s: float = 0.0
    encode_s: float = 0.0
    tokens: TokenBatch | None = None
    n_taken: int = 0
    blocks: list[Vectors] = field(default_factory=list)

    def take(self, n_tokens: int) -> TokenBatch:
        """The next texts, as many as fit so many tokens, and one at least."""
        if self.tokens is None:
            self.queue_s = time.monotonic() - self.entered
            self.tokens = self.tokenize()
        start, offsets = self.n_taken, self.tokens.offsets
        fitting = int(np.searchsorted(offsets, offsets[start] + n_tokens, side="right")) - 1
        self.n_taken = min(len(self.tokens), max(start + 1, fitting))
        return self.tokens.part(start, self.n_taken)

    @property
    def all_taken(self) -> bool:
        return self.tokens is not None and self.n_taken == len(self.tokens)

    def encoded(self) -> Encoded:
        """The outcome, when all parts are done."""
        tokens = self.tokens or self.tokenize()
        return Encoded(np.concatenate(self.blocks), len(tokens.ids), tokens.n_cut, self.queue_s, self.encode_s)


_Taken = list[tuple[_Entry, TokenBatch]]


class AdmissionQueue:
    """Feeds one engine from any number of coroutines.

    Args:
        engine: runs in one worker thread; so does tokenization.
        max_waiting: entries that may wait.
        on_run: called in the worker thread with the texts and tokens of each run, before it starts.
    """

    def __init__(
        self, engine: EmbeddingEngine, *, max_waiting: int, on_run: Callable[[int, int], object] | None = None
    ) -> None:
        self.max_waiting = max_waiting
        self._engine, self._on_run = engine, on_run
        self._budget = _BUDGET_TOKENS_PER_THREAD * engine.threads if engine.device == "cpu" else _GPU_BUDGET_TOKENS
        self._waiting: OrderedDict[_Entry, None] = OrderedDict()
        self._lock, self._running, self._closed = Lock(), False, False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="neuralcore-queue")
        self._entry_s = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def refuse_if_full(self) -> None:
        """Raise what `put` would raise now.

        Raises:
            Overloaded: as many entries wait as may.
            InferenceError: it was closed.
        """
        if self._closed:
            raise InferenceError(self._engine.device, "the engine was closed")
        if len(self._waiting) >= self.max_waiting:
            retry_after_s = len(self._waiting) * self._entry_s
            raise Overloaded(len(self._waiting), self.max_waiting, retry_after_s)

    def put(self, tokenize: Callable[[], TokenBatch], *, refusable: bool = True) -> asyncio.Future[Encoded]:
        """Let texts wait for the engine. Cancelling the future takes them out again.

        Args:
            tokenize: gives the tokens; called in the worker thread when their turn has come.
            refusable: whether a full queue refuses them.

        Raises:
            Overloaded: the queue is full.
            InferenceError: it was closed.
        """
        entry = _Entry(tokenize, asyncio.get_running_loop().create_future())
        with self._lock:
            if refusable or self._closed:
                self.refuse_if_full()
            self._waiting[entry] = None
            if not self._running:
                self._running = True
                self._worker.submit(self._work)
        entry.future.add_done_callback(lambda future: self._forget(entry) if future.cancelled() else None)
        return entry.future

    def drain(self) -> None:
        """Take nothing more, and return when all that waited is done. Blocks."""
        with self._lock:
            self._closed = True
        self._worker.shutdown()

    def _forget(self, entry: _Entry) -> None:
        with self._lock:
            self._waiting.pop(entry, None)

    def _work(self) -> None:
        """Run what waits until nothing does."""
        while not self._rest():
            if taken := self._gather():
                self._run(taken)

    def _rest(self) -> bool:
        with self._lock:
            self._running = bool(self._waiting)
            return not self._running

    def _gather(self) -> _Taken:
        """The oldest entries, until their tokens fill the budget; of the last one, as much as fits."""
        taken: _Taken = []
        room = self._budget
        while room > 0 and (entry := self._take()):
            try:
                part = entry.take(room)
            except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to whoever waits for this entry
                _settle(entry, error)
                continue
            taken.append((entry, part))
            room = room - len(part.ids) if entry.all_taken else 0
        return taken

    def _take(self) -> _Entry | None:
        with self._lock:
            while self._waiting:
                entry, _ = self._waiting.popitem(last=False)
                if not entry.future.cancelled():
                    return entry
        return None

    def _put_back(self, entry: _Entry) -> None:
        with self._lock:
            self._waiting[entry] = None

    def _run(self, taken: _Taken) -> None:
        """Run parts together; where that fails, each alone, so that it fails for its cause only."""
        try:
            self._run_together([pair for pair in taken if not pair[0].future.cancelled()])
        except Exception as error:  # noqa: BLE001 - as above
            if len(taken) > 1:
                for pair in taken:
                    self._run([pair])
                return
            _settle(taken[0][0], error)

    def _run_together(self, taken: _Taken) -> None:
        if not taken:
            return
        tokens = TokenBatch.join([part for _, part in taken])
        if self._on_run:
            self._on_run(len(tokens), len(tokens.ids))
        began = time.monotonic()
        vectors = self._engine.encode(tokens)
        encode_s = time.monotonic() - began
        self._entry_s += _MEMORY * (encode_s / len(taken) - self._entry_s)
        row = 0
        for entry, part in taken:
            entry.blocks.append(vectors[row : row + len(part)].copy())  # a view would keep its neighbours in memory
            entry.encode_s += encode_s
            row += len(part)
            if entry.all_taken:
                _settle(entry, entry.encoded())
            else:
                self._put_back(entry)  # behind those that came meanwhile


def _settle(entry: _Entry, outcome: Encoded | Exception) -> None:
    """Wake who waits, in their own loop."""
    with suppress(RuntimeError):  # the loop was closed: nobody waits
        entry.future.get_loop().call_soon_threadsafe(_resolve, entry.future, outcome)


def _resolve(future: asyncio.Future[Encoded], outcome: Encoded | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
