"""LangChain's own suites, and the prefixes."""

import numpy as np
import pytest
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from neuralcore.integrations.langchain import NeuralcoreEmbeddings

pytestmark = pytest.mark.edges


class TestUnit(EmbeddingsUnitTests):
    embeddings_class = NeuralcoreEmbeddings

    @property
    def embedding_model_params(self):
        return {"model": "all-MiniLM-L6-v2"}


class TestIntegration(EmbeddingsIntegrationTests):
    embeddings_class = NeuralcoreEmbeddings

    @property
    def embedding_model_params(self):
        return {"model": "all-MiniLM-L6-v2"}


def test_queries_and_documents_get_their_prefixes(asymmetric, engine):
    embeddings = NeuralcoreEmbeddings(asymmetric)
    np.testing.assert_allclose(embeddings.embed_query("mat"), engine.embed_query("mat"), atol=1e-6)
    np.testing.assert_allclose(embeddings.embed_documents(["mat"])[0], engine.embed("mat"), atol=1e-6)
    assert np.abs(engine.embed_query("mat") - engine.embed("mat")).max() > 0.01


def test_vector_store_finds_the_nearest(minilm):
    store = InMemoryVectorStore(NeuralcoreEmbeddings(engine=minilm))
    store.add_texts(["A kitten rested on the rug.", "Stocks dropped this morning."])
    assert store.similarity_search("a cat", k=1)[0].page_content == "A kitten rested on the rug."
