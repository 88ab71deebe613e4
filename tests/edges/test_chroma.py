"""Chroma: a collection that is kept, opened again by another process and asked."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings

from neuralcore.integrations.chroma import NeuralcoreEmbeddingFunction
from tests import tiny_model
from tests.edges.conftest import PROMPTS

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


def test_configuration_rebuilds_the_function_and_another_model_is_refused(asymmetric, other):
    function = NeuralcoreEmbeddingFunction(asymmetric, threads=1)
    assert not function.is_legacy()
    again = NeuralcoreEmbeddingFunction.build_from_config(function.get_config())
    assert again.get_config() == function.get_config()
    with pytest.raises(ValueError, match="weights was"):
        function.validate_config_update(function.get_config(), NeuralcoreEmbeddingFunction(other).get_config())
    same_space = NeuralcoreEmbeddingFunction(asymmetric, precision="fp16", threads=2)
    function.validate_config_update(function.get_config(), same_space.get_config())
    assert pickle.loads(pickle.dumps(function)).name() == function.name()


@pytest.fixture
def other(tmp_path):
    """As many dimensions and the same prompts, but other weights: nothing else tells them apart."""
    return tiny_model.write(tmp_path / "other", seed=8, prompts=PROMPTS)


def client_of(folder):
    return chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False))


@pytest.mark.parametrize("opening", ["get_collection", "get_or_create_collection"])
def test_collection_of_one_model_is_not_opened_with_another(asymmetric, other, tmp_path, opening):
    client = client_of(tmp_path)
    client.create_collection("docs", embedding_function=NeuralcoreEmbeddingFunction(asymmetric))
    with pytest.raises(ValueError, match=r"[Ee]mbedding function conflict"):
        getattr(client, opening)("docs", embedding_function=NeuralcoreEmbeddingFunction(other))
    same_space = NeuralcoreEmbeddingFunction(asymmetric, precision="fp16")
    getattr(client, opening)("docs", embedding_function=same_space)
    collection, configuration = (
        client.get_collection("docs"),
        {"embedding_function": NeuralcoreEmbeddingFunction(other)},
    )
    with pytest.raises(ValueError, match="incompatible"):
        collection.modify(configuration=configuration)


def test_model_is_known_by_its_weights_and_not_by_where_it_lies(asymmetric, engine, tmp_path):
    client = client_of(tmp_path / "chroma")
    function = NeuralcoreEmbeddingFunction(Path(asymmetric))
    client.create_collection("docs", embedding_function=function).add(ids=["1"], documents=["mat"])
    moved = shutil.copytree(asymmetric, tmp_path / "moved")
    again = client.get_collection("docs", embedding_function=NeuralcoreEmbeddingFunction(moved))
    assert again.query(query_texts=["mat"])["ids"] == [["1"]]
    assert function.get_config()["model"] == asymmetric


def test_folder_whose_weights_have_changed_is_not_asked(tmp_path):
    folder = tiny_model.write(tmp_path / "model", seed=7)
    client = client_of(tmp_path / "chroma")
    function = NeuralcoreEmbeddingFunction(folder)
    client.create_collection("docs", embedding_function=function).add(ids=["1"], documents=["a"])
    tiny_model.write(folder, seed=8)
    with pytest.raises(ValueError, match="of another space: weights was"):
        client.get_collection("docs").query(query_texts=["a"])
