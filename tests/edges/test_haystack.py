"""Haystack: pipelines that are saved, loaded and run."""

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.document_stores.in_memory import InMemoryDocumentStore

from neuralcore.embedding import InputError
from neuralcore.integrations.haystack import NeuralcoreDocumentEmbedder, NeuralcoreTextEmbedder

pytestmark = [pytest.mark.edges, pytest.mark.filterwarnings("ignore")]  # its own

ALLOWED = ["neuralcore.integrations.*"]


def test_pipelines_are_saved_loaded_and_find_the_nearest():
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    indexing = Pipeline()
    indexing.add_component("embed", NeuralcoreDocumentEmbedder("all-MiniLM-L6-v2", threads=2, meta_fields=["title"]))
    indexing.add_component("write", DocumentWriter(store))
    indexing.connect("embed.documents", "write.documents")
    loaded = Pipeline.loads(indexing.dumps(), allowed_modules=ALLOWED)
    assert loaded.get_component("embed").to_dict() == indexing.get_component("embed").to_dict()
    assert loaded.get_component("embed").meta_fields == ["title"]
    documents = [Document(content="A kitten rested.", meta={"title": "Rugs"}), Document(content="Stocks dropped.")]
    indexing.run({"embed": {"documents": documents}})
    assert all(document.embedding is None for document in documents)  # the user's own stay as they are

    asking = Pipeline()
    asking.add_component("embed", NeuralcoreTextEmbedder("all-MiniLM-L6-v2"))
    asking.add_component("find", InMemoryEmbeddingRetriever(store, top_k=1))
    asking.connect("embed.embedding", "find.query_embedding")
    assert asking.run({"embed": {"text": "a cat"}})["find"]["documents"][0].content == "A kitten rested."
    again = Pipeline.loads(asking.dumps(), allowed_modules=[*ALLOWED, "haystack.*"])
    assert again.get_component("embed").run("a cat") == asking.get_component("embed").run("a cat")


def test_queries_and_documents_get_their_prefixes(asymmetric, engine):
    query = NeuralcoreTextEmbedder(asymmetric).run("mat")["embedding"]
    np.testing.assert_allclose(query, engine.embed_query("mat"), atol=1e-6)
    given = [Document(content="mat", meta={"title": "red"}), Document(content=None)]
    documents = NeuralcoreDocumentEmbedder(asymmetric, meta_fields=["title"]).run(given)["documents"]
    np.testing.assert_allclose(documents[0].embedding, engine.embed("red\nmat"), atol=1e-6)
    np.testing.assert_allclose(documents[1].embedding, engine.embed(""), atol=1e-6)
    assert documents[0].id == given[0].id
    assert NeuralcoreDocumentEmbedder(asymmetric).run([])["documents"] == []


def test_text_for_the_document_embedder_is_refused_with_the_way_out(asymmetric):
    with pytest.raises(InputError, match="NeuralcoreTextEmbedder"):
        NeuralcoreDocumentEmbedder(asymmetric).run("a text")
