"""The command line as a process of its own, with its streams, signals and limits as they are found in the field."""

import os
import pty
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

COMMAND = [sys.executable, "-m", "neuralcore.embedding.cli"]
_CLOSED = {0: "<&-", 1: ">&-", 2: "2>&-"}


def run(arguments: Sequence[object], *, closed: Sequence[int] = (), **options) -> subprocess.CompletedProcess:
    """Run to the end; `closed` are numbers of standard streams that the process does not get."""
    command = [*COMMAND, *map(str, arguments)]
    if closed:
        command = ["bash", "-c", f'exec "$@" {" ".join(_CLOSED[number] for number in closed)}', "bash", *command]
    streams = {"input": b"", "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(command, check=False, timeout=60, **streams)


def start(arguments: Sequence[object], **options) -> subprocess.Popen:
    """Start with a pipe for each stream and all signals as a terminal gives them."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    options = {"preexec_fn": heed_signals, **pipes, **options}
    return subprocess.Popen([*COMMAND, *map(str, arguments)], **options)


def heed_signals() -> None:
    """Background jobs of a shell ignore Ctrl-C, and `nohup` ignores hanging up; so would their children."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def limit_files(n_bytes: int) -> Callable[[], None]:
    """For `preexec_fn`: files grow to so many bytes, as on a disk that fills up."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


def write_end_without_reader() -> int:
    """The write end of a pipe whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def open_terminal() -> tuple[int, int]:
    """Our end of a new terminal, and a command's."""
    return pty.openpty()


def wait_for(condition: Callable[[], object], *, seconds: float = 40) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def names(folder: Path) -> list[str]:
    """What lies in a folder, hidden things too."""
    return sorted(path.name for path in folder.iterdir())
