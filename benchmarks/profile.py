"""Where a model's time goes on the native kernels, stage by stage.

python -m benchmarks.profile all-MiniLM-L6-v2 --precision int8 --workloads sentences-1000 abstracts-400
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

from neuralcore.embedding import EmbeddingEngine
from neuralcore.embedding.backends.native.stages import counting, read_cycles

from .machine import cpu_model, keep_to_cores
from .report import print_table, seconds
from .texts import workloads

_WORKLOADS = ("one", "sentences-1000", "abstracts-400")


def main() -> None:
    args = _parse_args()
    keep_to_cores(args.threads)
    engine = EmbeddingEngine.from_pretrained(
        args.model, precision=args.precision, backend="native", threads=args.threads
    )
    for name, texts in workloads().items():
        if name in args.workloads:
            _print_profile(engine, name, texts, args)


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description="Time by stage of the encoder.")
    parser.add_argument("model", nargs="?", default="all-MiniLM-L6-v2", help="folder or name")
    parser.add_argument("--precision", default="int8", choices=["int8", "fp32", "fp16", "bf16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workloads", nargs="+", default=_WORKLOADS, choices=list(workloads()), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3, help="the best one is shown")
    return parser.parse_args()


def _print_profile(engine: EmbeddingEngine, name: str, texts: list[str], args: argparse.Namespace) -> None:
    n_tokens = int(engine.count_tokens(texts).clip(max=engine.max_tokens).sum())
    engine.embed_batch(texts[:32])  # warm up
    time_s, cycles = min((_run(engine, texts) for _ in range(args.rounds)), key=lambda found: found[0])
    rate = _ticks_per_second()
    all_s = time_s * args.threads
    stages_s = {stage: n / rate for stage, n in cycles.items()} if rate else {}
    rest = {"Python, tokenizer, idle": all_s - sum(stages_s.values())} if rate else {}
    rows = [
        [stage, seconds(own_s), f"{1e6 * own_s / n_tokens:.2f}", f"{own_s / all_s:.1%}"]
        for stage, own_s in (stages_s | rest).items()
    ] or [[stage, "", "", f"{n / sum(cycles.values()):.1%} of them"] for stage, n in cycles.items()]
    title = f"{Path(args.model).name} {args.precision}, {name}, {n_tokens} tokens, {args.threads} thread(s): "
    header = ["", "time of all threads", "us a token", "share"]
    print_table(f"{title}{seconds(time_s)}, {engine.backend}, {cpu_model()}", header, rows)


def _run(engine: EmbeddingEngine, texts: list[str]) -> tuple[float, Mapping[str, int]]:
    with counting():
        begin = time.perf_counter()
        engine.embed_batch(texts)
        time_s = time.perf_counter() - begin
        return time_s, read_cycles()


def _ticks_per_second() -> float | None:
    """Of the time stamp counter, which Linux counts as two bogomips a million; unknown elsewhere."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    bogomips = [line.partition(":")[2] for line in lines if line.startswith("bogomips")]
    return float(bogomips[0]) * 1e6 / 2 if bogomips else None


if __name__ == "__main__":
    main()
