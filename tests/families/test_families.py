"""Every family's model, from its folder, gives sentence-transformers' vectors."""

from functools import cache
from importlib import import_module, resources

import numpy as np
import pytest

from neuralcore.embedding import EmbeddingEngine
from neuralcore.embedding.families import _MODULES, MODEL_TYPES
from tests.families import KINDS, modules, texts_of
from tests.families.texts import TEXTS

CASES = {case.name: (module, case) for module, cases in modules().items() for case in cases}
RUNS = [
    (name, backend)
    for name, (_, case) in CASES.items()
    for backend in ("onnxruntime", *(["auto"] if case.is_native else []))
]
BOUND, BOUND_OF_UNIT_LENGTH = 5e-6, 1e-6


@cache
def golden(module):
    with np.load(resources.files("tests.golden") / f"families_{module}.npz") as arrays:
        return dict(arrays)


def compare(vectors, name, kind="fp32"):
    """A folder's vectors are what sentence-transformers gives of it."""
    module, case = CASES[name]
    bound = BOUND_OF_UNIT_LENGTH if case.normalize else BOUND
    np.testing.assert_allclose(vectors, golden(module)[f"{name}/{kind}"], atol=bound, rtol=0)


@pytest.mark.parametrize(("name", "backend"), RUNS)
def test_vectors_are_those_of_sentence_transformers(tmp_path, name, backend):
    folder = CASES[name][1].write(tmp_path / "model")
    with EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache", backend=backend) as engine:
        compare(np.array([engine.embed(text) for text in TEXTS]), name)
        compare(engine.embed_batch(TEXTS), name)
        order = np.random.RandomState(1).permutation(len(TEXTS))
        shuffled = engine.embed_batch([TEXTS[number] for number in order])
        compare(shuffled[np.argsort(order)], name)


@pytest.mark.full
@pytest.mark.parametrize("n_shards", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_vectors_are_the_same_whatever_files_the_weights_are_in(tmp_path, name, kind, n_shards):
    folder = CASES[name][1].write(tmp_path / "model", kind, n_shards=n_shards)
    with EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache") as engine:
        compare(engine.embed_batch(texts_of(kind)), name, kind)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [kind for kind in MODEL_TYPES if kind != "new"])  # which is no class of transformers
def test_prefixes_are_those_of_transformers(kind):
    transformers = pytest.importorskip("transformers")
    known = getattr(import_module(f"neuralcore.embedding.families.{_MODULES[kind]}"), "PREFIXES", ())
    prefix = transformers.AutoModel._model_mapping[type(transformers.AutoConfig.for_model(kind))].base_model_prefix
    assert f"{prefix}." in (*known, "model.")
