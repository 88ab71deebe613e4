"""A bounded queue in front of an engine: what waits runs together as soon as the engine is free.

There is no timer. While a run is under way, calls gather; when it ends, the next run takes them, oldest first, up to a
budget of tokens. So a lone call starts at once, many calls share their runs, and what is larger than a run is cut,
and others come between its parts.

Bulk does not hold up a lone call. Small calls are tokenized by the run that takes them; large ones beforehand, a few
texts at a time and in turn, by a thread of their own. While a run of large calls is under way, small ones run beside it
in a lane of one thread, and as long as small calls come, that thread is not the large ones'. What the lane cannot take
has half of each run.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Condition, RLock
from weakref import WeakSet

from .calls import Encoded, Entry, Tokenize, Worker
from .engine import EmbeddingEngine
from .errors import InferenceError, InputError, OutOfMemory, Overloaded
from .forks import reset_in_children
from .types import TokenBatch, Vectors

# Four of the encoder's micro-batches for each thread: all threads are busy, and those who wait soon have their turn.
_BUDGET_TOKENS_PER_THREAD = 1024
_GPU_BUDGET_TOKENS = 16_384  # untested
_SHORT_BUDGET_TOKENS = 256  # of a large call's part, where there is one thread only and small calls come
_RECENT_S = 2.0  # so long after a small call the next one is expected
_REST_S = 0.5  # without work, after which the memory of large calls is given back
_UNTOLD_S = 1.0  # after which who waits for the end looks by himself
_MEMORY = 0.1  # weight of the latest run in the mean time of an entry


_Taken = list[tuple[Entry, TokenBatch]]
_Waiting = OrderedDict[Entry, None]


class _Promise:
    """Somebody has begun to put several entries, and may put the rest when the queue is closed."""


class AdmissionQueue:
    """Feeds one engine from any number of coroutines.

    Args:
        engine: runs in threads of the queue's own; so does tokenization.
        max_waiting: entries that may wait.
        on_run: called in the thread of a run with its texts and tokens, before it starts.

    Attributes:
        failure: why the queue itself failed last; None when it has run something since.
    """

    def __init__(
        self, engine: EmbeddingEngine, *, max_waiting: int, on_run: Callable[[int, int], object] | None = None
    ) -> None:
        self.max_waiting = max_waiting
        self.failure: str | None = None
        self._engine, self._on_run = engine, on_run
        self._has_lane = engine.device == "cpu" and engine.threads > 1
        self._entry_s = 0.0
        self._closed = False
        self.forget_threads()
        reset_in_children(self)

    def forget_threads(self) -> None:
        """See `forks.HasThreads`: neither threads nor those who wait for them are in a child."""
        # Taken as a lock: a condition is Python, and an exception from a signal handler could leave it locked.
        self._lock = RLock()
        self._changed = Condition(self._lock)
        self._small, self._unread, self._large = _Waiting(), _Waiting(), _Waiting()
        self._open: set[Entry] = set()
        self._promises: WeakSet[_Promise] = WeakSet()  # one whose holder was interrupted is gone with him
        self._main, self._lane, self._reader = Worker(), Worker(), Worker()
        self._is_bulk = False  # whether the main thread runs large entries
        self._lane_is_busy = False  # whether a run is under way there; merely started, it will take what waits
        self._is_grown = False  # whether it has, and their memory is kept
        self._small_until = 0.0

    def __len__(self) -> int:
        return len(self._small) + len(self._unread) + len(self._large)

    def refuse_if_full(self) -> None:
        """Raise what `put` would raise now.

        Raises:
            Overloaded: as many entries wait as may.
            InferenceError: it was closed.
        """
        if self._closed:
            raise InferenceError(self._engine.device, "the engine was closed")
        if len(self) >= self.max_waiting:
            raise Overloaded(len(self), self.max_waiting, len(self) * self._entry_s)

    @contextmanager
    def promised(self) -> Iterator[None]:
        """What is put with `is_promised` is done, even if the queue is closed meanwhile.

        Raises:
            Overloaded, InferenceError: see `refuse_if_full`.
        """
        promise, promises, lock, changed = _Promise(), self._promises, self._lock, self._changed
        try:
            with lock:
                self.refuse_if_full()
                promises.add(promise)
            yield
        finally:
            with lock:
                promises.discard(promise)
                changed.notify_all()

    def put(
        self,
        tokenize: Tokenize,
        *,
        is_small: bool,
        first_index: int = 0,
        refusable: bool = True,
        is_promised: bool = False,
    ) -> asyncio.Future[Encoded]:
        """Let texts wait for the engine. Cancelling the future takes them out again.

        Args:
            tokenize: gives the tokens, some texts at a time; called in a thread of the queue.
            is_small: whether to tokenize them takes a millisecond at most.
            first_index: the number of the first text, for errors of the engine.
            refusable: whether a full queue refuses them.
            is_promised: whether a closed one takes them, see `promised`.

        Raises:
            Overloaded: the queue is full.
            InferenceError: it was closed, or the system gives no thread.
        """
        entry = Entry(tokenize, asyncio.get_running_loop().create_future(), is_small, first_index)
        with self._lock:
            if refusable or (self._closed and not is_promised):
                self.refuse_if_full()
            self._enter(entry)
        entry.future.add_done_callback(lambda future: self._forget(entry) if future.cancelled() else None)
        return entry.future

    def drain(self) -> None:
        """Take nothing more, and return when all that waited or was promised is done. Blocks."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()
            # In steps: who was interrupted by a signal may have changed something and woken nobody.
            while not self._changed.wait_for(lambda: not self._open and not self._promises, _UNTOLD_S):
                self._wake()
        for worker in (self._reader, self._lane, self._main):
            worker.stop()

    def _enter(self, entry: Entry) -> None:
        if entry.is_small:
            self._small_until = entry.entered + _RECENT_S
        # In this order, here and in `_drop`: what a signal handler's exception leaves half done is not open for ever.
        (self._small if entry.is_small else self._unread)[entry] = None
        self._open.add(entry)
        try:
            self._wake()
        except InferenceError as error:
            self._drop(entry)
            self.failure = error.reason
            raise

    def _wake(self) -> None:
        """Start whoever has something to do. With the lock held."""
        if self._unread:
            self._reader.start(lambda: self._guarded(self._reader, self._read))
        if self._small or self._large:
            self._main.start(lambda: self._guarded(self._main, self._work))
        if self._small and self._is_bulk and self._has_lane:
            self._lane.start(lambda: self._guarded(self._lane, self._work_beside))
        self._changed.notify_all()

    def _forget(self, entry: Entry) -> None:
        with self._lock:
            self._drop(entry)

    def _drop(self, entry: Entry) -> None:
        self._open.discard(entry)
        for waiting in (self._small, self._unread, self._large):
            waiting.pop(entry, None)
        self._changed.notify_all()

    def _guarded(self, worker: Worker, work: Callable[[], None]) -> None:
        """What ends a thread against all expectation fails whoever waits; the next call starts it again."""
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - nobody else would see it
            with self._lock:
                worker.running = self._is_bulk = self._lane_is_busy = False
                self.failure = type(error).__name__  # its message may quote a text
                failed = list(self._open)
            for entry in failed:
                self._settle(entry, error)

    def _read(self) -> None:
        """Tokenize large entries, each in turn a few texts."""
        while entry := self._next(self._unread, self._reader):
            try:
                whole = entry.read()
            except BaseException as error:  # noqa: BLE001 - a panic in Rust is one; it belongs to who waits for this entry
                self._settle(entry, error)
                continue
            self._put_back(entry, self._large if whole else self._unread)

    def _work(self) -> None:
        """Run what waits until nothing does."""
        while self._begin():
            self._is_grown |= self._is_bulk
            n_threads = self._threads_now()
            if taken := self._gather(n_threads):
                self._run(taken, n_threads)

    def _begin(self) -> bool:
        self._rest()
        with self._lock:
            self._main.running = bool(self._small or self._large)
            self._is_bulk = bool(self._large)
            self._wake()
            return self._main.running

    def _rest(self) -> None:
        """Some time after large calls, give their memory back; small ones that come meanwhile have the lane."""
        with self._lock:
            if not self._is_grown or self._changed.wait_for(self._has_work, _REST_S):
                return
            self._is_grown = False
        with suppress(Exception):  # who needs the memory is told so, then
            self._engine.give_back()

    def _has_work(self) -> bool:
        return bool(self._small or self._unread or self._large or self._closed)

    def _threads_now(self) -> int:
        reserved = self._is_bulk and self._has_lane and time.monotonic() < self._small_until
        return self._engine.threads - reserved

    def _gather(self, n_threads: int) -> _Taken:
        """The oldest entries, until their tokens fill the budget; of the last one, as much as fits."""
        room = _BUDGET_TOKENS_PER_THREAD * n_threads if self._engine.device == "cpu" else _GPU_BUDGET_TOKENS
        if not self._is_bulk:
            return self._take_all(self._small, room)
        taken: _Taken = []
        if not self._has_lane or (self._lane_is_busy and self._small):
            taken = self._take_all(self._small, room // 2)
        if n_threads == 1 and not self._has_lane and time.monotonic() < self._small_until:
            room = _SHORT_BUDGET_TOKENS
        return taken + self._take_all(self._large, room - sum(len(part.ids) for _, part in taken))

    def _work_beside(self) -> None:
        """Run small entries while large ones run."""
        while self._is_bulk and (taken := self._take_all(self._small, _BUDGET_TOKENS_PER_THREAD)):
            self._lane_is_busy = True
            self._run(taken, 1)
            self._lane_is_busy = False
        with self._lock:
            self._lane.running = False
            self._wake()

    def _take_all(self, waiting: _Waiting, room: int) -> _Taken:
        taken: _Taken = []
        while room > 0 and (entry := self._next(waiting)):
            try:
                part = entry.take(room)
            except BaseException as error:  # noqa: BLE001 - as above
                self._settle(entry, error)
                continue
            taken.append((entry, part))
            room = room - len(part.ids) if entry.all_taken else 0
        return taken

    def _next(self, waiting: _Waiting, worker: Worker | None = None) -> Entry | None:
        """The oldest; where there is none, the worker that asks has its rest."""
        with self._lock:
            while waiting:
                entry, _ = waiting.popitem(last=False)
                if not entry.future.cancelled():
                    return entry
                self._open.discard(entry)
            if worker:
                worker.running = False
        return None

    def _put_back(self, entry: Entry, waiting: _Waiting) -> None:
        with self._lock:
            if entry in self._open:  # not cancelled meanwhile
                waiting[entry] = None
                self._wake()

    def _run(self, taken: _Taken, n_threads: int) -> None:
        """Run parts together; where that fails, each alone, so that it fails for its cause only."""
        taken = [pair for pair in taken if not pair[0].future.cancelled()]
        if not taken:
            return
        try:
            vectors, encode_s = self._encode(taken, n_threads)
        except BaseException as error:  # noqa: BLE001 - as above
            if len(taken) > 1:
                for pair in taken:
                    self._run([pair], n_threads)
                return
            entry, part = taken[0]
            if isinstance(error, InputError):  # which knows the texts of this run only
                error = error.moved(entry.first_index + entry.n_taken - len(part))
            self._settle(entry, error)
            return
        self._entry_s += _MEMORY * (encode_s / len(taken) - self._entry_s)
        self.failure = None
        row = 0
        for entry, part in taken:
            self._deliver(entry, vectors[row : row + len(part)], encode_s)
            row += len(part)

    def _encode(self, taken: _Taken, n_threads: int) -> tuple[Vectors, float]:
        tokens = TokenBatch.join([part for _, part in taken])
        if self._on_run:
            self._on_run(len(tokens), len(tokens.ids))
        began = time.monotonic()
        threads = None if n_threads == self._engine.threads else n_threads
        return self._engine.encode(tokens, threads=threads), time.monotonic() - began

    def _deliver(self, entry: Entry, vectors: Vectors, encode_s: float) -> None:
        try:
            entry.blocks.append(vectors.copy())  # a view would keep its neighbours in memory
            entry.encode_s += encode_s
            if entry.all_taken:
                self._settle(entry, entry.encoded())
            else:
                self._put_back(
                    entry, self._small if entry.is_small else self._large
                )  # behind those that came meanwhile
        except BaseException as error:  # noqa: BLE001 - as above
            self._settle(entry, error)

    def _settle(self, entry: Entry, outcome: Encoded | BaseException) -> None:
        """Wake who waits, in their own loop."""
        if isinstance(outcome, BaseException):
            outcome = self._told(outcome, entry)
        with suppress(RuntimeError):  # the loop was closed: nobody waits
            entry.future.get_loop().call_soon_threadsafe(_resolve, entry.future, outcome)
        self._forget(entry)

    def _told(self, error: BaseException, entry: Entry) -> Exception:
        """An error that a future can hold and a caller can catch."""
        if isinstance(error, MemoryError):
            n_texts = len(entry.tokens) if entry.tokens else 1
            told: Exception = OutOfMemory.outside_of_runs(n_texts, str(error) or "of a call that waited")
        elif isinstance(error, Exception) and not isinstance(error, StopIteration):
            return error
        else:
            told = InferenceError(self._engine.device, f"{type(error).__name__}: {error}")
        told.__cause__ = error
        return told


def _resolve(future: asyncio.Future[Encoded], outcome: Encoded | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
