"""Measures one target's start in this process: until the vector of one short text. `benchmarks.large` starts it.

python -m benchmarks.first_vector neuralcore_int8 FOLDER
"""

from __future__ import annotations

import time

_BEGIN = time.monotonic()

import argparse  # noqa: E402 - the clock starts before anything is loaded
import importlib  # noqa: E402
import json  # noqa: E402
from pathlib import Path  # noqa: E402

from . import memory  # noqa: E402

_TEXT = "How many people live in the capital?"


def main() -> None:
    args = _parse_args()
    target = importlib.import_module(f"benchmarks.targets.{args.target}")
    model = target.load(args.folder, args.threads)
    vectors = target.embed(model, [_TEXT])
    start_s = time.monotonic() - args.began
    found = {"start_s": start_s, "loaded_bytes": memory.resident_bytes(), "peak_bytes": memory.peak_bytes()}
    print(json.dumps({**found, "name": target.NAME, "dimension": vectors.shape[1]}))


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_vector", description="Measure one start.")
    parser.add_argument("target", help="a file of benchmarks/targets, without .py")
    parser.add_argument("folder", type=Path, help="laid out as by sentence-transformers")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--began", type=float, default=_BEGIN, help="time.monotonic() when the process was started")
    return parser.parse_args()


if __name__ == "__main__":
    main()
