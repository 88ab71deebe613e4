"""Measures one target in this process and writes JSON; `benchmarks.run` starts it, afresh for every measurement.

python -m benchmarks.measure neuralcore_fp32 --model FOLDER --threads 2 --workloads one sentences-100
"""

from __future__ import annotations

import time

_BEGIN = time.monotonic()

import argparse  # noqa: E402 - the clock starts before anything is loaded
import importlib  # noqa: E402
import json  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from . import machine, memory, texts  # noqa: E402

_SHORTEST_S = 0.5  # what takes less than this is repeated until it adds up to it
_MOST_REPEATS = 200
Embed = Callable[[list[str]], NDArray[np.float32]]


def main() -> None:
    args = _parse_args()
    try:
        result = _measure(args)
    except Exception as error:  # noqa: BLE001 - a competitor that cannot run here is a result, too
        result = {"target": args.target, "could_not_run": f"{type(error).__name__}: {error}"}
    document = json.dumps(result, indent=2)
    args.json.write_text(document + "\n") if args.json else print(document)


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure", description="Measure one target.")
    parser.add_argument("target", help="a file of benchmarks/targets, without .py")
    parser.add_argument("--model", type=Path, required=True, help="folder that benchmarks.models.prepare made")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workloads", nargs="+", default=list(texts.QUICK))
    parser.add_argument("--repeats", type=int, default=1, help="at least so many; short ones are repeated more often")
    parser.add_argument("--began", type=float, default=_BEGIN, help="time.monotonic() when the process was started")
    parser.add_argument("--json", type=Path, help="write here instead of to standard output")
    parser.add_argument("--vectors", type=Path, help="write the vectors here (.npz)")
    return parser.parse_args()


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    target = importlib.import_module(f"benchmarks.targets.{args.target}")
    model = target.load(args.model, args.threads)
    first = target.embed(model, [texts.ONE_TEXT])
    start_s = time.monotonic() - args.began
    loaded_bytes = memory.resident_bytes()

    def embed(batch: list[str]) -> NDArray[np.float32]:
        return _checked(target.embed(model, batch), (len(batch), first.shape[1]))

    chosen = {name: batch for name, batch in texts.workloads().items() if name in args.workloads}
    embed(texts.mixed_texts(32))  # warm up
    vectors = {}
    results = {}
    for name, batch in chosen.items():
        results[name], vectors[name] = _measure_workload(embed, batch, args.repeats)
    if args.vectors:
        np.savez(args.vectors, allow_pickle=False, **vectors)
    return {
        "target": args.target,
        "name": target.NAME,
        "backend": getattr(model, "backend", ""),
        "threads": args.threads,
        "start_s": start_s,
        "loaded_bytes": loaded_bytes,
        "peak_bytes": memory.peak_bytes(),
        "workloads": results,
        "versions": machine.loaded_versions(),
        "machine": machine.describe_machine(),
    }


def _measure_workload(embed: Embed, batch: list[str], repeats: int) -> tuple[dict[str, Any], NDArray[np.float32]]:
    times: list[float] = []
    while len(times) < repeats or (sum(times) < _SHORTEST_S and len(times) < _MOST_REPEATS):
        begin = time.perf_counter()
        vectors = embed(batch)
        times.append(time.perf_counter() - begin)
    about = {
        "best_s": min(times),
        "median_s": float(np.median(times)),
        "times_s": times,
        "peak_bytes": memory.peak_bytes(),
        "texts": len(batch),
        "texts_digest": texts.digest(batch),
    }
    return about, vectors


def _checked(vectors: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32]:
    if vectors.shape != tuple(shape) or vectors.dtype != np.float32:
        raise ValueError(f"expected float32 {tuple(shape)}, got {vectors.dtype} {vectors.shape}")
    return vectors


if __name__ == "__main__":
    main()
