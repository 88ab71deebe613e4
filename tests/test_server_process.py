"""The server as its users start it: real requests over loopback, real signals."""

import asyncio
import base64
import json
import logging
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from queue import Queue

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from neuralcore.embedding import EmbeddingEngine
from neuralcore.embedding.server.logs import _DroppingHandler
from neuralcore.embedding.server.process import Server
from neuralcore.embedding.server.service import Service
from tests import server_process, tiny_model
from tests.server_process import COMMAND, running

SECRET = "a very secret text about the cat"
TEXTS = ["the cat sat on the mat", "a dog ran", SECRET]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model.write(
        tmp_path_factory.mktemp("model") / "tiny", prompts={"query": "the cat ", "document": "a dog "}
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def engine(folder, cache):
    with EmbeddingEngine.from_pretrained(folder, cache_dir=cache) as engine:
        yield engine


@pytest.fixture(scope="module")
def server(folder, cache, engine):
    limits = (
        "--max-texts",
        "5",
        "--max-tokens",
        "100",
        "--max-body-bytes",
        "20000",
        "--alias",
        "text-embedding-3-small",
    )
    with running(folder, *limits, cache=cache) as server:
        yield server


def test_openai_gives_numbers_exactly_as_the_engine_computes_them(server, engine):
    answer = server.post("/v1/embeddings", {"input": TEXTS, "model": "tiny"})
    assert answer.status == 200
    body = answer.json()
    assert [row["index"] for row in body["data"]] == [0, 1, 2]
    assert (body["object"], body["model"], body["data"][0]["object"]) == ("list", "tiny", "embedding")
    vectors = np.array([row["embedding"] for row in body["data"]], np.float32)
    np.testing.assert_allclose(vectors, engine.embed_batch(TEXTS), atol=1e-6)
    n_tokens = int(engine.count_tokens(TEXTS).clip(max=engine.max_tokens).sum())
    assert body["usage"] == {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
    assert "encode;dur=" in answer.headers["server-timing"]


def test_base64_is_little_endian_float32_of_the_same_vectors(server):
    numbers = server.post("/v1/embeddings", {"input": TEXTS}).json()["data"]
    coded = server.post("/v1/embeddings", {"input": TEXTS, "encoding_format": "base64"}).json()["data"]
    for row, code in zip(numbers, coded, strict=True):
        vector = np.frombuffer(base64.b64decode(code["embedding"]), "<f4")
        np.testing.assert_array_equal(vector, np.array(row["embedding"], np.float32))


def test_queries_get_the_query_prefix_in_both_dialects(server, engine):
    query = engine.embed_query(TEXTS[0])
    openai = server.post("/v1/embeddings", {"input": TEXTS[0], "input_type": "query"}).json()["data"][0]["embedding"]
    tei = server.post("/embed", {"inputs": TEXTS[0], "prompt_name": "query"}).json()[0]
    np.testing.assert_allclose(openai, query, atol=1e-6)
    np.testing.assert_allclose(tei, query, atol=1e-6)
    assert np.abs(query - engine.embed(TEXTS[0])).max() > 0.01


def test_any_text_is_a_prompt_in_both_dialects(server, engine):
    expected = engine.embed(TEXTS[0], prompt="a red mat: ")
    openai = server.post("/v1/embeddings", {"input": TEXTS[0], "prompt": "a red mat: "}).json()["data"][0]["embedding"]
    tei = server.post("/embed", {"inputs": TEXTS[0], "prompt": "a red mat: "}).json()[0]
    np.testing.assert_allclose(openai, expected, atol=1e-6)
    np.testing.assert_allclose(tei, expected, atol=1e-6)
    assert np.abs(expected - engine.embed(TEXTS[0])).max() > 0.01


def test_tei_gives_a_list_of_lists_cut_and_scaled_to_the_dimensions_asked_for(server, engine):
    vectors = np.array(server.post("/embed", {"inputs": TEXTS, "dimensions": 7}).json())
    expected = engine.embed_batch(TEXTS)[:, :7].astype(np.float64)
    np.testing.assert_allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)


def test_token_ids_of_the_model_give_the_vector_of_their_text(server, engine):
    ids = engine.tokenize(["the cat sat"]).ids.tolist()
    for given in (ids, [ids]):
        vector = server.post("/v1/embeddings", {"input": given}).json()["data"][0]["embedding"]
        np.testing.assert_allclose(vector, engine.embed("the cat sat"), atol=1e-6)


def test_token_ids_of_another_tokenizer_are_refused_with_the_way_out(server):
    answer = server.post("/v1/embeddings", {"input": [[15339, 1917]]})
    assert answer.status == 400
    assert "check_embedding_ctx_length=False" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "not JSON"),
        (b"[]", 400, "JSON object"),
        ({}, 400, "input is"),
        ({"input": []}, 400, "empty"),
        ({"input": ["a", 1]}, 400, "input is"),
        ({"input": [True]}, 400, "input is"),
        ({"input": [[]]}, 400, "input is"),
        ({"input": "a", "encoding_format": "hex"}, 400, "encoding_format"),
        ({"input": "a", "dimensions": 0}, 400, "at least 1"),
        ({"input": "a", "dimensions": 49}, 400, "at most 48"),
        ({"input": "a", "dimensions": True}, 400, "dimensions"),
        ({"input": "a", "model": "gpt-4"}, 404, "--alias"),
        ({"input": "a", "input_type": "nonsense"}, 422, "no prompt"),
        ({"input": "a", "input_type": ""}, 422, "no prompt"),
        ({"input": "a", "input_type": "query", "prompt": "b"}, 400, "prompt and input_type exclude"),
        ({"input": "a", "prompt": "b" * 10_001}, 400, "at most 10000"),
        ({"input": "a", "prompt": 5}, 400, "prompt must be of type str"),
        ({"input": [5], "prompt": "b"}, 400, "before texts; input has token ids"),
        ({"input": "a", "prompt": "\ud800"}, 400, "not JSON"),
        ({"input": "a", "encoding_format": ""}, 400, "encoding_format"),
        ({"input": "a", "encoding_format": []}, 400, "encoding_format"),
        ({"input": "a", "task": "retrieval.query"}, 400, "'task' is not known"),
        ({"input": "a", "normalize": False}, 400, "'normalize' is not known"),
        ({"input": [[2**63]]}, 400, "check_embedding_ctx_length"),
        ({"input": [[-1]]}, 400, "check_embedding_ctx_length"),
        ({"input": ["a"] * 6}, 422, "limit of a request is 5"),
        ({"input": ["a " * 40] * 4}, 422, "limit of a request is 100"),
        ({"input": "a" * 30000}, 413, "20000 bytes"),
    ],
)
def test_bad_request_is_told_what_is_wrong_in_the_shape_of_openai(server, body, status, words):
    answer = server.post("/v1/embeddings", body)
    assert answer.status == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert words in error["message"]


