"""Spearman correlation on the STS benchmark's test set, which lies beside the checkout where it is at hand."""

import csv
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).parents[2] / "shared/data/stsb_test.tsv"
KNOWN = 82.03  # all-MiniLM-L6-v2 in fp32, sentence-transformers


@pytest.mark.skipif(not DATA.exists(), reason="the STS benchmark's test set is not beside the checkout")
def test_spearman_of_minilm_is_the_known_one(minilm):
    with DATA.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len(rows) == 1379
    first, second = (minilm.embed_batch([row[f"sentence{i}"] for row in rows]) for i in (1, 2))
    scores = np.array([float(row["score"]) for row in rows])
    correlation = 100 * np.corrcoef(ranks((first * second).sum(axis=1)), ranks(scores))[0, 1]
    assert correlation == pytest.approx(KNOWN, abs=0.02)


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, ties averaged."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
