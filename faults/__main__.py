"""Runs the campaigns and prints what was tried, what held and what failed; the exit code is 1 if anything failed."""

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.table import Table

import faults
from faults.trial import NotPossible, Trial


@dataclass(slots=True)
class Outcome:
    """What came of one campaign."""

    name: str
    title: str
    tried: int = 0
    held: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    not_possible: list[str] = field(default_factory=list)


def main() -> int:
    arguments = _arguments()
    outcomes = [_run(name, arguments) for name in arguments.campaigns or _names()]
    if arguments.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes], indent=2))
    else:
        _show(outcomes)
    return 1 if any(outcome.failures for outcome in outcomes) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("campaigns", nargs="*", metavar="campaign", help=f"of {', '.join(_names())}; default: all")
    parser.add_argument("--seconds", type=float, default=60, help="bound on each campaign (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32), help="default: random")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    if unknown := set(arguments.campaigns) - set(_names()):
        parser.error(f"no such campaign: {', '.join(sorted(unknown))}")
    return arguments


def _names() -> list[str]:
    return [info.name for info in iter_modules(faults.__path__) if hasattr(_campaign(info.name), "trials")]


def _campaign(name: str) -> ModuleType | None:
    return None if name in {"__main__", "trial"} else import_module(f"faults.{name}")


def _run(name: str, arguments: argparse.Namespace) -> Outcome:
    campaign: Any = _campaign(name)
    outcome, began = Outcome(name, campaign.TITLE), time.monotonic()
    for trial in _until(began + arguments.seconds, campaign.trials(random.Random(f"{arguments.seed} {name}"))):
        _note(f"{name}: {trial.name}")
        _try(trial, outcome)
    outcome.seconds = round(time.monotonic() - began, 1)
    if not outcome.tried and not outcome.not_possible:
        outcome.failures.append("nothing was tried")
    _note(f"{name}: {outcome.tried} tried, {outcome.held} held in {outcome.seconds:.0f} s (seed {arguments.seed})\n")
    return outcome


def _until(end: float, trials: Iterator[Trial]) -> Iterator[Trial]:
    for trial in trials:
        yield trial
        if time.monotonic() > end:
            return


def _try(trial: Trial, outcome: Outcome) -> None:
    try:
        trial.provoke()
    except NotPossible as reason:
        outcome.not_possible.append(f"{trial.name}: {reason}")
        return
    except Exception as error:  # noqa: BLE001 - whatever came through is what was looked for
        outcome.failures.append(f"{trial.name}: {type(error).__name__}: {error}")
    else:
        outcome.held += 1
    outcome.tried += 1


def _note(line: str) -> None:
    """Progress: one line that is written over on a terminal; elsewhere only what ends a line."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{line[:100]}")
    elif line.endswith("\n"):
        sys.stderr.write(line)
    sys.stderr.flush()


def _show(outcomes: list[Outcome]) -> None:
    table = Table("campaign", "what is provoked", box=None)
    for heading in ("tried", "held", "failed", "seconds"):
        table.add_column(heading, justify="right")
    for outcome in outcomes:
        failed = str(len(outcome.failures))
        table.add_row(
            outcome.name, outcome.title, str(outcome.tried), str(outcome.held), failed, f"{outcome.seconds:.0f}"
        )
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(table)
    for outcome in outcomes:
        for failure in outcome.failures:
            console.print(f"FAILED {outcome.name}: {failure}")
        for reason in outcome.not_possible:
            console.print(f"not possible here: {outcome.name}: {reason}")


if __name__ == "__main__":
    sys.exit(main())
