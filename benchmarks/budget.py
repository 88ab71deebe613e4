"""How many padded tokens a micro-batch should have on CPU: the time of the same texts with several budgets.

python -m benchmarks.budget --model all-MiniLM-L6-v2 --threads 2 --precision int8
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from unittest.mock import patch

from neuralcore.embedding import EmbeddingEngine
from neuralcore.embedding.backends.native import encoder as native_encoder
from neuralcore.embedding.backends.onnx import encoder

from .machine import cpu_model, keep_to_cores
from .report import print_table, seconds, show_progress
from .texts import real_paragraphs, real_sentences

_BUDGETS = (128, 256, 512, 1024, 2048)
Times = dict[tuple[str, int], list[float]]


def main() -> None:
    args = _parse_args()
    keep_to_cores(args.threads)
    workloads = {
        f"{args.sentences} sentences": real_sentences(args.sentences),
        f"{args.paragraphs} paragraphs": real_paragraphs(args.paragraphs),
    }
    times: Times = {(name, budget): [] for name in workloads for budget in args.budgets}
    for number in range(args.rounds):  # rounds over budgets: what slows the machine down hits all of them alike
        show_progress(f"round {number + 1} of {args.rounds}")
        for budget in args.budgets:
            with _open(args, budget) as engine:
                for name, texts in workloads.items():
                    times[name, budget].append(_time(engine, texts))
    default = _in_use(args)
    header = ["padded tokens", *workloads]
    rows = [[_label(budget, default), *(_cell(times, name, budget) for name in workloads)] for budget in args.budgets]
    print_table(f"Best (median) of {args.rounds}, {args.threads} threads, {cpu_model()}", header, rows)


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.budget", description="Compare micro-batch budgets.")
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="folder or name")
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16", "int8"), default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budgets", type=int, nargs="+", default=_BUDGETS)
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--paragraphs", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def _in_use(args: argparse.Namespace) -> int:
    with _open(args, None) as engine:
        found = engine._encoder
        return found.budget_tokens if isinstance(found, native_encoder.NativeEncoder) else encoder._BUDGET_TOKENS["cpu"]


def _open(args: argparse.Namespace, budget: int | None) -> EmbeddingEngine:
    with patch.dict(encoder._BUDGET_TOKENS, {} if budget is None else {"cpu": budget}):
        engine = EmbeddingEngine.from_pretrained(args.model, threads=args.threads, precision=args.precision)
    if budget and isinstance(engine._encoder, native_encoder.NativeEncoder):
        engine._encoder.budget_tokens = budget
    engine.embed_batch(real_sentences(100))  # warm up
    return engine


def _time(engine: EmbeddingEngine, texts: list[str]) -> float:
    begin = time.perf_counter()
    engine.embed_batch(texts)
    return time.perf_counter() - begin


def _label(budget: int, default: int) -> str:
    return f"{budget} (in use)" if budget == default else str(budget)


def _cell(times: Times, name: str, budget: int) -> str:
    own = times[name, budget]
    return f"{seconds(min(own))} ({seconds(median(own))})"


if __name__ == "__main__":
    main()