def test_tei_refuses_in_the_shape_of_tei(server):
    long = server.post("/embed", {"inputs": "cat " * 60, "truncate": False})
    assert long.status == 422
    assert long.json()["error_type"] == "validation"
    assert "the limit is 32" in long.json()["error"]
    assert server.post("/embed", {"inputs": "cat " * 60}).headers["x-truncated-texts"] == "1"
    assert server.post("/embed", {"inputs": "cat", "normalize": False}).status == 422
    assert server.post("/embed", {"inputs": "cat", "prompt_name": ""}).status == 422
    assert server.post("/embed", {"inputs": "cat", "parameters": {"truncate": False}}).status == 400


def test_the_other_end_of_a_text_is_not_cut_in_silence(server):
    left = {"inputs": "cat " * 60, "truncation_direction": "Left"}
    refused = server.post("/embed", left)
    assert (refused.status, refused.json()["error_type"]) == (422, "validation")
    assert "truncation_direction" in refused.json()["error"]
    short = {"inputs": "cat", "truncate": False}
    assert server.post("/embed", short | {"truncation_direction": "Left"}).json() == server.post("/embed", short).json()
    right = server.post("/embed", left | {"truncation_direction": "Right"})
    assert (right.status, right.headers["x-truncated-texts"]) == (200, "1")
    assert server.post("/embed", left | {"truncation_direction": "Up"}).status == 400
    assert server.post("/embed", left | {"truncation_direction": 1}).status == 400


def test_client_of_the_hub_gets_vectors_and_is_told_what_is_not_done(server, engine):
    from huggingface_hub import InferenceClient
    from huggingface_hub.errors import HfHubHTTPError

    client = InferenceClient(model=f"{server.url}/embed")
    vectors = client.feature_extraction("the cat", normalize=True, truncate=True, truncation_direction="right")
    np.testing.assert_allclose(vectors[0], engine.embed("the cat"), atol=1e-6)
    with pytest.raises(HfHubHTTPError, match="422"):
        client.feature_extraction("the cat", truncate=True, truncation_direction="left")


