"""Runs the targets against each other and prints one table.

python -m benchmarks.run --model FOLDER --threads 2 --json results.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from neuralcore.embedding.store.registry import get_model_config

from .agreement import Agreement, compare
from .competitors import REFERENCE, TARGETS, pythons_of
from .floor import TOOL, Work, count_work, measure_peaks
from .machine import cpu_model, keep_to_cores
from .models import find_folder, prepare, thread_variables
from .report import print_table, show_progress
from .summary import Summary, as_rows, floor_rows, summarize
from .texts import QUICK, workloads

_ROOT = Path(__file__).parent.parent
_QUIET_S = 0.5  # until the threads of whoever was measured before no longer spin: PyTorch's do for 0.2 s


@dataclass(frozen=True, slots=True)
class Setup:
    """What all measurements of a run share."""

    folder: Path
    scratch: Path
    threads: int
    workloads: Sequence[str]
    pythons: Mapping[str, str]

    def vectors_path(self, target: str) -> Path:
        """Where a target's vectors go."""
        return self.scratch / f"{target}.npz"


def main() -> None:
    args = _parse_args()
    source = find_folder(args.model)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as temporary:
        scratch = Path(temporary)
        folder = scratch / "model" / source.name
        prepare(source, folder, scratch / "cache", get_model_config(args.model))
        keep_to_cores(args.threads)  # inherited by each measurement, before it starts any thread
        setup = Setup(folder, scratch, args.threads, args.workloads, pythons_of(args.python))
        first = {target: _measure(target, replace(setup, workloads=["one"])) for target in args.targets}
        able = [target for target in args.targets if "could_not_run" not in first[target]]
        work, peaks = count_work(folder, _texts_of(args.workloads)), measure_peaks(args.threads)
        rounds = [{target: _measure(target, setup) for target in able} for _ in range(args.rounds)]
        reference = _choose_reference(rounds)
        agreements = _compare(rounds, reference, setup)
    _check_texts(rounds)
    failed = {target: [result] for target, result in first.items() if target not in able}
    found = failed | {target: [each[target] for each in rounds] for target in able}
    summaries = {target: summarize(found[target]) for target in args.targets}
    _print_results(summaries, agreements, reference, work, peaks, args)
    if args.json:
        args.json.write_text(
            json.dumps(
                _document(rounds, agreements, reference, args)
                | {"peaks": peaks, "work": {name: asdict(own) for name, own in work.items()}},
                indent=2,
            )
            + "\n"
        )
    wrong = [target for target, agreement in agreements.items() if not agreement.min_cosine >= args.min_cosine]
    if wrong:
        sys.exit(f"Other vectors than {reference}: {', '.join(wrong)}")


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Compare the targets.")
    parser.add_argument(
        "--model", default="all-MiniLM-L6-v2", help="folder laid out as by sentence-transformers, or a name"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads, and cores that a target may use")
    parser.add_argument("--targets", nargs="+", default=TARGETS, choices=TARGETS, metavar="TARGET")
    parser.add_argument("--workloads", nargs="+", default=list(workloads()), choices=list(workloads()), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3, help="how often all targets are measured, one after the other")
    parser.add_argument("--quick", action="store_true", help="one round of small workloads")
    parser.add_argument(
        "--python", action="append", default=[], metavar="[TARGET=]PATH", help="interpreter of all targets, or of one"
    )
    parser.add_argument("--min-cosine", type=float, default=0.98, help="fail below this")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.workloads = 1, list(QUICK)
    return args


def _measure(target: str, setup: Setup) -> dict[str, Any]:
    show_progress(f"{target} ...")
    output = setup.scratch / "result.json"
    output.unlink(missing_ok=True)
    python = setup.pythons.get(target, setup.pythons[""])
    command = [
        python, "-m", "benchmarks.measure", target, "--model", str(setup.folder), "--threads", str(setup.threads),
        "--json", str(output), "--vectors", str(setup.vectors_path(target)), "--workloads", *setup.workloads,
    ]  # fmt: skip
    environment = thread_variables(setup.threads, setup.scratch / "cache")
    time.sleep(_QUIET_S)
    began = ["--began", str(time.monotonic())]
    done = subprocess.run(command + began, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False)
    if output.exists():
        result: dict[str, Any] = json.loads(output.read_bytes())
        return result
    last_line = (done.stderr.strip().splitlines() or ["killed"])[-1]
    return {"target": target, "could_not_run": f"exit {done.returncode}: {last_line}"}


def _choose_reference(rounds: Sequence[Mapping[str, Any]]) -> str:
    """sentence-transformers, or else the first target that ran."""
    ran = [target for target, result in rounds[-1].items() if "could_not_run" not in result]
    if not ran:
        sys.exit("No target could run: " + "; ".join(result["could_not_run"] for result in rounds[-1].values()))
    return REFERENCE if REFERENCE in ran else ran[0]


def _texts_of(names: Sequence[str]) -> dict[str, list[str]]:
    return {name: texts for name, texts in workloads().items() if name in names}


def _compare(rounds: Sequence[Mapping[str, Any]], reference: str, setup: Setup) -> dict[str, Agreement]:
    ran = [target for target, result in rounds[-1].items() if "could_not_run" not in result]
    return {target: compare(setup.vectors_path(target), setup.vectors_path(reference)) for target in ran}


def _check_texts(rounds: Sequence[Mapping[str, Any]]) -> None:
    for name in workloads():
        results = [result["workloads"] for each in rounds for result in each.values() if "workloads" in result]
        digests = {result[name]["texts_digest"] for result in results if name in result}
        if len(digests) > 1:
            sys.exit(f"The texts of {name} differ between targets: use interpreters of one version.")


def _print_results(
    summaries: Mapping[str, Summary],
    agreements: Mapping[str, Agreement],
    reference: str,
    work: Mapping[str, Work],
    peaks: Mapping[str, float],
    args: argparse.Namespace,
) -> None:
    ran = {target: summary for target, summary in summaries.items() if not summary.could_not_run}
    title = f"{Path(args.model).name}, {args.threads} threads, {args.rounds} rounds, {cpu_model()}"
    print_table(
        title, ["", *(summary.name for summary in ran.values())], as_rows(ran, agreements, reference, work, peaks)
    )
    print(
        f"Times: best, (median of rounds), and how many times as fast as {summaries[reference].name} was in the round."
    )
    if peaks:
        print(
            "Then the share of the peak, end to end: of int8 and bf16 products alone, of fp32 and fp16 with attention."
        )
        title = f"Floor: products, and with attention, at the peak of {args.threads} threads"
        header = ["", "tokens", *(f"{name}, {peak / 1e9:.0f} GOP/s" for name, peak in peaks.items())]
        print_table(title, header, floor_rows(work, peaks))
    else:
        print(f"No floor: {TOOL.name} is not built (make build/native/bench_products).")
    for target, summary in summaries.items():
        if summary.could_not_run:
            print(f"{target} could not run: {summary.could_not_run}")


def _document(
    rounds: Sequence[Mapping[str, Any]], agreements: Mapping[str, Agreement], reference: str, args: argparse.Namespace
) -> dict[str, Any]:
    return {
        "model": Path(args.model).name,
        "threads": args.threads,
        "reference": reference,
        "agreement": {target: agreement._asdict() for target, agreement in agreements.items()},
        "rounds": rounds,
    }


if __name__ == "__main__":
    main()
