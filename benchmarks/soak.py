"""Whether memory stays where it is: the same many texts, pass after pass; exit 1 if it grew.

python -m benchmarks.soak --model all-MiniLM-L6-v2 --threads 2

What counts is the peak: a leak must raise it pass by pass. What is resident after a pass says less: `embed_batch`
returns one array (29 MiB for 20,000 texts of 384 dimensions), and when that is freed the C library gives it back to the
system after the first pass, but keeps it for the next one after the second (glibc raises the size from which it does).
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

_TOLERATED_BYTES = 8 * 2**20


def main() -> None:
    args = _parse_args()
    texts = mixed_texts(args.texts)
    rows: list[list[str]] = []
    peaks: list[int] = []
    with EmbeddingEngine.from_pretrained(args.model, threads=args.threads) as engine:
        for name, embed in _ways(engine).items():
            peaks += [_pass(name, number, embed, texts, rows) for number in range(1, args.passes + 1)]
    title = f"{args.texts:,} texts a pass, {args.threads} threads"
    print_table(title, ["", "pass", "time", "memory after it", "peak so far"], rows)
    if peaks[-1] > peaks[0] + _TOLERATED_BYTES:
        sys.exit(f"Memory grew: from {mebibytes(peaks[0])} to {mebibytes(peaks[-1])}")


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
    cells = (seconds(time.perf_counter() - begin), mebibytes(resident_bytes()), mebibytes(peak_bytes()))
    rows.append([name, str(number), *cells])
    return peak_bytes()


if __name__ == "__main__":
    main()
