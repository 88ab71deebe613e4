"""What do models with large vocabularies take to start? Random ones of real sizes, each start in a process of its own.

python -m benchmarks.large --python sentence_transformers_fp32=PYTHON --json large.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from .machine import cpu_model, describe_machine, keep_to_cores
from .models import thread_variables
from .random_models import MODELS, write_model
from .report import mebibytes, print_table, seconds, show_progress

_ROOT = Path(__file__).parent.parent
_TARGETS = ("neuralcore_fp32", "neuralcore_int8", "sentence_transformers_fp32")


def main() -> None:
    args = _parse_args()
    pythons = {"": sys.executable} | {
        target: path for target, _, path in (each.rpartition("=") for each in args.python)
    }
    rows, models = [], {}
    for name in args.models:
        with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=args.folder) as temporary:
            results = _measure_model(Path(temporary), name, pythons, args)
        models[name] = results
        rows += [[f"{name}, {target}", *_as_row(starts)] for target, starts in results.items()]
    title = f"Start to first vector, {args.threads} threads, best of {args.rounds}, {cpu_model()}"
    print_table(title, ["", "start", "(median)", "memory", "peak memory"], rows)
    if args.json:
        document = {"machine": describe_machine(), "threads": args.threads, "models": models}
        args.json.write_text(json.dumps(document, indent=2) + "\n")


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large", description="Measure starts of large models.")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS), metavar="NAME")
    parser.add_argument("--targets", nargs="+", default=list(_TARGETS), choices=_TARGETS, metavar="TARGET")
    parser.add_argument("--threads", type=int, default=2, help="threads, and cores that a target may use")
    parser.add_argument("--rounds", type=int, default=3, help="how often all targets are measured, one after the other")
    parser.add_argument("--folder", type=Path, help="where to put the models for as long as it takes: up to 8 GB")
    parser.add_argument(
        "--python", action="append", default=[], metavar="[TARGET=]PATH", help="interpreter of all targets, or of one"
    )
    parser.add_argument("--json", type=Path, help="write all numbers here")
    return parser.parse_args()


def _measure_model(
    scratch: Path, name: str, pythons: Mapping[str, str], args: argparse.Namespace
) -> dict[str, list[dict[str, Any]]]:
    show_progress(f"{name}: writing random weights ...")
    write_model(scratch / name, MODELS[name])
    results: dict[str, list[dict[str, Any]]] = {target: [] for target in args.targets}
    for number in range(-1, args.rounds):  # the first start makes what is kept, and is not counted
        for target in args.targets:
            show_progress(f"{name}: {target}, {number + 1} of {args.rounds} ...")
            found = _start(target, scratch / name, pythons.get(target, pythons[""]), args.threads)
            if number >= 0:
                results[target].append(found)
            if number < 0 and "could_not_run" in found:
                print(f"{name}, {target} could not run: {found['could_not_run']}")
    return results


def _start(target: str, folder: Path, python: str, threads: int) -> dict[str, Any]:
    command = [python, "-m", "benchmarks.first_vector", target, str(folder), "--threads", str(threads)]
    environment = thread_variables(threads, folder.parent / "cache")
    began = ["--began", str(time.monotonic())]
    done = subprocess.run(
        command + began, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False,
        preexec_fn=lambda: keep_to_cores(threads),
    )  # fmt: skip
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout)
        return found
    return {"could_not_run": f"exit {done.returncode}: {(done.stderr.strip().splitlines() or ['killed'])[-1]}"}


def _as_row(starts: Sequence[Mapping[str, Any]]) -> list[str]:
    ran = [each for each in starts if "could_not_run" not in each]
    if not ran:
        return ["-"] * 4
    times = [each["start_s"] for each in ran]
    sizes = [max(each[key] for each in ran) for key in ("loaded_bytes", "peak_bytes")]
    return [seconds(min(times)), f"({seconds(median(times))})", *map(mebibytes, sizes)]


if __name__ == "__main__":
    main()
