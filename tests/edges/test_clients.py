"""Clients that people already have, against the real server."""

import json
import subprocess

import httpx
import numpy as np
import pytest
from langchain_openai import OpenAIEmbeddings
from openai import AuthenticationError, BadRequestError, NotFoundError, OpenAI

from tests.server_process import running

pytestmark = pytest.mark.edges

TEXTS = ["A cat sat on the mat.", "Stocks dropped this morning.", "日本語 🎉", ""]
KEY = "a key"


@pytest.fixture(scope="module")
def server(minilm_cache):
    with running("all-MiniLM-L6-v2", "--api-key", KEY, cache=minilm_cache) as server:
        yield server


@pytest.fixture
def client(server):
    return OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0)


@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_openai_client_gets_the_vectors_of_the_engine(client, minilm, options):
    answer = client.embeddings.create(model="all-MiniLM-L6-v2", input=TEXTS, **options)
    vectors = [row.embedding for row in answer.data]
    if options.get("encoding_format") == "base64":  # asked for by name, it is left as it is
        import base64

        vectors = [np.frombuffer(base64.b64decode(code), "<f4") for code in vectors]
    np.testing.assert_allclose(vectors, minilm.embed_batch(TEXTS), atol=1e-5)
    assert answer.usage.total_tokens == minilm.count_tokens(TEXTS).sum()


def test_openai_client_cuts_dimensions_lists_models_and_understands_the_errors(client, server):
    short = client.embeddings.create(model="all-MiniLM-L6-v2", input="a", dimensions=16).data[0].embedding
    assert len(short) == 16
    assert np.linalg.norm(short) == pytest.approx(1, abs=1e-5)
    assert [model.id for model in client.models.list()] == ["all-MiniLM-L6-v2"]
    with pytest.raises(NotFoundError) as missing:
        client.embeddings.create(model="text-embedding-3-small", input="a")
    assert missing.value.code == "model_not_found"
    with pytest.raises(BadRequestError, match="dimensions"):
        client.embeddings.create(model="all-MiniLM-L6-v2", input="a", dimensions=1000)
    with pytest.raises(AuthenticationError):
        OpenAI(base_url=f"{server.url}/v1", api_key="wrong").models.list()


def test_langchain_client_gets_the_vectors_of_the_engine(server, minilm):
    embeddings = OpenAIEmbeddings(
        model="all-MiniLM-L6-v2", base_url=f"{server.url}/v1", api_key=KEY, check_embedding_ctx_length=False
    )
    np.testing.assert_allclose(embeddings.embed_documents(TEXTS[:3]), minilm.embed_batch(TEXTS[:3]), atol=1e-5)
    np.testing.assert_allclose(embeddings.embed_query(TEXTS[0]), minilm.embed_query(TEXTS[0]), atol=1e-5)


def test_tei_request_and_plain_curl(server, minilm):
    expected = minilm.embed_batch(TEXTS)
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = httpx.post(f"{server.url}/embed", json={"inputs": TEXTS, "truncate": True}, headers=headers)
    np.testing.assert_allclose(answer.json(), expected, atol=1e-5)
    body = json.dumps({"input": TEXTS})
    command = ["curl", "-s", f"{server.url}/v1/embeddings", "-H", f"Authorization: Bearer {KEY}", "-d", body]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    np.testing.assert_allclose([row["embedding"] for row in json.loads(done.stdout)["data"]], expected, atol=1e-5)
