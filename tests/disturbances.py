"""What signals and forks do to who computes: calls from threads at once, exceptions at any moment, ends in a child."""

import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from random import Random
from typing import Any

import numpy as np

from tests.children import run_in_child

Function = Callable[[], Any]


class Interruption(Exception):
    """What the signal handler raises."""


def call_together(functions: Sequence[Function], expected: Sequence[Any]) -> str:
    """Call functions from as many threads at the same moment: each must give what it should.

    Returns:
        "same"; or the number of the first that gave something else, and what it raised.
    """
    barrier, told = threading.Barrier(len(functions)), ["no answer"] * len(functions)

    def call(number: int) -> None:
        barrier.wait()
        try:
            told[number] = "same" if np.array_equal(functions[number](), expected[number]) else "other vectors"
        except Exception as error:  # noqa: BLE001 - told
            told[number] = repr(error)

    threads = [threading.Thread(target=call, args=(number,), daemon=True) for number in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return next((f"thread {number}: {word}" for number, word in enumerate(told) if word != "same"), "same")


def interrupt(function: Function, random: Random, n_interruptions: int, *, longest_s: float = 3e-3) -> None:
    """Call a function over and over, and let a signal handler raise in it at random moments.

    Raises:
        AssertionError: something else came out of it.
    """

    def raise_interruption(*_: object) -> None:
        raise Interruption

    before = signal.signal(signal.SIGALRM, raise_interruption)
    gc.disable()  # an exception that comes in a callback of the collector is printed, and gone
    for _ in range(n_interruptions):
        with suppress(Interruption):  # also one that comes between the lines
            _call_until_interrupted(function, random.uniform(1e-5, longest_s))
    gc.enable()
    signal.signal(signal.SIGALRM, before)


def _call_until_interrupted(function: Function, after_s: float) -> None:
    try:
        signal.setitimer(signal.ITIMER_REAL, after_s)
        for _ in range(1000):  # bounded: an exception that is raised in a __del__ is printed, and gone
            function()
    except Interruption:
        raise
    except BaseException as error:
        raise AssertionError(f"an interruption came out as {error!r}") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def kept_busy(function: Function, n_threads: int = 2) -> Iterator[None]:
    """Threads that call a function over and over meanwhile."""
    is_over = threading.Event()

    def work() -> None:
        while not is_over.is_set():
            function()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


@contextmanager
def eager_switching() -> Iterator[None]:
    """Threads take turns as often as Python lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def check_in_child(job: Function, seconds: float = 30) -> None:
    """Run a job in a forked child: it must say "same".

    Raises:
        AssertionError: it said something else, raised, crashed or did not end.
    """
    told = run_in_child(job, seconds)
    assert told == "same", told
