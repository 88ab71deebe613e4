"""Forked children for what may crash or hang: whatever becomes of one, the test goes on and tells."""

import os
import select
import signal
import time
import traceback
from collections.abc import Callable


def run_in_child(job: Callable[[], object], seconds: float = 30) -> str:
    """What a function says (`str` of its result) in a forked child.

    Raises:
        AssertionError: it raised, was ended by a signal, or did not end in time; the message says which.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _say(job, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = _read(pipe.fileno(), time.monotonic() + seconds)
    if told is None:
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert told is not None, f"not done after {seconds:g} s"
    assert code >= 0, f"ended by {signal.Signals(-code).name}"
    assert code == 0, told
    return told


def _say(job: Callable[[], object], writing: int) -> None:
    code = 1
    try:
        said = str(job())
        code = 0
    except BaseException:  # noqa: BLE001 - the parent is told of whatever it was
        said = traceback.format_exc()
    try:
        os.write(writing, said.encode()[-60_000:])  # a pipe holds as much unread
    finally:
        os._exit(code)


def _read(descriptor: int, end: float) -> str | None:
    """All that comes until the other side is closed; None if it is open at the end."""
    said = b""
    while select.select([descriptor], [], [], max(0.0, end - time.monotonic()))[0]:
        if not (piece := os.read(descriptor, 65_536)):
            return said.decode(errors="replace")
        said += piece
    return None
