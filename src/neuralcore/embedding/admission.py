"""A bounded queue in front of an engine: what waits runs together as soon as the engine is free.

There is no timer. While a run is under way, calls gather; when it ends, the next run takes them, oldest first, up to a
budget of tokens. So a lone call starts at once, and many calls share their runs.
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
        queue_s: seconds it waited for the engine.
        encode_s: seconds of the run it was part of.
    """

    vectors: Vectors
    n_tokens: int
    n_cut: int
    queue_s: float
    encode_s: float


@dataclass(slots=True, eq=False)
class _Entry:
    tokenize: Callable[[], TokenBatch]
    future: asyncio.Future[Encoded]
    entered: float = field(default_factory=time.monotonic)
    taken: float = 0.0


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
        """The oldest entries, tokenized, until their tokens fill the budget."""
        taken: _Taken = []
        n_tokens = 0
        while n_tokens < self._budget and (entry := self._take()):
            try:
                tokens = entry.tokenize()
            except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to whoever waits for this entry
                _settle(entry, error)
            else:
                taken.append((entry, tokens))
                n_tokens += len(tokens.ids)
        return taken

    def _take(self) -> _Entry | None:
        with self._lock:
            entry = self._waiting.popitem(last=False)[0] if self._waiting else None
        if entry:
            entry.taken = time.monotonic()
        return entry

    def _run(self, taken: _Taken) -> None:
        """Run entries together; where that fails, each alone, so that it fails for its cause only."""
        try:
            self._run_together([pair for pair in taken if not pair[0].future.cancelled()])
        except Exception as error:  # noqa: BLE001 - as above
            if len(taken) == 1:
                _settle(taken[0][0], error)
                return
            for pair in taken:
                self._run([pair])

    def _run_together(self, taken: _Taken) -> None:
        if not taken:
            return
        tokens = TokenBatch.join([tokens for _, tokens in taken])
        if self._on_run:
            self._on_run(len(tokens), len(tokens.ids))
        began = time.monotonic()
        vectors = self._engine.encode(tokens)
        encode_s = time.monotonic() - began
        self._entry_s += _MEMORY * (encode_s / len(taken) - self._entry_s)
        row = 0
        for entry, own in taken:
            mine = vectors[row : row + len(own)].copy()  # a view would keep its neighbours in memory
            row += len(own)
            _settle(entry, Encoded(mine, len(own.ids), own.n_cut, entry.taken - entry.entered, encode_s))


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
