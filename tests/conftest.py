"""Real models for the tests, from wherever the store finds them, and small random ones."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from neuralcore.embedding import EmbeddingEngine
from neuralcore.embedding.precision.variants import ensure_variant
from neuralcore.embedding.store import make_store
from neuralcore.embedding.types import Precision
from tests import tiny_model

MINILM, MPNET = "all-MiniLM-L6-v2", "all-mpnet-base-v2"

collect_ignore = [] if find_spec("chromadb") else ["edges"]  # make test-edges installs what these need

hypothesis_settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis_settings.load_profile("steady")


@pytest.fixture(scope="session", autouse=True)
def _no_settings_of_the_user():
    """What the user's environment says of caches and mirrors must not decide what a test finds."""
    for name in ("NEURALCORE_CACHE", "NEURALCORE_API_KEY", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
        os.environ.pop(name, None)
    if os.environ.get("NEURALCORE_ISA", "").lower() == "none":  # a name is how the tests are run with other kernels
        del os.environ["NEURALCORE_ISA"]


@pytest.fixture(scope="session")
def minilm_cache() -> Path:
    """A cache folder in which all-MiniLM-L6-v2 is ready."""
    store = make_store()
    ensure_variant(store, store.ensure(MINILM), Precision.FP32)
    return store.cache


@pytest.fixture(scope="session")
def minilm_folder(minilm_cache) -> Path:
    """The original files of all-MiniLM-L6-v2."""
    return make_store(minilm_cache).fetch(MINILM)


@pytest.fixture(scope="session")
def mpnet_folder() -> Path:
    """The original files of all-mpnet-base-v2."""
    return make_store().fetch(MPNET)


@pytest.fixture(scope="session")
def minilm(minilm_cache):
    with EmbeddingEngine.from_pretrained(MINILM, cache_dir=minilm_cache, threads=2) as engine:
        yield engine


@pytest.fixture
def tiny_folder(tmp_path) -> Path:
    """A folder laid out by sentence-transformers: a random BERT of 48 dimensions, mean pooling, normalised."""
    return tiny_model.write(tmp_path / "tiny")
