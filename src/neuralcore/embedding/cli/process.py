"""The process around a command: its signals, its errors, its exit code. Light, so that signals are heeded early."""

from __future__ import annotations

import errno
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from neuralcore.embedding.errors import STATUS, EmbeddingError, OutOfMemory, status_of
from neuralcore.embedding.memory import prepare
from neuralcore.embedding.settings import COMPLETION, completion

from . import streams

_FAILED = 1
_SIGNALLED = 128  # and the signal's number: what a shell says of a program that a signal ended
_INTERRUPTED = _SIGNALLED + signal.SIGINT
_READER_LEFT = _SIGNALLED + 13  # SIGPIPE, which Windows has not

_received: list[int] = []


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and leave with its exit code: the error's, 2 for wrong usage, 128 and the signal's number."""
    try:
        streams.secure()
        _heed_signals()
        warnings.showwarning = lambda message, *_, **__: streams.tell(f"warning: {message}")
        code = run(sys.argv[1:] if arguments is None else list(arguments))
        _unheed_signals()
    except KeyboardInterrupt:  # before or behind `run`
        code = _INTERRUPTED
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run a command; its errors are told on standard error. Returns the exit code."""
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        streams.discard(sys.stdout)
        return _READER_LEFT
    except Exception as error:
        if _received:  # it is the signal's: Python's import, for one, makes an ImportError of it
            return _SIGNALLED + _received[0]
        if isinstance(error, (EmbeddingError, OSError, MemoryError)):
            return _report(error, with_place="--debug" in arguments)
        raise


def _run(arguments: Sequence[str]) -> int:
    from click import ClickException
    from click.exceptions import Exit
    from click.shell_completion import shell_complete

    from .commands import cli

    if instruction := completion():
        return shell_complete(cli, {}, "neuralcore", COMPLETION, instruction)
    try:
        # Not `cli.main`: it would take a reader that left, and Ctrl-C, for failures of its own.
        with cli.make_context("neuralcore", list(arguments)) as context:
            if "--help" not in arguments:
                prepare()
            cli.invoke(context)
        sys.stdout.flush()
    except Exit as leave:
        return leave.exit_code
    except ClickException as error:
        streams.tell(error)
        return error.exit_code
    return 0


def _report(error: EmbeddingError | OSError | MemoryError, *, with_place: bool) -> int:
    if with_place:
        import traceback

        streams.tell(traceback.format_exc().rstrip())
    streams.tell(f"error: {_reason(error)}")
    if isinstance(error, EmbeddingError):
        return status_of(error).exit_code
    streams.discard(sys.stdout)  # a full disk would fail a second time when the interpreter flushes
    return STATUS[OutOfMemory].exit_code if isinstance(error, MemoryError) else _FAILED


def _reason(error: EmbeddingError | OSError | MemoryError) -> str:
    if isinstance(error, OSError) and error.errno == errno.EBADF:
        return "standard input or output is needed, and closed: name a file with --input or --output"
    return str(error) or "out of memory"


def _heed_signals() -> None:
    """Unwind when stopped by Ctrl-C, `kill`, a container's end or a closed terminal, so that half-made files go."""
    for number in _stopping():
        if signal.getsignal(number) is not signal.SIG_IGN:  # by `nohup` or for a job in the background: it is meant
            signal.signal(number, _leave)


def _unheed_signals() -> None:
    """All is unwound: what stops the process now may stop it at once, and need not be told as a defect."""
    for number in _stopping():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _stopping() -> list[signal.Signals]:
    return [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


def _leave(number: int, _: object) -> NoReturn:
    _received.append(number)
    if number == signal.SIGINT:  # a second Ctrl-C is of somebody who does not want to wait for the tidying up
        raise KeyboardInterrupt
    for other in _stopping():
        signal.signal(other, signal.SIG_IGN)  # a second one would end the tidying up that the first began
    raise SystemExit(_SIGNALLED + number)
