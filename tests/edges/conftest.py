"""A small model whose queries and documents get different prefixes, for adapters that must tell them apart."""

import pytest

from neuralcore.embedding import EmbeddingEngine
from tests import tiny_model

PROMPTS = {"query": "the cat ", "document": "a dog "}


@pytest.fixture(scope="session")
def asymmetric(tmp_path_factory):
    return str(tiny_model.write(tmp_path_factory.mktemp("model") / "asymmetric", prompts=PROMPTS))


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache, monkeypatch, request):
    if "asymmetric" in request.fixturenames:
        monkeypatch.setenv("NEURALCORE_CACHE", str(cache))


@pytest.fixture
def engine(asymmetric):
    with EmbeddingEngine.from_pretrained(asymmetric) as engine:
        yield engine