def test_client_of_the_hub_needs_no_path(server, engine):
    from huggingface_hub import InferenceClient

    vectors = InferenceClient(model=server.url).feature_extraction(["the cat", "a dog"])
    np.testing.assert_allclose(vectors, engine.embed_batch(["the cat", "a dog"]), atol=1e-6)
    assert server.post("/", {"inputs": 1}).json()["error_type"] == "validation"
    page = server.request("GET", "/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert server.request("HEAD", "/").status == 200


def test_fields_that_change_no_vector_and_null_are_no_matter(server):
    plain = server.post("/v1/embeddings", {"input": "cat"}).json()
    extra = {"user": "someone", "dimensions": None, "encoding_format": None, "input_type": None, "task": None}
    assert server.post("/v1/embeddings", {"input": "cat"} | extra).json() == plain


def test_other_names_answer_and_unknown_paths_and_methods_do_not(server):
    assert server.post("/v1/embeddings", {"input": "a", "model": "text-embedding-3-small"}).status == 200
    names = [model["id"] for model in server.request("GET", "/v1/models").json()["data"]]
    assert names == ["tiny", "text-embedding-3-small"]
    assert server.request("GET", "/nothing").status == 404
    assert server.request("GET", "/embed").status == 405
    info = server.request("GET", "/info").json()
    assert (info["model_id"], info["max_input_length"], info["dimension"]) == ("tiny", 32, 48)


def test_body_without_a_length_is_read_no_further_than_the_limit(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"1000\r\n" + b"a" * 4096 + b"\r\n"
        for _ in range(8):  # 32 KiB of a body that never ends
            client.sendall(chunk)
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_metrics_count_what_was_asked_and_parse_as_prometheus(server):
    def read():
        families = text_string_to_metric_families(server.request("GET", "/metrics").body.decode())
        return {(s.name, s.labels.get("route"), s.labels.get("status")): s.value for f in families for s in f.samples}

    before = read()
    server.post("/embed", {"inputs": [*TEXTS, "cat " * 60]})
    server.request("GET", "/unknown/1")
    after = read()
    gained = {key: value - before.get(key, 0) for key, value in after.items()}
    assert gained["neuralcore_requests_total", "/embed", "200"] == 1
    assert gained["neuralcore_requests_total", "other", "404"] == 1
    assert gained["neuralcore_texts_total", None, None] == 4
    assert gained["neuralcore_truncated_texts_total", None, None] == 1
    assert gained["neuralcore_batch_texts_sum", None, None] == 4
    assert gained["neuralcore_batch_tokens_sum", None, None] == gained["neuralcore_tokens_total", None, None] > 32
    assert gained["neuralcore_request_seconds_count", "/embed", None] == 1
    assert after["neuralcore_waiting_requests", None, None] == 0


def test_page_loads_nothing_from_elsewhere_and_its_policy_says_so(server):
    page = server.request("GET", "/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    everything = b"".join(server.request("GET", path).body for path in ("/", "/page.css", "/page.js"))
    assert b"://" not in everything.replace(b"http://www.w3.org/2000/svg", b"")


def test_key_is_needed_and_no_near_miss_will_do(folder, cache):
    with running(folder, "--api-key", "first", "--api-key", "schlüssel", cache=cache) as server:
        body = {"input": "a cat"}
        assert server.post("/v1/embeddings", body).status == 401
        assert server.request("GET", "/v1/models").status == 401
        assert server.request("GET", "/info").status == 401
        assert server.request("GET", "/health").status == 200
        for given in ("Bearer", "Bearer ", "Bearer firs", "Bearer first2", "Basic first", "first"):
            answer = server.post("/v1/embeddings", body, {"Authorization": given})
            assert answer.status == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
        assert server.post("/v1/embeddings", body, {"Authorization": "Bearer first"}).status == 200
        assert server.post("/v1/embeddings", body, {"Authorization": "bearer schlüssel".encode()}).status == 200


def test_log_is_json_without_the_texts_and_the_server_leaves_with_zero(folder, cache):
    with running(folder, cache=cache) as server:
        server.post("/v1/embeddings", {"input": TEXTS})
        server.post("/v1/embeddings", {"input": SECRET, "model": "no"})
        server.post("/embed", {"inputs": [SECRET, "\ud800"]})
        assert server.stop() == 0
        lines = [line for line in server.log if line["event"] == "request" and line["method"] == "POST"]
        assert [line["status"] for line in lines] == [200, 404, 400]
        assert lines[0]["texts"] == 3
        assert {line["event"] for line in server.log} >= {"listening", "ready", "draining", "stopped"}
        assert "secret" not in json.dumps(server.log)


def test_answers_503_until_the_model_is_there(folder, tmp_path):
    with running(folder, cache=tmp_path / "fresh", wait=False) as server:
        seen = []
        while not seen or seen[-1].status == 503:
            seen.append(server.request("GET", "/health"))
            assert len(seen) < 10_000
    assert seen[0].status == 503
    assert "retry-after" in seen[0].headers
    assert "loaded" in seen[0].json()["error"]
    assert seen[-1].status == 200


def test_model_that_cannot_be_loaded_ends_the_server_with_its_exit_code(tmp_path):
    done = subprocess.run(
        [*COMMAND, "no-such-model", "--port", "0"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 3
    assert "no-such-model" in done.stderr


def test_files_that_changed_unseen_are_found_before_a_vector_is_served(folder, engine, tmp_path):
    from tests.test_healing import blur, unseen

    def served(*options):
        with running(folder, "--backend", "onnxruntime", *options, cache=tmp_path / "own") as server:
            return np.array(server.post("/embed", {"inputs": TEXTS}).json())

    served()
    unseen(next((tmp_path / "own/models").rglob("model.onnx.data")), blur)
    assert np.abs(served() - engine.embed_batch(TEXTS)).max() > 0.01
    np.testing.assert_allclose(served("--verify"), engine.embed_batch(TEXTS), atol=1e-6)


def test_1100_connections_that_drip_their_headers_keep_nobody_out(server, engine):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 1300)), hard))  # of the clients: this process
    try:
        with ExitStack() as stack:
            for _ in range(1100):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
                client.sendall(b"GET / HTTP/1.1\r\nHo")
            assert [server.request("GET", path).status for path in ("/health", "/health/live")] == [200, 200]
            answer = server.post("/embed", {"inputs": TEXTS})
            np.testing.assert_allclose(answer.json(), engine.embed_batch(TEXTS), atol=1e-6)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_few_files_that_may_be_open_are_few_connections_and_still_a_server(folder, cache, engine, monkeypatch):
    limited = ["sh", "-c", 'ulimit -n 256; exec "$@"', "sh", *COMMAND]
    monkeypatch.setattr(server_process, "COMMAND", limited)
    with running(folder, cache=cache) as server, ExitStack() as stack:
        for number in range(400):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            if number % 2:
                client.sendall(b"GET / HTTP/1.1\r\nHo")
        answer = server.post("/embed", {"inputs": TEXTS})
        np.testing.assert_allclose(answer.json(), engine.embed_batch(TEXTS), atol=1e-6)
        assert server.stop() == 0
    assert next(line for line in server.log if line["event"] == "listening")["connections"] == 128


def test_port_in_use_is_one_line(folder, server):
    command = [*COMMAND, str(folder), "--port", str(server.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "in use" in done.stderr


def test_overload_is_answered_429_and_passes(folder, cache):
    body = json.dumps({"inputs": ["the cat sat on the mat " * 5] * 200})
    statuses = []

    def ask():
        for _ in range(6):
            answer = server.post("/embed", body.encode())
            statuses.append(answer.status)
            assert answer.status == 200 or int(answer.headers["retry-after"]) >= 1

    with running(folder, "--max-waiting", "2", cache=cache) as server:
        clients = [threading.Thread(target=ask) for _ in range(16)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(timeout=60)
        assert len(statuses) == 96
        assert set(statuses) == {200, 429}
        assert server.post("/embed", {"inputs": "a cat"}).status == 200


def test_signal_that_comes_while_the_log_is_written_to_does_not_stop_the_server_for_ever():
    service = Service(model="tiny")
    server = Server(service, lambda: None, drain_s=25)
    queue = Queue(10)
    handler = _DroppingHandler(queue)
    logger = logging.getLogger("neuralcore.server")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with queue.mutex:  # as the thread that the signal interrupts may hold it
            signalled = threading.Thread(target=server.handle_exit, args=(signal.SIGTERM, None), daemon=True)
            signalled.start()
            signalled.join(timeout=5)
            assert not signalled.is_alive()
        assert service.draining
        assert asyncio.run(server.on_tick(1))
        assert queue.get_nowait().fields == {"signal": "SIGTERM", "active": 0}
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize("leave", [signal.SIGTERM, signal.SIGHUP])
def test_signal_under_load_loses_no_accepted_request(folder, cache, leave):
    answers, stop = [], threading.Event()
    body = json.dumps({"inputs": ["the cat sat on the mat " * 5] * 200})

    def ask():
        while not stop.is_set():
            connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
            try:
                connection.request("POST", "/embed", body)
                response = connection.getresponse()
                answers.append((response.status, len(json.loads(response.read()))))
            except (OSError, HTTPException):  # refused or closed before it was read: never accepted
                return
            finally:
                connection.close()

    with running(folder, cache=cache) as server:
        clients = [threading.Thread(target=ask) for _ in range(16)]
        for client in clients:
            client.start()
        while len(answers) < 40:
            time.sleep(0.01)
        assert server.stop(leave) == 0
        stop.set()
        for client in clients:
            client.join(timeout=30)
        served = [line for line in server.log if line["event"] == "request" and line.get("path") == "/embed"]
    draining = next(line for line in server.log if line["event"] == "draining")
    assert (draining["active"] > 0, draining["signal"]) == (True, leave.name)
    counted = [sum(status == wanted for status, _ in answers) for wanted in (200, 503)]
    assert counted == [sum(line["status"] == wanted for line in served) for wanted in (200, 503)]
    assert sum(counted) == len(served)
    assert all(n_rows == 200 for status, n_rows in answers if status == 200)
