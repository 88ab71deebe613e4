"""FP16 and INT8 of every family are near fp32, or refused for what they are."""

import numpy as np
import pytest

from neuralcore.embedding import EmbeddingEngine, Precision, VerificationFailed
from neuralcore.embedding.backends.native.kernels import choose_isa, compiled_isas
from neuralcore.embedding.precision.agreement import BOUNDS, failures, measure
from neuralcore.embedding.samples import verification_texts
from tests.families.test_families import CASES, golden
from tests.families.texts import TEXTS

MADE = (Precision.FP16, Precision.BF16, Precision.INT8, Precision.DYNAMIC_INT8)
NATIVE_MEAN, NATIVE_LOWEST = 0.999, 0.99
NATIVE = [name for name, (_, case) in CASES.items() if case.is_native]


def load(case, path, precision=Precision.FP32):
    """An engine on a case's folder, which is written if need be."""
    folder = path / "model"
    if not folder.exists():
        case.write(folder)
    return EmbeddingEngine.from_pretrained(folder, cache_dir=path / "cache", precision=precision)


def cosines(vectors, expected):
    """Of each text's two vectors."""
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    return (vectors * expected).sum(axis=1) / lengths


@pytest.mark.full
@pytest.mark.parametrize("precision", MADE, ids=lambda precision: precision.value)
@pytest.mark.parametrize("name", CASES)
def test_model_is_within_the_bounds_of_its_precision_or_refused_by_them(tmp_path, name, precision):
    case = CASES[name][1]
    if precision is Precision.BF16 and not (case.is_native and choose_isa(precision)):
        pytest.skip("bf16 is for the kernels, and not for all CPUs")
    try:
        engine = load(case, tmp_path, precision)
    except VerificationFailed:  # and nothing else
        return
    with engine, load(case, tmp_path) as reference:
        agreement = measure(reference.embed_batch, engine.embed_batch, verification_texts())
    assert not failures(agreement, BOUNDS[precision])


@pytest.mark.full
@pytest.mark.skipif(not compiled_isas(), reason="this installation has no native kernels")
@pytest.mark.parametrize("name", NATIVE)
def test_kernels_are_near_sentence_transformers_and_the_same_in_any_batch(tmp_path, name):
    module, case = CASES[name]
    expected = golden(module)[f"{name}/fp32"]
    with load(case, tmp_path, Precision.INT8) as engine:
        assert engine.backend.startswith("native")
        alone = np.array([engine.embed(text) for text in TEXTS])
        order = np.random.RandomState(2).permutation(len(TEXTS))
        shuffled = engine.embed_batch([TEXTS[number] for number in order])
    np.testing.assert_array_equal(shuffled[np.argsort(order)], alone)
    found = cosines(alone, expected)
    assert found.mean() >= NATIVE_MEAN
    assert found.min() >= NATIVE_LOWEST
