"""How large a model's values become, and how much further texts reach than those of the calibration: FP16's margin.

python -m benchmarks.activations --model all-MiniLM-L6-v2
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neuralcore.embedding.backends.onnx.quantize.activations import Calibration
from neuralcore.embedding.backends.onnx.quantize.fp16 import find_largest
from neuralcore.embedding.backends.onnx.quantize.model import Model
from neuralcore.embedding.precision.graphs import LONGEST_SAMPLE, ensure_graph
from neuralcore.embedding.samples import calibration_texts
from neuralcore.embedding.store import make_store
from neuralcore.embedding.tokenizer import Tokenizer

from .report import print_table, show_progress
from .texts import raw_sentences, real_paragraphs


def main() -> None:
    args = _parse_args()
    texts = raw_sentences(args.texts) + real_paragraphs(args.texts // 4)
    show_progress("calibration texts ...")
    before = _largest(args.model, calibration_texts())
    show_progress(f"{len(texts)} other texts ...")
    after = _largest(args.model, texts)
    ratios = [after[name] / before[name] for name in before]
    rows = [
        ["values that are halves, scores of attention included", str(len(before))],
        ["largest on calibration texts", f"{max(before.values()):,.0f}"],
        [f"largest on {len(texts)} others", f"{max(after.values()):,.0f}"],
        ["of one value, on the others by on calibration texts: largest", f"{max(ratios):.2f}"],
        ["of one value, on the others by on calibration texts: median", f"{np.median(ratios):.2f}"],
    ]
    print_table(f"{args.model}, at most {LONGEST_SAMPLE} tokens a text", ["", ""], rows)


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.activations", description="Find the largest values.")
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="folder or name")
    parser.add_argument("--texts", type=int, default=400, help="sentences, and a quarter as many paragraphs")
    return parser.parse_args()


def _largest(model: str, texts: Sequence[str]) -> dict[str, float]:
    store = make_store()
    source = store.ensure(model)
    graph = ensure_graph(store, source)
    tokens = Tokenizer(source.tokenizer_path, max_tokens=LONGEST_SAMPLE).encode(texts)
    with tempfile.TemporaryDirectory() as folder:
        return dict(find_largest(Model(graph.model_path), Calibration(tokens, Path(folder))))


if __name__ == "__main__":
    main()
