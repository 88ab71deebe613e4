"""Connections by raw sockets: what clients send that no library sends, and how they leave."""

import json
import logging
import re
import signal
import socket
import threading
from contextlib import ExitStack, closing, suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuralcore.embedding import EmbeddingEngine
from neuralcore.embedding.server import limits, process
from neuralcore.embedding.server.limits import Limits
from neuralcore.embedding.server.room import Patience, Room
from tests import tiny_model
from tests.gate import Gate
from tests.server_process import answer_from, local, raw, wait_until

HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY = b'{"inputs": "the cat"}'
EMBED = b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
CHUNKED = b"POST /embed HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
HEAD_BYTES = 65_536


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tiny_model.write(tmp_path_factory.mktemp("model") / "tiny")
    with EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path_factory.mktemp("cache"), threads=1) as engine:
        yield Lent(engine)


class Lent:
    """An engine that outlives the servers that close it."""

    def __init__(self, engine):
        self._engine = engine

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def close(self):
        pass


@pytest.fixture(scope="module")
def server(engine):
    with local(engine, limits=Limits(max_body_bytes=20_000)) as server:
        yield server


@pytest.fixture
def gate(engine):
    gate = Gate(engine)
    yield gate
    gate.open.release(10_000)


@pytest.fixture
def held(gate):
    """A server whose engine waits at the gate."""
    with local(gate) as server:
        yield server
        gate.open.release(10_000)


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def vectors_of(answer):
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:100]
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def everything_from(client):
    received = b""
    with suppress(ConnectionError):
        while part := client.recv(65536):
            received += part
    return received


def still_serves(server, engine):
    vectors = vectors_of(raw(server, EMBED))
    np.testing.assert_allclose(vectors, engine.embed_batch(["the cat"]), atol=1e-6)


