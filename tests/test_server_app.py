"""The application driven message by message: what only shows when the engine is held up or the client leaves."""

import asyncio
import json
import logging
import sys
from contextlib import suppress
from dataclasses import dataclass, field

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralcore.embedding import EmbeddingEngine, InferenceError
from neuralcore.embedding.server.app import make_app
from neuralcore.embedding.server.limits import Limits
from neuralcore.embedding.server.refusals import Refusal
from neuralcore.embedding.server.requests import parse_openai, parse_tei
from neuralcore.embedding.server.service import Service
from tests.gate import Gate, started, until


@dataclass
class Client:
    """One request over ASGI; the client stays until `leave` is set."""

    path: str
    body: bytes
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    parts: list = field(default_factory=list)
    status: int = 0
    headers: dict = field(default_factory=dict)
    n_reads: int = 0
    method: str = "POST"

    async def receive(self):
        self.n_reads += 1
        if self.n_reads == 1:
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.parts.append(message["body"])

    async def ask(self, app):
        scope = {
            "type": "http",
            "method": self.method,
            "path": self.path,
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
        }
        await app(scope, self.receive, self.send)
        return self

    def json(self):
        return json.loads(b"".join(self.parts))


def embed(text):
    return Client("/v1/embeddings", orjson.dumps({"input": text}))


@pytest.fixture
def gate(tiny_folder, tmp_path):
    with EmbeddingEngine.from_pretrained(tiny_folder, cache_dir=tmp_path / "cache", threads=2) as engine:
        yield Gate(engine)


def test_full_queue_is_429_with_retry_after_before_the_body_is_read_and_recovers(gate):
    async def run():
        service = Service(model="tiny", limits=Limits(max_waiting=2))
        service.start(gate)
        app = make_app(service)
        calls = [asyncio.create_task(embed("a").ask(app))]
        await started(gate)
        calls += [asyncio.create_task(embed(text).ask(app)) for text in "bc"]
        await until(lambda: service.engine.n_waiting == 2)
        refused = await embed("d").ask(app)
        assert refused.status == 429
        assert refused.n_reads == 0
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "rate_limit_error"
        gate.open.release(100)
        assert [call.status for call in await asyncio.gather(*calls)] == [200, 200, 200]
        assert (await embed("e").ask(app)).status == 200
        await service.engine.close()

    asyncio.run(run())


def test_work_of_a_client_that_left_is_dropped(gate):
    async def run():
        service = Service(model="tiny")
        service.start(gate)
        app = make_app(service)
        first = asyncio.create_task(embed("a").ask(app))
        await started(gate)
        leaving = [embed(f"b {n}") for n in range(10)]
        calls = [asyncio.create_task(client.ask(app)) for client in leaving]
        await until(lambda: service.engine.n_waiting == 10)
        for client in leaving:
            client.leave.set()
        await asyncio.gather(*calls)
        assert service.engine.n_waiting == 0
        gate.open.release(100)
        assert (await first).status == 200
        await service.engine.close()

    asyncio.run(run())
    assert gate.runs == [1]


def test_draining_refuses_what_is_new_and_closes_connections(gate):
    async def run():
        service = Service(model="tiny")
        service.start(gate)
        app = make_app(service)
        accepted = asyncio.create_task(embed("a").ask(app))
        await started(gate)
        service.draining = True
        late = await embed("b").ask(app)
        assert (late.status, late.headers["connection"]) == (503, "close")
        assert service.n_active == 1
        gate.open.release(100)
        assert (await accepted).status == 200
        assert service.n_active == 0
        await service.engine.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("error", "status"), [(InferenceError("cpu", "broken"), 424), (ZeroDivisionError("secret"), 500)]
)
def test_failure_of_the_engine_is_an_answer_and_a_defect_tells_no_text(gate, caplog, error, status):
    gate.open.release(1000)

    def fail(tokens):
        raise error

    gate.fail = fail

    async def run():
        service = Service(model="tiny")
        service.start(gate)
        client = await embed("a cat").ask(make_app(service))
        await service.engine.close()
        return client

    with caplog.at_level(logging.INFO, "neuralcore.server"):
        client = asyncio.run(run())
    assert client.status == status
    assert client.json()["error"]["type"] == "server_error"
    told = client.json()["error"]["message"] + str([(r.getMessage(), r.fields) for r in caplog.records])
    assert "secret" not in told


