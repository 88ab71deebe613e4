"""Kills at any moment: after each, the same command succeeds, its result is right and nothing else is left."""

import time
from collections.abc import Iterator
from functools import partial
from random import Random

from faults.commands import COMMANDS, Command, Workplace, kill, workplace
from faults.trial import Trial

TITLE = "kill -9 in pull, pack, quantize and convert"

_SLOW_S = 2.0  # a mebibyte of the weights


def trials(random: Random) -> Iterator[Trial]:
    """First each command in peace, which tells how long it takes; then one at a time, killed at random moments."""
    with workplace(seconds_per_mib=_SLOW_S) as place:
        took_s: dict[str, float] = {}
        for command in COMMANDS:
            yield Trial(f"{command.name}, in peace", partial(_in_peace, place, command, took_s))
        while True:
            command = random.choice([command for command in COMMANDS if command.name in took_s])
            n_kills = random.choice([1, 1, 1, 2, 3])
            moments_s = [took_s[command.name] * random.uniform(0.2, 1.0) for _ in range(n_kills)]
            told = ", ".join(f"{moment_s:.2f} s" for moment_s in moments_s)
            yield Trial(f"{command.name}, killed after {told}", partial(_killed, place, command, moments_s))


def _in_peace(place: Workplace, command: Command, took_s: dict[str, float]) -> None:
    place.clear()
    began = time.monotonic()
    took_s[command.name] = 1.0
    place.check(command)
    took_s[command.name] = time.monotonic() - began


def _killed(place: Workplace, command: Command, moments_s: list[float]) -> None:
    place.clear()
    for moment_s in moments_s:
        process = place.start(command)
        time.sleep(moment_s)
        kill(process)
        if process.stderr:
            process.stderr.close()
    place.check(command)
