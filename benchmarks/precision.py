"""How near each precision is to fp32, over texts that no calibration has seen, and how large its file is.

python -m benchmarks.precision --model all-MiniLM-L6-v2 --stsb path/to/stsb_test.tsv

With the test set of the STS benchmark (columns sentence1, sentence2, score, with a header), also Spearman's correlation
with what people said.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from neuralcore.embedding import EmbeddingEngine, EmbeddingError, quantize_model
from neuralcore.embedding.pooling import normalize
from neuralcore.embedding.precision.graphs import ensure_graph
from neuralcore.embedding.store import make_store
from neuralcore.embedding.types import Precision, Vectors

from .report import print_table, show_progress
from .texts import raw_sentences, real_paragraphs, real_sentences, single_words

_WAYS = (
    ("fp32", Precision.FP32, ""),
    ("fp16", Precision.FP16, ""),
    ("int8", Precision.INT8, ""),
    ("int8 on ONNX Runtime", Precision.INT8, "none"),
    ("dynamic-int8", Precision.DYNAMIC_INT8, ""),
)
"""A label, the precision, and NEURALCORE_ISA."""


def main() -> None:
    args = _parse_args()
    texts = _texts(args.texts)
    pairs, scores = _read_stsb(args.stsb) if args.stsb else ([], np.zeros(0))
    rows, found = [], {}
    expected: Vectors | None = None
    for label, precision, isa in _WAYS:
        show_progress(f"{label} ...")
        with patch.dict(os.environ, {"NEURALCORE_ISA": isa} if isa else {}):
            vectors, correlation, size = _embed(args, precision, texts, pairs, scores)
        expected = vectors if expected is None else expected
        cosines = np.einsum("ij,ij->i", vectors, expected, dtype=np.float64)
        found[label] = {
            "bytes": size, "mean_cosine": cosines.mean(), "p1_cosine": np.quantile(cosines, 0.01),
            "min_cosine": cosines.min(), "stsb_spearman": correlation,
        }  # fmt: skip
        numbers = [f"{cosines.mean():.5f}", f"{np.quantile(cosines, 0.01):.5f}", f"{cosines.min():.5f}"]
        rows.append([label, f"{size / 1e6:.1f} MB", *numbers, f"{correlation:.3f}" if pairs else ""])
    header = ["", "file", "mean cosine", "1% below", "lowest", "STS-B"]
    print_table(f"{args.model}, {len(texts):,} texts, against fp32", header, rows)
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


def _texts(n: int) -> list[str]:
    """Of one word (one in twenty) to a paragraph."""
    words, each = n // 20, n // 3
    texts = single_words(words) + real_sentences(each) + real_paragraphs(each) + raw_sentences(2 * each)
    return list(dict.fromkeys(texts))[:n]


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description="Compare precisions.")
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="folder or name")
    parser.add_argument("--texts", type=int, default=3000)
    parser.add_argument("--stsb", type=Path, help="test set of the STS benchmark, as tab-separated values")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    return parser.parse_args()


def _embed(
    args: argparse.Namespace,
    precision: Precision,
    texts: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    scores: NDArray[np.float64],
) -> tuple[Vectors, float, int]:
    with _load(args.model, precision) as engine:
        vectors = normalize(engine.embed_batch(texts))
        size = sum(path.stat().st_size for path in engine._model_path.parent.glob(f"{engine._model_path.name}*"))
        if not pairs:
            return vectors, float("nan"), size
        left, right = (normalize(engine.embed_batch(list(side))) for side in zip(*pairs, strict=True))
        return vectors, 100 * _spearman(np.einsum("ij,ij->i", left, right), scores), size


def _load(model: str, precision: Precision) -> EmbeddingEngine:
    """The engine; where the package refuses a precision for being too far off, the model as it would have been."""
    try:
        return EmbeddingEngine.from_pretrained(model, precision=precision)
    except EmbeddingError as error:
        print(f"{precision} is refused: {error}")
    store = make_store()
    source = store.ensure(model)
    path = Path(tempfile.mkdtemp(prefix="benchmarks-")) / "model.onnx"
    quantize_model(ensure_graph(store, source).model_path, path, precision, tokenizer_path=source.tokenizer_path)
    return EmbeddingEngine(path, source.tokenizer_path, source.config)


def _read_stsb(path: Path) -> tuple[list[tuple[str, str]], NDArray[np.float64]]:
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [(row["sentence1"], row["sentence2"]) for row in rows], np.array([float(row["score"]) for row in rows])


def _spearman(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return ranks


if __name__ == "__main__":
    main()
