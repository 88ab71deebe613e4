"""Whether memory stays where it is: the same many texts, pass after pass; exit 1 if it grew.

python -m benchmarks.soak --model all-MiniLM-L6-v2 --threads 2
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from neuralcore.embedding import EmbeddingEngine

from .memory import peak_bytes, resident_bytes
from .report import mebibytes, print_table, seconds, show_progress
from .texts import mixed_texts

_TOLERATED_SHARE = 0.05
_TOLERATED_BYTES = 16 * 2**20


def main() -> None:
    args = _parse_args()
    texts = mixed_texts(args.texts)
    rows: list[list[str]] = []
    grown: list[str] = []
    with EmbeddingEngine.from_pretrained(args.model, threads=args.threads) as engine:
        for name, embed in _ways(engine).items():
            after = [_pass(name, number, embed, texts, rows) for number in range(1, args.passes + 1)]
            if after[-1] > _bound(after[0]):
                grown.append(f"{name} from {mebibytes(after[0])} to {mebibytes(after[-1])}")
    title = f"{args.texts:,} texts a pass, {args.threads} threads"
    print_table(title, ["", "pass", "time", "memory after it", "peak so far"], rows)
    if grown:
        sys.exit(f"Memory grew: {', '.join(grown)}")


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description="Look for memory that grows.")
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="folder or name")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--passes", type=int, default=4)
    return parser.parse_args()


def _ways(engine: EmbeddingEngine) -> dict[str, Callable[[list[str]], int]]:
    return {
        "embed_batch": lambda texts: len(engine.embed_batch(texts)),
        "embed_stream": lambda texts: sum(len(block) for block in engine.embed_stream(iter(texts))),
    }


def _pass(name: str, number: int, embed: Callable[[list[str]], int], texts: list[str], rows: list[list[str]]) -> int:
    show_progress(f"{name}, pass {number} ...")
    begin = time.perf_counter()
    n_vectors = embed(texts)
    if n_vectors != len(texts):
        sys.exit(f"{name} gave {n_vectors} vectors for {len(texts)} texts")
    n_bytes = resident_bytes()
    rows.append([name, str(number), seconds(time.perf_counter() - begin), mebibytes(n_bytes), mebibytes(peak_bytes())])
    return n_bytes


def _bound(first_bytes: int) -> float:
    return first_bytes + max(_TOLERATED_SHARE * first_bytes, _TOLERATED_BYTES)


if __name__ == "__main__":
    main()
