"""Threads that work side by side for whoever calls, and survive what a signal handler raises in a caller.

Callers and threads meet in `SimpleQueue`s, lists and deques only. Each step of those is C: an exception from a signal
handler, which Python runs in the main thread, comes before or after one, never within. The conditions of `threading`
and `concurrent.futures` are Python: an exception that comes when one has just been taken leaves it locked, and
everybody waits for ever.
"""

from __future__ import annotations

import atexit
from _thread import start_new_thread
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Condition, Lock
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from .errors import InferenceError
from .forks import reset_in_children

Item = TypeVar("Item")
Result = TypeVar("Result")


class Call(Generic[Item, Result]):
    """One function to call with several items, by as many threads as come.

    Args:
        function: called with one item at a time.
        items: begun from the first.
    """

    def __init__(self, function: Callable[[Item], Result], items: Iterable[Item]) -> None:
        self._function = function
        self._waiting = deque(items)
        self._begun: list[None] = []
        self._ended: list[None] = []
        self._results: list[Result] = []
        self._errors: list[BaseException] = []
        self._news: SimpleQueue[None] = SimpleQueue()

    def finish(self) -> list[Result]:
        """Wait for all items; for the caller only.

        Returns:
            The results, in the order they came.

        Raises:
            BaseException: what the function raised first; items that had not begun are left out, the others have ended.
        """
        try:
            self._wait()
        except BaseException:
            self.drop()
            self._wait()
            raise
        if self._errors:
            raise self._errors[0]
        return self._results

    def drop(self) -> None:
        """Leave out the items that have not begun."""
        self._waiting.clear()

    def help(self) -> None:
        """Take items until none waits; for the threads."""
        while self._take_one():
            pass

    def _take_one(self) -> bool:
        self._begun.append(None)  # first: who waits must see every item as waiting or as begun
        try:
            item = self._waiting.popleft()
        except IndexError:
            return False
        else:
            self._run(item)
            return True
        finally:
            self._ended.append(None)
            self._news.put(None)

    def _run(self, item: Item) -> None:
        try:
            self._results.append(self._function(item))
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller
            self._errors.append(error)
            self.drop()

    def _wait(self) -> None:
        # What is counted, not the news, says whether all have ended: news may be lost with an exception.
        while self._waiting or len(self._ended) < len(self._begun):
            self._news.get()


class Workers:
    """Threads for calls; they start with the first one. Thread-safe, and begun anew in a forked child.

    Args:
        n_threads: how many.
    """

    def __init__(self, n_threads: int) -> None:
        self._n_threads = n_threads
        self._is_stopped = False
        self.forget_threads()
        reset_in_children(self)
        _live.add(self)

    def forget_threads(self) -> None:
        """See `forks.HasThreads`."""
        self._invitations: SimpleQueue[Call[Any, Any] | None] = SimpleQueue()
        self._threads: list[int] = []
        self._gone: list[None] = []
        self._news: SimpleQueue[None] = SimpleQueue()

    def begin(
        self, function: Callable[[Item], Result], items: Iterable[Item], n_threads: int | None = None
    ) -> Call[Item, Result]:
        """Begin to call a function with several items side by side; `Call.finish` waits for them.

        Args:
            function: called with one item at a time.
            items: begun from the first.
            n_threads: by so many threads at most; None: by all.

        Raises:
            InferenceError: they were stopped, or cannot be started.
        """
        call = Call(function, items)
        try:
            self._start_missing()
            for _ in range(n_threads or self._n_threads):
                self._invitations.put(call)
            if self._is_stopped:  # the threads may have left before the invitations came
                raise InferenceError("cpu", "the engine was closed")
        except BaseException:
            call.drop()
            raise
        return call

    def run(
        self, function: Callable[[Item], Result], items: Iterable[Item], n_threads: int | None = None
    ) -> list[Result]:
        """As `begin` and `finish`."""
        return self.begin(function, items, n_threads).finish()

    def stop(self) -> None:
        """Wait for the calls that have begun, and end the threads. Twice is fine; not from one of the threads."""
        self._is_stopped = True
        self._invitations.put(None)
        while len(self._gone) < len(self._threads):
            self._news.get()
        self._news.put(None)  # for another one who stops them

    def __del__(self) -> None:
        self._invitations.put(None)

    def _start_missing(self) -> None:
        while len(self._threads) < self._n_threads:
            try:
                self._threads.append(start_new_thread(_work, (self._invitations, self._gone, self._news)))
            except RuntimeError as error:
                reason = f"{self._n_threads} threads cannot be started ({error}); pass threads=1"
                raise InferenceError("cpu", reason) from error


def _work(invitations: SimpleQueue[Call[Any, Any] | None], gone: list[None], news: SimpleQueue[None]) -> None:
    """What a thread does. It knows no `Workers`, so that those nobody else knows are collected, and end it."""
    while _help_next(invitations):
        pass
    invitations.put(None)  # for the other threads
    gone.append(None)
    news.put(None)


def _help_next(invitations: SimpleQueue[Call[Any, Any] | None]) -> bool:
    call = invitations.get()
    if call:
        call.help()
    return call is not None


_live: WeakSet[Workers] = WeakSet()


@atexit.register
def _stop_all() -> None:
    """Before the interpreter goes: a thread that comes back from a library into none ends the process badly."""
    for workers in list(_live):
        workers.stop()


class Room:
    """Bytes that all runs in flight may use together. For threads of `Workers` only, where no signal handler runs.

    Args:
        n_bytes: how many.
    """

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        self.forget_threads()
        reset_in_children(self)

    def forget_threads(self) -> None:
        """See `forks.HasThreads`."""
        self._turn, self._changed, self._free_bytes = Lock(), Condition(), self.n_bytes

    @contextmanager
    def hold(self, n_bytes: int) -> Iterator[None]:
        """Wait until there is room, and hold it meanwhile. At most `Room.n_bytes`.

        Who came first is let in first, so that much is not kept waiting by little for ever.
        """
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._free_bytes >= n_bytes)
            self._free_bytes -= n_bytes
        try:
            yield
        finally:
            with self._changed:
                self._free_bytes += n_bytes
                self._changed.notify()
