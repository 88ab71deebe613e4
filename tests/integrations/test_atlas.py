"""The ATLAS provider with its own fall-back classes, and with a stand-in for ATLAS's."""

import asyncio
import importlib
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from neuralcore.embedding import AsyncEmbeddingEngine, EmbeddingEngine
from neuralcore.integrations import atlas

STAND_IN = """
import abc, dataclasses, enum
class EmbeddingInputType(enum.Enum):
    QUERY = "search_query"
    DOCUMENT = "search_document"
class EmbeddingProviderError(RuntimeError): pass
@dataclasses.dataclass
class EmbeddingResult:
    embedding: list
    text: str
    model: str
    tokens: int | None = None
@dataclasses.dataclass
class BatchEmbeddingResult:
    embeddings: list
    model: str
class EmbeddingProvider(abc.ABC):
    @property
    @abc.abstractmethod
    def name(self): ...
    @property
    @abc.abstractmethod
    def dimension(self): ...
    @abc.abstractmethod
    async def initialize(self): ...
    @abc.abstractmethod
    async def embed_text(self, text, *, input_type=None): ...
    @abc.abstractmethod
    async def embed_batch(self, texts, *, input_type=None): ...
"""


@pytest.fixture(params=["fall-back", "stand-in"])
def module(request, tmp_path, monkeypatch):
    """The module, loaded anew where ATLAS is missing or there."""
    if request.param == "stand-in":
        folder = tmp_path / "modules/storage/embeddings"
        folder.mkdir(parents=True)
        (folder / "base.py").write_text(STAND_IN)
        monkeypatch.syspath_prepend(tmp_path)
    yield importlib.reload(atlas)
    for name in [name for name in sys.modules if name.split(".")[0] == "modules"]:
        del sys.modules[name]
    monkeypatch.undo()
    importlib.reload(atlas)


@pytest.fixture
def folder(tiny_folder, tmp_path, monkeypatch):
    """A model whose queries and documents get different prefixes."""
    prompts = '{"prompts": {"query": "the cat ", "document": "a dog "}}'
    (tiny_folder / "config_sentence_transformers.json").write_text(prompts)
    monkeypatch.setenv("NEURALCORE_CACHE", str(tmp_path / "cache"))
    return str(tiny_folder)


def test_defaults_are_those_that_atlas_expects():
    provider = atlas.NeuralcoreEmbeddingProvider()
    assert (provider._model_name, provider._device, provider._batch_size) == ("all-MiniLM-L6-v2", "cpu", 32)
    assert provider.name == "neuralcore"


def test_classes_are_those_of_atlas_where_it_is_there(module):
    assert module.EmbeddingResult.__module__ in {
        "modules.storage.embeddings.base",
        "neuralcore.integrations.atlas_base",
    }
    assert (module.EmbeddingResult.__module__ == "modules.storage.embeddings.base") == ("modules" in sys.modules)
    assert module.NeuralcoreEmbeddingProvider.__mro__[1].__module__ == module.EmbeddingResult.__module__


def test_queries_and_documents_get_the_vectors_of_the_engine_alone_and_in_batches(module, folder):
    texts = [f"mat {chr(97 + n % 26)} {'red ' * (n % 5)}" for n in range(70)]

    async def run():
        provider = module.NeuralcoreEmbeddingProvider(Path(folder), batch_size=32)
        assert not provider.is_initialized
        with pytest.raises(module.EmbeddingProviderError):
            provider.dimension  # noqa: B018 - the property raises
        await provider.initialize()
        assert provider.is_initialized
        types = (module.EmbeddingInputType.QUERY, module.EmbeddingInputType.DOCUMENT, None)
        singles = [await provider.embed_text("mat", input_type=kind) for kind in types]
        batches = [await provider.embed_batch(texts, input_type=kind) for kind in types]
        dimension = provider.dimension
        assert (await provider.embed_batch([])).embeddings == []
        await provider.close()
        assert not provider.is_initialized
        return singles, batches, dimension

    singles, batches, dimension = asyncio.run(run())
    with EmbeddingEngine.from_pretrained(folder) as engine:
        query, document = engine.embed_query("mat"), engine.embed("mat")
        queries = engine.embed_batch(texts, embedding_type="query")
        documents = engine.embed_batch(texts)
    assert dimension == len(query)
    for result, expected in zip(singles, (query, document, document), strict=True):
        assert isinstance(result, module.EmbeddingResult)
        assert type(result.embedding) is list
        assert type(result.embedding[0]) is float
        assert (result.text, result.model) == ("mat", folder)
        np.testing.assert_allclose(result.embedding, expected, atol=1e-6)
    for result, expected in zip(batches, (queries, documents, documents), strict=True):
        assert isinstance(result, module.BatchEmbeddingResult)
        assert result.model == folder
        np.testing.assert_allclose(result.embeddings, expected, atol=1e-5)
    assert np.abs(query - document).max() > 0.01


def test_model_is_loaded_once_however_many_calls_come_first(module, folder):
    load = AsyncEmbeddingEngine.from_pretrained
    loads = []

    async def counted(*args, **kwargs):
        loads.append(args)
        return await load(*args, **kwargs)

    async def run():
        provider = module.NeuralcoreEmbeddingProvider(folder)
        await asyncio.gather(*(provider.initialize() for _ in range(20)), *map(provider.embed_text, ["cat"] * 20))
        await provider.close()

    with patch.object(AsyncEmbeddingEngine, "from_pretrained", counted):
        asyncio.run(run())
    assert len(loads) == 1


def test_errors_are_those_of_atlas_and_keep_their_cause(module, folder):
    async def run():
        with pytest.raises(module.EmbeddingProviderError, match="no-such") as caught:
            await module.NeuralcoreEmbeddingProvider("no-such-model").initialize()
        assert caught.value.__cause__ is not None
        provider = module.NeuralcoreEmbeddingProvider(folder)
        with pytest.raises(module.EmbeddingProviderError, match="text 1"):
            await provider.embed_batch(["fine", "\ud800"])
        with pytest.raises(module.EmbeddingProviderError, match="a dict, of which the keys would be embedded"):
            await provider.embed_batch({"cat": 1})
        assert len((await provider.embed_batch(text for text in ["cat", "mat"])).embeddings) == 2
        with pytest.raises(module.EmbeddingProviderError, match="input_type"):
            await provider.embed_text("a", input_type="something else")
        await provider.close()
        with pytest.raises(module.EmbeddingProviderError, match="batch_size"):
            module.NeuralcoreEmbeddingProvider(batch_size=0)

    asyncio.run(run())
