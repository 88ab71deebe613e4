"""Threads side by side: every item once, the first error, and an end to everything."""

import gc
import subprocess
import sys
import threading
import weakref

import pytest

from neuralcore.embedding.errors import InferenceError
from neuralcore.embedding.workers import Workers


@pytest.fixture
def workers():
    made = Workers(3)
    yield made
    made.stop()


@pytest.mark.parametrize("n_items", [0, 1, 2, 3, 100])
def test_every_item_is_taken_once(n_items, workers):
    assert sorted(workers.run(lambda item: item * 2, range(n_items))) == [2 * item for item in range(n_items)]


def test_items_run_side_by_side(workers):
    barrier = threading.Barrier(3, timeout=30)
    workers.run(lambda _: barrier.wait(), range(3))


def test_first_error_is_raised_and_what_had_not_begun_is_left_out():
    done, workers = [], Workers(1)

    def run(item):
        if item == 2:
            raise KeyError(item)
        done.append(item)

    with pytest.raises(KeyError, match="2"):
        workers.run(run, range(10))
    assert done == [0, 1]
    assert workers.run(str, [7]) == ["7"]
    workers.stop()


@pytest.mark.parametrize("error", [IndexError, KeyboardInterrupt, SystemExit, BaseException])
def test_any_exception_comes_to_the_caller_and_ends_no_thread(error, workers):
    def fail(item):
        raise error("told")

    for _ in range(5):
        with pytest.raises(error, match="told"):
            workers.run(fail, range(4))
    assert workers.run(str, [7]) == ["7"]


def test_calls_of_many_callers_do_not_mix(workers):
    found = {}

    def call(number):
        found[number] = sorted(workers.run(lambda item: (number, item), range(50)))

    callers = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert found == {number: [(number, item) for item in range(50)] for number in range(8)}


def test_stopping_waits_for_what_has_begun_and_refuses_the_rest():
    workers, has_begun, go_on, ended = Workers(2), threading.Event(), threading.Event(), []

    def run(item):
        has_begun.set()
        go_on.wait()
        ended.append(item)

    call = workers.begin(run, [1])
    has_begun.wait()
    stopping = [threading.Thread(target=workers.stop) for _ in range(3)]
    for thread in stopping:
        thread.start()
    go_on.set()
    for thread in stopping:
        thread.join()
    assert ended == [1]
    call.finish()
    workers.stop()
    with pytest.raises(InferenceError, match="closed"):
        workers.run(run, [2])


def test_threads_hold_nothing_of_a_call_that_is_over_and_go_with_their_workers():
    class Thing:
        pass

    workers, thing = Workers(2), Thing()
    workers.run(lambda _, thing=thing: None, range(5))
    gone, workers_gone, queue = weakref.ref(thing), weakref.ref(workers), workers._gone
    del thing
    gc.collect()
    while gone() is not None:  # a thread may still be on its way back to the queue
        gc.collect()
    del workers
    assert workers_gone() is None
    while len(queue) < 2:
        pass


def test_too_many_threads_are_an_error_of_ours(monkeypatch):
    from neuralcore.embedding import workers as module

    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(module, "start_new_thread", refuse)
    with pytest.raises(InferenceError, match=r"2 threads cannot be started .* pass threads=1"):
        Workers(2).run(str, [1])


def test_interpreter_ends_after_calls_that_nobody_waits_for():
    code = (
        "import os, time; from neuralcore.embedding.workers import Workers\n"
        "workers = Workers(2)\n"
        "workers.begin(lambda item: (time.sleep(0.05), os.write(1, item)), [b'a ', b'b '])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert sorted(result.stdout.split()) == ["a", "b"]
    assert result.stderr == ""
