"""Full disks: a small file system, or a bound on the size of files. What fails says why, and leaves nothing."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from random import Random

from faults.commands import COMMANDS, Command, Workplace, workplace
from faults.trial import NotPossible, Trial

TITLE = "a disk that fills up, files that must not grow"

_ENOUGH = "size=256m"
_WORDS = ("No space left", "are needed", "File too large", "quota")


def trials(random: Random) -> Iterator[Trial]:
    """One command at a time, on a disk or with a bound of random size."""
    with workplace() as place:
        for command in COMMANDS:
            yield Trial(f"{command.name}, with room", partial(_with_room, place, command))
        while True:
            command, n_bytes = random.choice(COMMANDS), int(2 ** random.uniform(13, 20))
            if random.random() < 0.7:
                yield Trial(f"{command.name}, {n_bytes} bytes of disk", partial(_full, place, command, n_bytes))
            else:
                yield Trial(f"{command.name}, files of {n_bytes} bytes", partial(_bounded, place, command, n_bytes))


def _with_room(place: Workplace, command: Command) -> None:
    place.clear()
    place.check(command)


def _full(place: Workplace, command: Command, n_bytes: int) -> None:
    place.clear()
    with _disk(place, n_bytes):
        _check_words(place, place.run(command))
        _mount(place, f"remount,{_ENOUGH}")
        place.check(command)


def _bounded(place: Workplace, command: Command, n_bytes: int) -> None:
    place.clear()
    bound = ("prlimit", f"--fsize={n_bytes}", "--")
    try:
        result = place.run(command, bound)
    except FileNotFoundError as error:
        raise NotPossible("there is no prlimit") from error
    _check_words(place, result)
    place.check(command)


def _check_words(place: Workplace, result: "subprocess.CompletedProcess[str]") -> None:
    if result.returncode == 0:
        return  # it was enough
    assert result.returncode in (1, 4), f"exit code {result.returncode}: {result.stderr[-800:]}"
    assert "Traceback" not in result.stderr, result.stderr[-800:]
    assert any(word in result.stderr for word in _WORDS), f"it does not say why: {result.stderr[-800:]}"
    assert not (left := place.leftovers()), f"left behind: {left}"


@contextmanager
def _disk(place: Workplace, n_bytes: int) -> Iterator[None]:
    made = place.root / "made"
    made.mkdir(exist_ok=True)
    if os.geteuid():
        raise NotPossible("only root may mount a small disk")
    _mount(place, f"size={n_bytes}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(made)], check=True, capture_output=True)


def _mount(place: Workplace, options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place.root / "made")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise NotPossible(f"mount: {result.stderr.strip()}")
