"""LlamaIndex: an index that is built, kept, opened again and asked."""

import asyncio

import numpy as np
import pytest
from llama_index.core import Document, StorageContext, VectorStoreIndex, load_index_from_storage

from neuralcore.integrations.llama_index import NeuralcoreEmbedding

pytestmark = [pytest.mark.edges, pytest.mark.filterwarnings("ignore")]  # its own

TEXTS = ["A kitten rested on the rug.", "Stocks dropped this morning.", "Bread needs flour."]


def test_queries_and_texts_get_their_prefixes_in_every_method(asymmetric, engine):
    model = NeuralcoreEmbedding(model_name=asymmetric)
    query, document = engine.embed_query("mat"), engine.embed("mat")

    async def asynchronous():
        batch = await model.aget_text_embedding_batch(["mat"])
        return await model.aget_query_embedding("mat"), await model.aget_text_embedding("mat"), batch[0]

    a_query, a_text, a_batch = asyncio.run(asynchronous())
    for vector in (model.get_query_embedding("mat"), a_query):
        np.testing.assert_allclose(vector, query, atol=1e-6)
    for vector in (model.get_text_embedding("mat"), model.get_text_embedding_batch(["mat"])[0], a_text, a_batch):
        np.testing.assert_allclose(vector, document, atol=1e-6)
    assert model.to_dict()["class_name"] == "NeuralcoreEmbedding"
    assert NeuralcoreEmbedding.from_dict(model.to_dict()).get_text_embedding("mat") == model.get_text_embedding("mat")


def test_index_is_kept_opened_again_and_finds_the_nearest(tmp_path):
    model = NeuralcoreEmbedding(model_name="all-MiniLM-L6-v2")
    index = VectorStoreIndex.from_documents([Document(text=text) for text in TEXTS], embed_model=model)
    index.storage_context.persist(tmp_path)
    again = load_index_from_storage(StorageContext.from_defaults(persist_dir=str(tmp_path)), embed_model=model)
    found = again.as_retriever(similarity_top_k=1).retrieve("a cat")
    assert found[0].text == TEXTS[0]
