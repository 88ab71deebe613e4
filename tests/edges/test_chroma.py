"""Chroma: a collection that is kept, opened again by another process and asked."""

import subprocess
import sys

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings

from neuralcore.integrations.chroma import NeuralcoreEmbeddingFunction

pytestmark = [pytest.mark.edges, pytest.mark.filterwarnings("ignore")]  # its own

QUIET = "Settings(anonymized_telemetry=False)"
REOPEN = f"""
import sys, chromadb
from chromadb.config import Settings
import neuralcore.integrations.chroma
collection = chromadb.PersistentClient(sys.argv[1], {QUIET}).get_collection("docs")
print(collection.query(query_texts=["a cat"], n_results=1)["ids"][0][0])
"""


def test_collection_is_kept_and_another_process_asks_it_without_naming_the_model(tmp_path):
    client = chromadb.PersistentClient(str(tmp_path), Settings(anonymized_telemetry=False))
    function = NeuralcoreEmbeddingFunction("all-MiniLM-L6-v2")
    collection = client.create_collection("docs", embedding_function=function)
    collection.add(ids=["cat", "market"], documents=["A kitten rested on the rug.", "Stocks dropped this morning."])
    assert collection.query(query_texts=["shares fell"], n_results=1)["ids"] == [["market"]]
    done = subprocess.run(
        [sys.executable, "-c", REOPEN, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "cat", done.stderr


def test_queries_and_documents_get_their_prefixes(asymmetric, engine):
    function = NeuralcoreEmbeddingFunction(asymmetric)
    np.testing.assert_allclose(function(["mat"])[0], engine.embed("mat"), atol=1e-6)
    np.testing.assert_allclose(function.embed_query(["mat"])[0], engine.embed_query("mat"), atol=1e-6)
    collection = chromadb.EphemeralClient(Settings(anonymized_telemetry=False)).create_collection(
        "prefixes", embedding_function=function
    )
    collection.add(ids=["1"], documents=["mat"])
    stored = collection.get(include=["embeddings"])["embeddings"][0]
    np.testing.assert_allclose(stored, engine.embed("mat"), atol=1e-6)
    distance = collection.query(query_texts=["mat"])["distances"][0][0]
    assert distance == pytest.approx(1 - float(engine.embed("mat") @ engine.embed_query("mat")), abs=1e-4)


def test_configuration_rebuilds_the_function_and_another_model_is_refused(asymmetric):
    function = NeuralcoreEmbeddingFunction(asymmetric, threads=1)
    assert not function.is_legacy()
    again = NeuralcoreEmbeddingFunction.build_from_config(function.get_config())
    assert again.get_config() == function.get_config()
    with pytest.raises(ValueError, match="model"):
        function.validate_config_update(function.get_config(), {**function.get_config(), "model": "other"})
    function.validate_config_update(function.get_config(), {**function.get_config(), "threads": 2})