def test_health_says_when_the_queue_has_failed_and_when_it_runs_again(gate, monkeypatch):
    gate.open.release(1000)

    async def run():
        service = Service(model="tiny")
        service.start(gate)
        app = make_app(service)
        with monkeypatch.context() as patch:
            patch.setattr(service.engine._queue, "_gather", lambda _: sys.exit("lost"))
            answers = [await embed("a cat").ask(app), await Client("/health", b"", method="GET").ask(app)]
        answers += [await embed("a cat").ask(app), await Client("/health", b"", method="GET").ask(app)]
        await service.engine.close()
        return answers

    failed, unhealthy, answered, healthy = asyncio.run(run())
    assert [each.status for each in (failed, unhealthy, answered, healthy)] == [424, 503, 200, 200]
    assert "SystemExit" in unhealthy.json()["error"]


def test_request_with_too_many_tokens_is_refused_before_all_texts_are_read(gate):
    read = []
    tokenize = gate.tokenize_parts

    def noted(texts, **options):
        for part in tokenize(texts, **options):
            read.append(len(part))
            yield part

    gate.tokenize_parts = noted

    async def run():
        service = Service(model="tiny", limits=Limits(max_tokens=500))
        service.start(gate)
        client = await embed(["the big red tree"] * 2000).ask(make_app(service))
        await service.engine.close()
        return client

    client = asyncio.run(run())
    assert client.status == 422
    assert "tokens before all texts were read, the limit of a request is 500" in client.json()["error"]["message"]
    assert sum(read) < 200


def test_large_answer_is_written_off_the_loop_and_equals_the_small_ones(gate):
    gate.open.release(1000)
    texts = [f"cat {n}" for n in range(1200)]  # 57,600 numbers

    async def run():
        service = Service(model="tiny")
        service.start(gate)
        app = make_app(service)
        many = await Client("/embed", orjson.dumps({"inputs": texts})).ask(app)
        few = await Client("/embed", orjson.dumps({"inputs": texts[:3]})).ask(app)
        await service.engine.close()
        return many.json(), few.json()

    many, few = asyncio.run(run())
    assert len(many) == 1200
    assert [pytest.approx(row, abs=1e-6) for row in few] == many[:3]


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
names = (
    "input",
    "inputs",
    "model",
    "dimensions",
    "encoding_format",
    "truncate",
    "normalize",
    "prompt_name",
    "prompt",
    "input_type",
)
bodies = st.dictionaries(st.sampled_from(names), anything, max_size=9).map(orjson.dumps)


@given(bodies | st.binary(max_size=30))
def test_any_body_is_a_request_or_a_refusal(body):
    for parse in (parse_openai, parse_tei):
        with suppress(Refusal):
            request = parse(body)
            assert request.inputs
            assert {type(each) for each in request.inputs} in ({str}, {list})


def test_of_a_model_that_keeps_the_end_of_a_text_the_other_direction_is_refused(tiny_folder, tmp_path):
    path = tiny_folder / "tokenizer.json"
    settings = json.loads(path.read_text())
    settings["truncation"] = {"max_length": 32, "strategy": "LongestFirst", "stride": 0, "direction": "Left"}
    path.write_text(json.dumps(settings))
    text = "a dog " * 30 + "the cat sat on the mat"

    def ask(**options):
        return Client("/embed", orjson.dumps({"inputs": text, **options}))

    async def run():
        service = Service(model="tiny")
        service.start(EmbeddingEngine.from_pretrained(tiny_folder, cache_dir=tmp_path / "cache"))
        app = make_app(service)
        answers = [
            await ask(**options).ask(app)
            for options in ({}, {"truncation_direction": "Left"}, {"truncation_direction": "Right"})
        ]
        expected = service.engine.engine.embed(text)
        await service.engine.close()
        return answers, expected

    (own, left, right), expected = asyncio.run(run())
    assert (own.status, left.status, right.status) == (200, 200, 422)
    assert own.json() == left.json() == [pytest.approx(expected.tolist(), abs=1e-6)]
    assert "keeps the end" in right.json()["error"]
