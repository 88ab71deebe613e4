"""The vectors of sentence-transformers, which scripts/golden_vectors.py wrote, against those of the engine."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from scripts.golden_texts import TEXTS

from neuralcore.embedding import EmbeddingEngine

GOLDEN = Path(__file__).parent / "golden"
LARGEST_DIFFERENCE = 1e-5
SMALLEST_COSINE = 0.99999


def golden(model: str) -> np.ndarray:
    with np.load(GOLDEN / f"{model}.npz") as file:
        return file["vectors"]


def assert_same_vectors(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.dtype == np.float32
    assert np.abs(actual - expected).max() <= LARGEST_DIFFERENCE
    cosine = (actual.astype(np.float64) * expected).sum(axis=1)
    assert cosine.min() >= SMALLEST_COSINE


@pytest.fixture(scope="module", params=["all-MiniLM-L6-v2", pytest.param("all-mpnet-base-v2", marks=pytest.mark.full)])
def model(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def engine(model):
    with EmbeddingEngine.from_pretrained(model, threads=2) as engine:
        yield engine


@pytest.fixture(scope="module")
def expected(model) -> np.ndarray:
    return golden(model)


def test_there_are_at_least_200_texts(expected):
    assert len(TEXTS) == len(expected) >= 200


def test_each_text_alone(engine, expected):
    assert_same_vectors(np.stack([engine.embed(text) for text in TEXTS]), expected)


@pytest.mark.parametrize(
    "size", [pytest.param(2, marks=pytest.mark.full), 7, pytest.param(32, marks=pytest.mark.full), 250]
)
def test_in_batches(engine, expected, size):
    blocks = [engine.embed_batch(TEXTS[start : start + size]) for start in range(0, len(TEXTS), size)]
    assert_same_vectors(np.concatenate(blocks), expected)


def test_shuffled(engine, expected):
    order = np.random.default_rng(0).permutation(len(TEXTS))
    assert_same_vectors(engine.embed_batch([TEXTS[i] for i in order]), expected[order])


def test_beside_texts_of_another_length(engine, expected):
    neighbour = "word " * 1000
    for index in range(0, len(TEXTS), 25):
        pair = engine.embed_batch([neighbour, TEXTS[index]])
        assert_same_vectors(pair[1:], expected[index : index + 1])


def test_from_several_threads(engine, expected):
    with ThreadPoolExecutor(4) as pool:
        alone = pool.map(engine.embed, TEXTS)
        batches = list(pool.map(lambda _: engine.embed_batch(TEXTS), range(2)))
        assert_same_vectors(np.stack(list(alone)), expected)
    for batch in batches:
        assert_same_vectors(batch, expected)


def test_in_a_stream(engine, expected):
    assert_same_vectors(np.concatenate(list(engine.embed_stream(iter(TEXTS)))), expected)


def test_with_one_thread(model, expected):
    with EmbeddingEngine.from_pretrained(model, threads=1) as engine:
        assert_same_vectors(engine.embed_batch(TEXTS), expected)