ENDLESS = {
    "one header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ",
    "a path": b"GET /",
    "a name of a header": b"GET / HTTP/1.1\r\nHost: localhost\r\n",
    "a chunk's extension": CHUNKED + b"5;",
    "a trailer": CHUNKED + b"1\r\n{\r\n0\r\nX: ",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_comes_before_a_body_or_behind_it_and_has_no_end_is_431(server, engine, name):
    with connect(server) as client:
        client.sendall(ENDLESS[name])
        with suppress(ConnectionError):
            for _ in range(60):
                client.sendall(b"a" * 1_000_000)
        assert client.recv(65536).startswith(b"HTTP/1.1 431 ")
    still_serves(server, engine)


def test_many_small_headers_and_empty_lines_are_431_too(server):
    for endless in (b"X: y\r\n" * 200_000, b""):
        with connect(server) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n" if endless else b"")
            with suppress(ConnectionError):
                client.sendall(endless or b"\r\n" * 1_000_000)
            assert client.recv(65536).startswith(b"HTTP/1.1 431 ")


def test_headers_are_431_one_byte_past_the_limit_and_not_before(server):
    start, end = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ", b"\r\n\r\n"
    counted = len("/healthHostlocalhostX") + 2 * 4
    for n_bytes, status in ((HEAD_BYTES, b"200"), (HEAD_BYTES + 1, b"431")):
        answer = raw(server, start + b"x" * (n_bytes - counted) + end)
        assert answer.startswith(b"HTTP/1.1 " + status)


def test_refused_headers_end_the_connection_and_are_told_in_json(server):
    with connect(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000 + b"\r\n\r\n" + HEALTH)
        head, _, body = everything_from(client).partition(b"\r\n\r\n")
    assert head.count(b"HTTP/1.1") == 1
    assert b"connection: close" in head
    assert "65536 bytes" in json.loads(body)["error"]["message"]


def test_headers_that_do_not_come_are_408_and_idle_connections_end(engine):
    with local(engine, patience=Patience(head_s=0.1, idle_s=0.1)) as server, ExitStack() as stack:
        dripping, silent, served = (stack.enter_context(connect(server)) for _ in range(3))
        dripping.sendall(b"GET / HTTP/1.1\r\nHo")
        served.sendall(HEALTH)
        assert answer_from(served).startswith(b"HTTP/1.1 200 ")
        assert everything_from(dripping).startswith(b"HTTP/1.1 408 ")
        assert everything_from(silent) == everything_from(served) == b""
        still_serves(server, engine)


def test_those_who_say_nothing_make_room_for_those_who_do(engine, monkeypatch):
    monkeypatch.setattr(process, "most_connections", lambda wanted: 20)
    with local(engine) as server, ExitStack() as stack:
        flood = []
        for number in range(60):
            flood.append(stack.enter_context(connect(server)))
            flood[-1].sendall(b"" if number % 2 else b"GET / HTTP/1.1\r\nHo")
            if number % 20 == 0:
                assert raw(server, HEALTH).startswith(b"HTTP/1.1 200 ")
        still_serves(server, engine)
        assert all(everything_from(client) == b"" for client in flood[:30])  # made room
        flood[-2].sendall(b"st: localhost\r\n\r\n")
        assert answer_from(flood[-2]).startswith(b"HTTP/1.1 200 ")  # did not have to
        assert b"neuralcore_displaced_connections_total 4" in server.request("GET", "/metrics").body


def test_request_under_way_never_makes_room(gate, engine, monkeypatch):
    monkeypatch.setattr(process, "Room", lambda most, *rest: Room(4, *rest))
    with local(gate) as server, ExitStack() as stack:
        clients = []
        for number in range(8):
            clients.append(stack.enter_context(connect(server)))
            clients[-1].sendall(EMBED)
            wait_until(lambda number=number: server.service.n_active == number + 1)
        assert raw(server, HEALTH).startswith(b"HTTP/1.1 200 ")
        gate.open.release(100)
        for client in clients:
            np.testing.assert_allclose(vectors_of(answer_from(client)), engine.embed_batch(["the cat"]), atol=1e-6)


def test_body_too_large_is_answered_to_a_client_that_first_sends_it_all_and_ends_the_connection(server):
    for head in (EMBED.replace(b"Content-Length: %d" % len(BODY), b"Content-Length: 5000000")[: -len(BODY)], CHUNKED):
        with connect(server) as client:
            client.sendall(head)
            for _ in range(50):
                client.sendall(b"186a0\r\n" + b"a" * 100_000 + b"\r\n" if head == CHUNKED else b"a" * 100_000)
            client.shutdown(socket.SHUT_WR)
            answer = everything_from(client)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answer


def test_body_that_does_not_come_is_408_and_ends_the_connection(server, monkeypatch):
    monkeypatch.setattr(limits, "_BODY_S", 0.1)
    with connect(server) as client:
        client.sendall(EMBED[:-5])
        answer = everything_from(client)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer


def test_answer_before_the_end_of_the_body_ends_the_connection_and_its_rest_is_no_request(server):
    inner = HEALTH
    with connect(server) as client:
        client.sendall(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        answer = answer_from(client)
        client.sendall(inner)
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"connection: close" in answer
        assert everything_from(client) == b""


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_client_that_sends_no_more_is_answered(held, gate, engine, version):
    with connect(held) as client:
        client.sendall(EMBED.replace(b"HTTP/1.1", b"HTTP/" + version))
        client.shutdown(socket.SHUT_WR)
        wait_until(lambda: held.service.n_active == 1)
        gate.open.release(100)
        answer = everything_from(client)
    if version == b"1.1":
        answer = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    np.testing.assert_allclose(vectors_of(answer), engine.embed_batch(["the cat"]), atol=1e-6)


def test_client_that_has_left_is_not_worked_for_whether_by_a_reset_or_not(held, gate):
    with connect(held) as first:
        first.sendall(EMBED)
        assert gate.started.acquire(timeout=20)
        for by_reset in (False, True):
            leaving = connect(held)
            leaving.sendall(EMBED)
            wait_until(lambda: held.service.engine.n_waiting == 1)
            if by_reset:
                leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            leaving.close()
            wait_until(lambda: held.service.engine.n_waiting == 0)
        gate.open.release(100)
        assert answer_from(first).startswith(b"HTTP/1.1 200 ")
    assert gate.runs == [1]


def test_client_that_leaves_during_its_upload_is_no_error(held, caplog):
    with caplog.at_level(logging.INFO, "neuralcore.server"):
        for by_reset in (False, True):
            leaving = connect(held)
            leaving.sendall(EMBED[:-5])
            wait_until(lambda: held.service.n_active == 1)
            if by_reset:
                leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            leaving.close()
            wait_until(lambda: held.service.n_active == 0)
    lines = [(record.getMessage(), getattr(record, "fields", {}).get("status")) for record in caplog.records]
    assert [line for line in lines if line[0] in {"request", "failed", "refused"}] == [("request", 499)] * 2
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_body_that_is_refused_is_not_asked_for(server, engine):
    asking = EMBED.replace(b"Content-Length", b"Expect: 100-continue\r\nContent-Length")[: -len(BODY)]
    with connect(server) as client:
        client.sendall(asking.replace(b": %d\r\n" % len(BODY), b": 5000000\r\n"))
        assert answer_from(client).startswith(b"HTTP/1.1 413 ")
    with connect(server) as client:
        client.sendall(asking)
        assert client.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(BODY)
        np.testing.assert_allclose(vectors_of(answer_from(client)), engine.embed_batch(["the cat"]), atol=1e-6)


def test_half_a_request_and_no_more_is_400(server):
    with connect(server) as client:
        client.sendall(EMBED[:-5])
        client.shutdown(socket.SHUT_WR)
        assert everything_from(client).startswith(b"HTTP/1.1 400 ")


def test_requests_sent_together_are_answered_in_order_and_wait_as_bytes(held, gate, engine):
    n_after = 5000
    with connect(held) as client:
        sending = threading.Thread(target=client.sendall, args=(EMBED + HEALTH * n_after + EMBED,))
        sending.start()
        wait_until(lambda: held.service.n_active == 1)
        (connection,) = held.server.server_state.connections
        gate.open.release(100)
        answers, n_most = b"", 0
        while answers.count(b"HTTP/1.1 200 ") < n_after + 2 or not answers.endswith(b"]]"):
            n_most = max(n_most, len(connection.pipeline))
            answers += client.recv(65536)
        sending.join()
    assert n_most < 1000
    parts = re.split(rb"HTTP/1\.1 200 OK\r\n", answers)[1:]
    expected = engine.embed_batch(["the cat"])
    for first_or_last in (parts[0], parts[-1]):
        vectors = json.loads(first_or_last.partition(b"\r\n\r\n")[2])
        np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert all(part.endswith(b'{"status":"ready"}') for part in parts[1:-1])


def test_nonsense_behind_a_request_does_not_cost_it_its_answer(held, gate, engine):
    with connect(held) as client:
        client.sendall(EMBED + b"\0nonsense\r\n\r\n")
        wait_until(lambda: held.service.n_active == 1)
        gate.open.release(100)
        answer = everything_from(client)
    assert answer.count(b"HTTP/1.1") == 1
    np.testing.assert_allclose(vectors_of(answer), engine.embed_batch(["the cat"]), atol=1e-6)


NONSENSE = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a proxy's request": b"CONNECT evil.com:443 HTTP/1.1\r\nHost: evil.com\r\n\r\n",
    "two lengths": EMBED.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n"),
    "a length and chunks": EMBED.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "a negative length": EMBED.replace(b"Length: ", b"Length: -"),
    "a length past 64 bits": EMBED.replace(b"Length: ", b"Length: 99999999999999999999"),
    "a chunk of a negative length": CHUNKED + b"-1\r\n",
    "a chunk longer than it says": CHUNKED + b"1\r\n{}}\r\n",
    "a zero byte in a header": HEALTH.replace(b"localhost", b"local\0host"),
    "a folded header": HEALTH.replace(b"\r\n\r\n", b"\r\nX: a\r\n b\r\n\r\n"),
    "a path beyond ASCII": HEALTH.replace(b"/health", b"/h\xe9alth"),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_what_can_be_read_two_ways_or_not_at_all_is_400(server, engine, name):
    with connect(server) as client:
        client.sendall(NONSENSE[name])
        client.shutdown(socket.SHUT_WR)
        answer = everything_from(client)
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert answer.count(b"HTTP/1.1") == 1
    still_serves(server, engine)


def test_trailers_are_no_headers(server, monkeypatch):
    seen = []
    complete = process.Connection.on_message_complete

    def note(connection):
        seen.extend(connection.headers)
        complete(connection)

    monkeypatch.setattr(process.Connection, "on_message_complete", note)
    body = b"%x\r\n%b\r\n0\r\nAuthorization: Bearer x\r\n\r\n" % (len(BODY), BODY)
    assert raw(server, CHUNKED + body).startswith(b"HTTP/1.1 200 ")
    assert (b"host", b"localhost") in seen
    assert not [name for name, _ in seen if name == b"authorization"]


UPGRADE = b"\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"


def test_many_offers_sent_together_are_all_passed_over(server):
    with connect(server) as client:
        client.sendall(HEALTH.replace(b"\r\n\r\n", UPGRADE) * 2000 + HEALTH.replace(b"\r\n\r\n", UPGRADE + b"\0"))
        client.shutdown(socket.SHUT_WR)
        assert everything_from(client).count(b"HTTP/1.1 200 OK") == 2001


@pytest.mark.parametrize("n_bytes", [1, 70, 10_000])
def test_offer_to_speak_another_protocol_is_passed_over_and_its_body_read(server, engine, n_bytes):
    request = EMBED.replace(b"\r\n\r\n", UPGRADE)
    with connect(server) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(2):
            for start in range(0, len(request), n_bytes):
                client.sendall(request[start : start + n_bytes])
            np.testing.assert_allclose(vectors_of(answer_from(client)), engine.embed_batch(["the cat"]), atol=1e-6)


def test_answer_that_nobody_takes_does_not_stay_for_ever(engine):
    texts = json.dumps({"inputs": ["cat"] * 2000}).encode()
    request = EMBED.replace(b"%d\r\n\r\n%b" % (len(BODY), BODY), b"%d\r\n\r\n%b" % (len(texts), texts))
    with local(engine, patience=Patience(idle_s=0.2), buffer_bytes=20_000) as server, connect(server) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 5_000)
        client.sendall(request)
        wait_until(lambda: server.service.metrics.registry.get_sample_value("neuralcore_texts_total") == 2000)
        wait_until(lambda: not server.server.server_state.connections)


def test_draining_is_bounded_and_those_who_wait_are_told(gate):
    with local(gate, drain_s=0.1) as server, ExitStack() as stack:
        waiting, uploading = (stack.enter_context(connect(server)) for _ in range(2))
        waiting.sendall(EMBED)
        uploading.sendall(EMBED[:-5])
        wait_until(lambda: server.service.n_active == 2)
        server.leave()
        for client in (waiting, uploading):
            answer = everything_from(client)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: " in answer
        gate.open.release(100)


def test_engine_that_does_not_stop_does_not_keep_the_process(gate, monkeypatch):
    left = threading.Event()

    def leave(code):
        assert code == 1
        left.set()
        gate.open.release(10_000)

    monkeypatch.setattr(process.os, "_exit", leave)
    monkeypatch.setattr(process, "_ENGINE_S", 0.1)
    with local(gate, drain_s=0) as server, connect(server) as client:
        client.sendall(EMBED)
        assert gate.started.acquire(timeout=20)
        server.leave()
        assert everything_from(client).startswith(b"HTTP/1.1 503 ")
        assert left.wait(timeout=20)


def test_process_is_alive_while_it_is_full_or_leaves_and_says_that_it_is_not_ready(gate, monkeypatch):
    monkeypatch.setattr(process, "most_connections", lambda wanted: 6)  # as few files may be open
    with local(gate) as server, ExitStack() as stack:
        assert server.request("GET", "/health/ready").status == 200
        for _ in range(3):
            stack.enter_context(connect(server)).sendall(EMBED[:-5])
        wait_until(lambda: server.service.n_active == 3)
        for path in ("/health", "/health/ready", "/metrics", "/"):
            refused = server.request("GET", path)
            assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        assert server.request("GET", "/health/live").status == 200
        server.leave()
        wait_until(lambda: server.service.draining)
        assert server.request("GET", "/health/live").status == 200
        assert server.request("GET", "/health").status == 503


def test_hangup_is_handled_as_termination_unless_it_was_ignored():
    from neuralcore.embedding.server.service import Service

    for ignored in (False, True):
        server = process.Server(Service(model="tiny"), lambda: None, drain_s=1)
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
        try:
            with server.capture_signals():
                if ignored:
                    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
                else:
                    signal.raise_signal(signal.SIGHUP)
        finally:
            signal.signal(signal.SIGHUP, before)
        assert server._service.draining != ignored


pieces = st.sampled_from(
    [
        EMBED.replace(b"\r\n\r\n", UPGRADE),
        EMBED,
        EMBED[:-5],
        HEALTH,
        CHUNKED,
        b'5\r\n{"inp',
        b"0\r\n\r\n",
        b"\r\n",
        b"GET ",
        b"\0",
        b"{}",
    ]
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(pieces | st.binary(max_size=40), max_size=6), st.booleans())
def test_after_any_bytes_whatever_the_next_one_is_answered_right(server, engine, parts, half_close):
    with closing(connect(server)) as client, suppress(ConnectionError):
        for part in parts:
            client.sendall(part)
        if half_close:
            client.shutdown(socket.SHUT_WR)
            everything_from(client)
    still_serves(server, engine)
