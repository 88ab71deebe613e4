"""How long tokenizing takes: with Hugging Face tokenizers alone, and with tokie where its ids are proven equal.

python -m benchmarks.tokenization --threads 2 --json tokenization.json

From a list of str to a `TokenBatch`, cut and framed. Rounds alternate, so a slow moment of the machine hits both; both
may use the same cores. Ids are compared before anything is timed. Loading tokie is timed, too, with its checks; when
it pays is a question of processor time, because encoding wants the cores meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from neuralcore.embedding.tokenizer import Tokenizer, fast
from neuralcore.embedding.tokenizer.reference import Reference

from . import machine, texts
from .models import find_folder
from .report import print_table, seconds

_MAX_TOKENS = 256
_CALLS_FOR_ONE = 200  # a call of microseconds is timed as one of so many
_CALLS_FOR_PROCESSOR_TIME = 10


def main() -> None:
    args = _parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(args.threads)
    machine.keep_to_cores(args.threads)
    path = find_folder(args.model) / "tokenizer.json"
    ways = {"Hugging Face": Tokenizer(path, max_tokens=_MAX_TOKENS), "tokie": _load_with_tokie(path)}
    loading = _measure_loading(path, args.rounds)
    results = {name: _measure(ways, batch, args.rounds) for name, batch in _workloads().items()}
    if args.json:
        document = {"loading": loading, "workloads": results, "threads": args.threads,
                    "versions": machine.loaded_versions(), "machine": machine.describe_machine()}  # fmt: skip
        args.json.write_text(json.dumps(document, indent=2) + "\n")
    _print(results, loading, args.rounds)
    sentences = texts.real_sentences(1000)
    saved_s = _processor_s(ways["Hugging Face"], sentences) - _processor_s(ways["tokie"], sentences)
    print(f"Loading tokie pays after {min(loading['tokie']) / saved_s * len(sentences):,.0f} sentences.")


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tokenization", description="Time tokenization.")
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="folder or name")
    parser.add_argument("--threads", type=int, default=2, help="cores that both may use")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write every time here")
    return parser.parse_args()


def _workloads() -> dict[str, list[str]]:
    names = ("one", "sentences-100", "sentences-1000", "paragraphs-1000")
    chosen = {name: batch for name, batch in texts.workloads().items() if name in names}
    # No text of Python's documentation has a letter beyond ASCII: another path through the check and through tokie.
    return {**chosen, "accents-1000": [f"na\u00efve \u2014 {text}" for text in chosen["sentences-1000"]]}


def _load_with_tokie(path: Path) -> Tokenizer:
    tokenizer = Tokenizer(path, max_tokens=_MAX_TOKENS)
    tokenizer.encode([""] * fast.WORTH_TEXTS)
    fast.WORTH_TEXTS = sys.maxsize  # for the other one: however much is measured, it stays with Hugging Face
    if not tokenizer._fast.get(0):
        raise SystemExit("tokie is not installed, or this model's tokenizer.json is not of the kind that is proven.")
    return tokenizer


def _measure_loading(path: Path, rounds: int) -> dict[str, list[float]]:
    reference = Reference(path, lowercase=False)
    loaders: dict[str, Callable[[], object]] = {
        "Hugging Face": lambda: Reference(path, lowercase=False),
        "tokie": lambda: fast.load_fast(path, reference),
    }
    return {name: [_time(load) for _ in range(rounds)] for name, load in loaders.items()}


def _measure(ways: dict[str, Tokenizer], batch: list[str], rounds: int) -> dict[str, Any]:
    first, second = (way.encode(batch) for way in ways.values())
    if not (np.array_equal(first.ids, second.ids) and np.array_equal(first.offsets, second.offsets)):
        raise SystemExit("The ids differ: being wrong is no way to be fast.")
    calls = _CALLS_FOR_ONE if len(batch) == 1 else 1
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(_time(lambda way=way: [way.encode(batch) for _ in range(calls)]) / calls)  # type: ignore[misc]
    return {"texts": len(batch), "tokens": len(first.ids), "times_s": times}


def _time(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _print(results: dict[str, Any], loading: dict[str, list[float]], rounds: int) -> None:
    rows = []
    for name, result in results.items():
        slow, quick = (np.array(times) / result["texts"] * 1e6 for times in result["times_s"].values())
        cells = [f"{times.min():.1f} ({np.median(times):.1f})" for times in (slow, quick)]
        rows.append([name, f"{result['tokens'] / result['texts']:.1f}", *cells, f"{np.median(slow / quick):.1f}x"])
    title = f"Microseconds per text, best (median) of {rounds}, {machine.cpu_model()}"
    print_table(title, ["", "tokens a text", *loading, "ratio"], rows)
    print("Loading, best: " + ", ".join(f"{name} {seconds(min(times))}" for name, times in loading.items()))


def _processor_s(tokenizer: Tokenizer, batch: list[str]) -> float:
    begin = time.process_time()
    for _ in range(_CALLS_FOR_PROCESSOR_TIME):
        tokenizer.encode(batch)
    return (time.process_time() - begin) / _CALLS_FOR_PROCESSOR_TIME


if __name__ == "__main__":
    main()
