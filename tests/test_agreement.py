"""The distances between two models, by hand and by definition."""

from dataclasses import replace

import numpy as np
import pytest

from neuralcore.embedding import InputError, Precision, VerificationFailed
from neuralcore.embedding.precision.agreement import BOUNDS, Bounds, failures, measure

TEXTS = [f"text {number}" for number in range(30)]
LOOSE = Bounds(0.9, 0.8, 0.5, 0.7, 0.01)


def random_vectors(seed: int = 1) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(len(TEXTS), 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def embed_from(vectors: np.ndarray, shift: float = 0.0):
    """An embedder that knows its texts; in a batch its vectors are `shift` higher."""

    def embed(texts):
        found = vectors[[TEXTS.index(text) for text in texts]]
        return found + np.float32(shift if len(texts) > 1 else 0)

    return embed


def test_model_agrees_with_itself():
    embed = embed_from(random_vectors())
    agreement = measure(embed, embed, TEXTS)
    assert agreement.n_texts == 30
    assert agreement.min_cosine == pytest.approx(1)
    assert (agreement.neighbour_overlap, agreement.largest_difference, agreement.batch_shift) == (1, 0, 0)
    assert agreement.rank_correlation == pytest.approx(1)
    assert not failures(agreement, BOUNDS[Precision.FP32])


def test_distances_are_those_of_numpy():
    own, other = random_vectors(1), random_vectors(1) + 0.3 * random_vectors(2)
    agreement = measure(embed_from(own), embed_from(other), TEXTS)
    a, b = own.astype(float), other.astype(float)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert agreement.mean_cosine == pytest.approx(cosines.mean(), abs=1e-6)
    assert agreement.min_cosine == pytest.approx(cosines.min(), abs=1e-6)
    assert agreement.largest_difference == pytest.approx(np.abs(own - other).max())


def test_neighbours_are_counted_by_hand():
    own = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]]
    texts = TEXTS[:4]
    agreement = measure(embed_from(own), embed_from(own[[0, 2, 1, 3]]), texts)
    assert agreement.neighbour_overlap == 1  # with four texts, the nearest three are all others


def test_scale_is_no_distance_of_directions():
    own = random_vectors()
    agreement = measure(embed_from(own), embed_from(3 * own), TEXTS)
    assert agreement.min_cosine == pytest.approx(1)
    assert agreement.largest_difference > 1


def test_vector_that_moves_with_its_batch_is_seen():
    own = random_vectors()
    agreement = measure(embed_from(own), embed_from(own, shift=0.02), TEXTS)
    assert agreement.batch_shift == pytest.approx(0.02, abs=1e-6)
    assert [failure.metric for failure in failures(agreement, LOOSE)] == ["batch shift"]


def test_each_broken_bound_is_named_with_its_numbers():
    agreement = measure(embed_from(random_vectors(1)), embed_from(random_vectors(2)), TEXTS)
    broken = {failure.metric: failure for failure in failures(agreement, LOOSE)}
    assert broken.keys() == {"mean cosine", "min cosine", "neighbour overlap", "rank correlation"}
    assert broken["mean cosine"].bound == 0.9
    assert broken["mean cosine"].measured == agreement.mean_cosine


def test_other_dimension_or_nan_is_refused():
    own = random_vectors()
    with pytest.raises(VerificationFailed, match="dimension"):
        measure(embed_from(own), embed_from(own[:, :8]), TEXTS)
    broken = own.copy()
    broken[3, 3] = np.nan
    with pytest.raises(VerificationFailed, match="finite"):
        measure(embed_from(own), embed_from(broken), TEXTS)


def test_too_few_texts_and_nan_are_no_agreement():
    embed = embed_from(random_vectors())
    for n_texts in (0, 1, 2):
        with pytest.raises(InputError, match="at least 3 texts"):
            measure(embed, embed, TEXTS[:n_texts])
    unknown = replace(measure(embed, embed, TEXTS), rank_correlation=float("nan"), batch_shift=float("nan"))
    assert {failure.metric for failure in failures(unknown, LOOSE)} == {"rank correlation", "batch shift"}


def test_each_precision_has_bounds_and_more_bits_have_tighter_ones():
    assert BOUNDS.keys() == set(Precision)
    in_order = [BOUNDS[precision] for precision in ("fp32", "fp16", "int8", "dynamic-int8")]
    for metric in ("mean_cosine", "min_cosine", "neighbour_overlap", "rank_correlation"):
        values = [getattr(bounds, metric) for bounds in in_order]
        assert values == sorted(values, reverse=True)


def test_zero_vectors_are_alike_and_one_alone_is_not():
    """A table of words has the zero vector for a text without tokens."""
    vectors = {"none": [0, 0, 0], "a": [3, 4, 0], "b": [1, 0, 0], "c": [0, 0, 2]}

    def embed(texts):
        return np.array([vectors[text] for text in texts], np.float32)

    assert measure(embed, embed, list(vectors)).min_cosine == pytest.approx(1, abs=1e-6)
    changed = {**vectors, "none": [1, 1, 1]}
    other = measure(embed, lambda texts: np.array([changed[text] for text in texts], np.float32), list(vectors))
    assert other.min_cosine == 0
