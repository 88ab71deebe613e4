"""Pooling against plain float64 loops over each text's own tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralcore.embedding.config import PoolingStrategy
from neuralcore.embedding.errors import InputError
from neuralcore.embedding.pooling import normalize, pool, truncate

REFERENCES = {
    PoolingStrategy.CLS: lambda tokens: tokens[0],
    PoolingStrategy.MEAN: lambda tokens: sum(tokens) / len(tokens),
    PoolingStrategy.MEAN_WITH_ATTENTION: lambda tokens: sum(tokens) / len(tokens),
    PoolingStrategy.MAX: lambda tokens: [max(column) for column in zip(*tokens, strict=True)],
    PoolingStrategy.LAST_TOKEN: lambda tokens: tokens[-1],
    PoolingStrategy.MEAN_SQRT_LEN: lambda tokens: sum(tokens) / len(tokens) ** 0.5,
    PoolingStrategy.WEIGHTED_MEAN: lambda tokens: (
        sum(place * token for place, token in enumerate(tokens, start=1)) / sum(range(1, len(tokens) + 1))
    ),
}


def hidden_of(lengths, dimension=5, *, padding=0.0, seed=1) -> np.ndarray:
    random = np.random.RandomState(seed)
    hidden = random.normal(0, 3, (len(lengths), max(lengths, default=1) or 1, dimension)).astype(np.float32)
    for row, length in enumerate(lengths):
        hidden[row, length:] = padding
    return hidden


def reference(hidden, lengths, strategy) -> list:
    texts = [[*hidden[row, :length].astype(np.float64)] for row, length in enumerate(lengths)]
    return [REFERENCES[strategy](tokens) if tokens else [0.0] * hidden.shape[2] for tokens in texts]


def test_every_strategy_has_a_reference():
    assert REFERENCES.keys() == set(PoolingStrategy)


@pytest.mark.parametrize("strategy", PoolingStrategy)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6), seed=st.integers(0, 1000))
def test_pooled_vectors_equal_a_float64_loop(strategy, lengths, seed):
    hidden = hidden_of(lengths, seed=seed)
    pooled = pool(hidden, np.array(lengths), strategy)
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, reference(hidden, lengths, strategy), atol=2e-6, rtol=0)


@pytest.mark.parametrize("padding", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("strategy", PoolingStrategy)
def test_whatever_padding_holds_does_not_leak(strategy, padding):
    lengths = [4, 1, 3]
    clean, dirty = (pool(hidden_of(lengths, padding=fill), np.array(lengths), strategy) for fill in (0.0, padding))
    np.testing.assert_array_equal(dirty, clean)


def test_several_poolings_lie_side_by_side_in_their_order():
    hidden, lengths = hidden_of([4, 0, 2]), np.array([4, 0, 2])
    several = pool(hidden, lengths, PoolingStrategy.MAX, PoolingStrategy.CLS, PoolingStrategy.MAX)
    expected = [[*most, *first, *most] for most, first in zip(
        reference(hidden, lengths, PoolingStrategy.MAX), reference(hidden, lengths, PoolingStrategy.CLS), strict=True
    )]  # fmt: skip
    np.testing.assert_allclose(several, expected, atol=1e-6, rtol=0)


def test_maximum_of_negative_values_is_negative():
    hidden = np.full((1, 3, 2), -5, np.float32)
    hidden[0, 2] = 0  # padding
    assert pool(hidden, np.array([2]), PoolingStrategy.MAX).tolist() == [[-5, -5]]


@pytest.mark.parametrize("padding", [0.0, np.nan])
@pytest.mark.parametrize("strategy", PoolingStrategy)
def test_text_without_tokens_gets_the_zero_vector(strategy, padding):
    lengths = [0, 3]
    hidden = hidden_of(lengths, padding=padding)
    pooled = pool(hidden, np.array(lengths), strategy)
    assert pooled[0].tolist() == [0] * 5
    np.testing.assert_allclose(pooled, reference(hidden, lengths, strategy), atol=2e-6, rtol=0)


@pytest.mark.parametrize("strategy", PoolingStrategy)
def test_no_texts_give_no_vectors(strategy):
    assert pool(np.zeros((0, 3, 5), np.float32), np.zeros(0, np.int64), strategy).shape == (0, 5)


@pytest.mark.parametrize("strategy", PoolingStrategy)
def test_input_is_left_as_it_was(strategy):
    hidden = hidden_of([3, 0, 2])
    before = hidden.copy()
    pool(hidden, np.array([3, 0, 2]), strategy)
    np.testing.assert_array_equal(hidden, before)


def test_hand_written_example():
    hidden = np.array([[[1, 10], [3, -10], [99, 99]]], np.float32)
    expected = {
        "cls": [1, 10],
        "mean": [2, 0],
        "mean_with_attention": [2, 0],
        "max": [3, 10],
        "last_token": [3, -10],
        "weightedmean": [(1 + 2 * 3) / 3, (10 - 2 * 10) / 3],
        "mean_sqrt_len": [4 / 2**0.5, 0],
    }
    actual = {str(strategy): pool(hidden, np.array([2]), strategy)[0].tolist() for strategy in PoolingStrategy}
    assert actual.keys() == expected.keys()
    assert all(actual[name] == pytest.approx(expected[name], abs=1e-6) for name in expected)


def test_normalized_rows_have_unit_length():
    vectors = np.random.RandomState(2).normal(0, 50, (20, 384)).astype(np.float32)
    expected = vectors.astype(np.float64) / np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1))[:, None]
    normalized = normalize(vectors)
    assert normalized.dtype == np.float32
    np.testing.assert_allclose(normalized, expected, atol=1e-7, rtol=0)


def test_zero_row_stays_zero():
    assert normalize(np.array([[0, 0], [3, 4]], np.float32)).tolist() == [[0, 0], np.float32([0.6, 0.8]).tolist()]


def test_tiny_row_is_divided_by_the_smallest_norm_of_pytorch():
    """torch.nn.functional.normalize divides by max(norm, 1e-12)."""
    np.testing.assert_allclose(normalize(np.array([[1e-14, 0]], np.float32)), [[1e-2, 0]], rtol=1e-6)


def test_truncated_vectors_are_the_first_components_at_unit_length():
    vectors = np.random.RandomState(3).normal(0, 1, (4, 8)).astype(np.float32)
    head = vectors[:, :3].astype(np.float64)
    expected = head / np.sqrt((head**2).sum(axis=1))[:, None]
    np.testing.assert_allclose(truncate(vectors, 3), expected, atol=1e-7, rtol=0)


def test_truncating_to_all_components_only_normalizes():
    vectors = np.array([[3, 4]], np.float32)
    np.testing.assert_allclose(truncate(vectors, 2), [[0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize("dimensions", [-1, 0, 9, 10_000])
def test_impossible_number_of_components_is_refused(dimensions):
    with pytest.raises(InputError, match=f"dimensions must be 1 to 8, not {dimensions}") as caught:
        truncate(np.ones((2, 8), np.float32), dimensions)
    assert caught.value.limit == 8
