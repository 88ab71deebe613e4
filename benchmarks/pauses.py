"""One short text as queries come: with pauses before each, and beside a process that keeps a core busy.

python -m benchmarks.pauses --model FOLDER --threads 2 --json pauses.json

Who calls in a loop measures what nobody does: in a pause the caches go to others, and threads fall asleep. Each target
runs in a fresh process, with one thread and with all of `--threads`. A call's time goes from str to float32 array.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from .competitors import TARGETS, pythons_of
from .machine import cpu_model, describe_machine, keep_to_cores
from .report import print_table, show_progress
from .texts import SEED_TEXT

_ROOT = Path(__file__).parent.parent
_WARM_CALLS = 50


@dataclass(frozen=True, slots=True)
class Situation:
    """When a call comes."""

    name: str
    pause_s: float
    is_busy: bool = False  # another process runs all the time


SITUATIONS = (
    Situation("no pause", 0.0),
    Situation("10 ms", 0.01),
    Situation("300 ms", 0.3),
    Situation("10 ms, a core busy", 0.01, is_busy=True),
)


def main() -> None:
    args = _parse_args()
    if args.measure:
        print(json.dumps(_measure(args.measure, args.folder, args.threads, args.calls)))
        return
    from neuralcore.embedding.store.registry import get_model_config

    from .models import find_folder, prepare

    source = find_folder(args.model)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as temporary:
        scratch = Path(temporary)
        folder = scratch / "model" / source.name
        prepare(source, folder, scratch / "cache", get_model_config(args.model))
        keep_to_cores(args.threads)  # inherited, the busy process's included
        runs = [
            _start(target, threads, folder, scratch / "cache", args)
            for target in args.targets
            for threads in sorted({1, args.threads})
        ]
    _print_results(runs, args)
    if args.json:
        document = {"machine": describe_machine(), "text": SEED_TEXT, "runs": runs}
        args.json.write_text(json.dumps(document, indent=2) + "\n")


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pauses", description="One short text behind pauses.")
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="folder or name")
    parser.add_argument("--threads", type=int, default=2, help="threads, and cores that a target may use")
    parser.add_argument("--targets", nargs="+", default=TARGETS, choices=TARGETS, metavar="TARGET")
    parser.add_argument("--calls", type=int, default=500, help="of each target in each situation")
    parser.add_argument("--python", action="append", default=[], metavar="[TARGET=]PATH", help="as of benchmarks.run")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    parser.add_argument("--measure", metavar="TARGET", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.calls < 2:
        parser.error("at least 2 calls")
    return args


def _start(target: str, threads: int, folder: Path, cache: Path, args: argparse.Namespace) -> dict[str, Any]:
    from .models import thread_variables

    show_progress(f"{target}, {threads} threads ...")
    pythons = pythons_of(args.python)
    command = [
        pythons.get(target, pythons[""]), "-m", "benchmarks.pauses", "--measure", target,
        "--folder", str(folder), "--threads", str(threads), "--calls", str(args.calls),
    ]  # fmt: skip
    environment = thread_variables(threads, cache)
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last_line = (done.stderr.strip().splitlines() or ["killed"])[-1]
        return {"target": target, "threads": threads, "could_not_run": f"exit {done.returncode}: {last_line}"}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _measure(name: str, folder: Path, threads: int, calls: int) -> dict[str, Any]:
    """Seconds of each call, by situation."""
    target = importlib.import_module(f"benchmarks.targets.{name}")
    model = target.load(folder, threads)
    for _ in range(_WARM_CALLS):
        target.embed(model, [SEED_TEXT])
    times = {}
    for situation in SITUATIONS:
        with _busy_core() if situation.is_busy else nullcontext():
            times[situation.name] = [_time(target, model, situation.pause_s) for _ in range(calls)]
    return {"target": name, "name": target.NAME, "threads": threads, "times_s": times}


def _time(target: Any, model: Any, pause_s: float) -> float:
    if pause_s:
        time.sleep(pause_s)
    began = time.perf_counter()
    target.embed(model, [SEED_TEXT])
    return time.perf_counter() - began


@contextmanager
def _busy_core() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _print_results(runs: Sequence[Mapping[str, Any]], args: argparse.Namespace) -> None:
    title = f"one text of {len(SEED_TEXT.split())} words, median (p99) in ms of {args.calls} calls, {cpu_model()}"
    rows = [
        [f"{run['name']}, {run['threads']} thread(s)", *(_cell(run["times_s"][each.name]) for each in SITUATIONS)]
        for run in runs
        if "could_not_run" not in run
    ]
    print_table(title, ["pause before each call:", *(each.name for each in SITUATIONS)], rows)
    for run in runs:
        if "could_not_run" in run:
            print(f"{run['target']}, {run['threads']} thread(s) could not run: {run['could_not_run']}")


def _cell(times: Sequence[float]) -> str:
    return f"{1000 * median(times):.2f} ({1000 * quantiles(times, n=100)[98]:.2f})"


if __name__ == "__main__":
    main()
