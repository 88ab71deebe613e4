"""What comes over a socket: clients that drip, flood, lie, leave or speak nonsense, and signals while others wait."""

import json
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from tests import server_process, tiny_model

from faults.trial import NotPossible, Trial
from neuralcore.embedding import EmbeddingEngine
from neuralcore.embedding.types import Vectors

TITLE = "HTTP abuse of a server process, and signals to it"

TEXTS = ["the cat sat on the mat", "a dog ran"]
BODY = json.dumps({"inputs": TEXTS}).encode()
HOST = b"Host: localhost\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HEALTH = b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"
EMBED = b"POST /embed HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = b"POST /embed HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
IN_CHUNKS = CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
OFFERING = EMBED.replace(HOST, HOST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n")
LARGE = json.dumps({"inputs": TEXTS * 1000}).encode()
ASK_LARGE = b"POST /embed HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(LARGE) + LARGE

_WHOLE = (HEALTH, EMBED, IN_CHUNKS, OFFERING)
_PATIENCE_S = 20.0
_GROWTH_BYTES = 150_000_000  # of the server's memory, over all trials


@dataclass
class Target:
    """A server process, and what it must answer."""

    server: Any
    vectors: Vectors
    n_bytes: int = 0
    n_read: int = 0

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=_PATIENCE_S)

    def ask(self, request: bytes, *, half_close: bool = False) -> bytes:
        """All that the server says to some bytes, or one answer if it keeps the connection."""
        with closing(self.connect()) as client, suppress(ConnectionError):
            client.sendall(request)
            if half_close:
                client.shutdown(socket.SHUT_WR)
                return b"".join(iter(partial(client.recv, 65536), b"")).removeprefix(CONTINUE)
            return bytes(server_process.answer_from(client))
        return b""

    def check(self) -> None:
        """It is there, ready, answers right, has said nothing of an error, and did not grow."""
        assert self.server.process.poll() is None, "the server has died"
        for request in (b"GET /health/live HTTP/1.1\r\n" + HOST + b"\r\n", HEALTH):
            answer = self.ask(request)
            assert answer.startswith(b"HTTP/1.1 200 "), answer[:200]
        self.check_vectors(self.ask(EMBED))
        self._check_log()
        grown = _resident_bytes(self.server.process.pid) - self.n_bytes
        assert grown < _GROWTH_BYTES, f"the server has grown by {grown >> 20} MiB"

    def check_vectors(self, answer: bytes) -> None:
        assert answer.startswith(b"HTTP/1.1 200 "), answer[:200]
        vectors = json.loads(answer.partition(b"\r\n\r\n")[2])
        np.testing.assert_allclose(vectors, self.vectors, atol=1e-6)

    def _check_log(self) -> None:
        said = Path(self.server.errors.name).read_bytes()[self.n_read :]
        self.n_read += len(said)
        wrong = [line for line in said.splitlines() if b'"level":"info"' not in line]
        assert not wrong, b"\n".join(wrong)[-1000:]


Abuse = Callable[[Target, Random], None]


def trials(random: Random) -> Iterator[Trial]:
    """Each kind once, then random bytes as long as there is time."""
    with tempfile.TemporaryDirectory() as folder, _serving(Path(folder)) as start, start() as target:
        for name, abuse in _abuses():
            yield Trial(name, partial(_provoke, target, abuse, random))
        for name, leave in _departures():
            yield Trial(name, partial(leave, start, random))
        for number in count(1):
            yield Trial(f"random bytes, {number}", partial(_provoke, target, _send_random_bytes, random))


def _provoke(target: Target, abuse: Abuse, random: Random) -> None:
    abuse(target, random)
    target.check()


@contextmanager
def _serving(folder: Path) -> Iterator[Callable[..., Any]]:
    """Starts servers of a small random model; its vectors come from an engine of this process."""
    write: Any = tiny_model.write
    model, cache = write(folder / "tiny"), folder / "cache"
    with EmbeddingEngine.from_pretrained(model, cache_dir=cache) as engine:
        vectors = engine.embed_batch(TEXTS)
    running: Any = server_process.running

    @contextmanager
    def start(*options: str) -> Iterator[Target]:
        with running(model, *options, cache=cache, log=tempfile.NamedTemporaryFile) as server:
            target = Target(server, vectors)
            target.ask(ASK_LARGE)
            target.n_bytes = _resident_bytes(server.process.pid)
            yield target

    yield start


def _abuses() -> Iterator[tuple[str, Abuse]]:
    for name, endless in _ENDLESS.items():
        yield f"{name} without end", partial(_send_without_end, endless)
    for name, request in _NONSENSE.items():
        yield name, partial(_expect, request, (400,))
    for name, request, status in _STRANGERS:
        yield name, partial(_expect, request, (status,))
    yield "60 MB of headers while others ask", _send_headers_beside_others
    yield "1,100 connections that drip headers", partial(_flood, 1100, b"GET / HTTP/1.1\r\nHo")
    yield "2,500 connections that say nothing", partial(_flood, 2500, b"")
    yield "300 connections that drip bodies", partial(_flood, 300, EMBED[:-5])
    yield "a body longer than its length", partial(_expect, EMBED + b"more\r\n\r\n", (200,))
    yield "a body shorter than its length", partial(_expect, EMBED[:-5], (400,))
    yield "a body beyond the limit", partial(_expect, CHUNKED + b"100000\r\n" + b"a" * (1 << 20) + b"\r\n", (400, 413))
    yield "half-closed after a request", _half_close
    yield "1,000 requests sent together", _send_together
    yield "a million requests sent together, never read", _send_together_and_leave
    yield "clients that leave at any moment", _leave_at_any_moment
    yield "clients that do not read", _do_not_read
    yield "stopped and continued", _stop_and_continue


_ENDLESS = {
    "a method": b"G",
    "a path": b"GET /",
    "a query": b"GET /?",
    "the name of a header": b"GET / HTTP/1.1\r\n" + HOST,
    "a header": b"GET / HTTP/1.1\r\n" + HOST + b"X: ",
    "the extension of a chunk": CHUNKED + b"5;",
    "a trailer": CHUNKED + b"1\r\n{\r\n0\r\nX: ",
}
_NONSENSE = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 300,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a proxy's request": b"CONNECT evil.com:443 HTTP/1.1\r\nHost: evil.com\r\n\r\n",
    "no Host": b"GET /health HTTP/1.1\r\n\r\n",
    "two Hosts": HEALTH.replace(HOST, HOST * 2),
    "two lengths": EMBED.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n", 1),
    "a length and chunks": IN_CHUNKS.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n", 1),
    "a negative length": EMBED.replace(b"Length: ", b"Length: -"),
    "a length past 64 bits": EMBED.replace(b"Length: ", b"Length: 99999999999999999999"),
    "a chunk of a negative length": CHUNKED + b"-1\r\n",
    "a chunk past 64 bits": CHUNKED + b"fffffffffffffffff\r\n",
    "a chunk longer than it says": CHUNKED + b"1\r\n{}}\r\n",
    "chunks in another coding": IN_CHUNKS.replace(b"chunked", b"chunked, gzip"),
    "a zero byte": HEALTH.replace(b"localhost", b"local\0host"),
}
_STRANGERS = (
    ("another's name", EMBED.replace(b"localhost", b"evil.com"), 421),
    ("another's page", EMBED.replace(HOST, HOST + b"Origin: https://evil.com\r\n"), 403),
    ("nobody's page", EMBED.replace(HOST, HOST + b"Origin: null\r\nContent-Type: text/plain\r\n"), 403),
    ("a path with a slash at its end", EMBED.replace(b"/embed", b"/embed/"), 404),
    ("a body in gzip", EMBED.replace(HOST, HOST + b"Content-Encoding: gzip\r\n"), 415),
    ("a form", EMBED.replace(HOST, HOST + b"Content-Type: multipart/form-data; boundary=x\r\n"), 415),
)


def _expect(request: bytes, statuses: tuple[int, ...], target: Target, _: Random) -> None:
    answer = target.ask(request, half_close=True)
    assert answer.startswith(tuple(b"HTTP/1.1 %d " % status for status in statuses)), answer[:200]
    assert answer.count(b"HTTP/1.1 ") <= 2, answer


def _send_without_end(start: bytes, target: Target, _: Random) -> None:
    with closing(target.connect()) as client:
        with suppress(ConnectionError):
            client.sendall(start)
            for _part in range(30):
                client.sendall(b"a" * 1_000_000)
        with suppress(ConnectionResetError):
            answer = client.recv(65536)
            assert answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 ")), answer[:200]


def _send_headers_beside_others(target: Target, random: Random) -> None:
    threads = [
        threading.Thread(target=_send_without_end, args=(_ENDLESS["a header"], target, random)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        target.check_vectors(target.ask(EMBED))
    for thread in threads:
        thread.join()


def _flood(n_connections: int, said: bytes, target: Target, _: Random) -> None:
    _allow_files(n_connections + 200)
    with ExitStack() as stack:
        for number in range(n_connections):
            client = stack.enter_context(closing(target.connect()))
            with suppress(ConnectionError):
                client.sendall(said)
            if number % 250 == 249:
                target.check()
        target.check()


def _half_close(target: Target, _: Random) -> None:
    for request in (EMBED, IN_CHUNKS, EMBED.replace(b"HTTP/1.1", b"HTTP/1.0")):
        answer = target.ask(request, half_close=True)
        target.check_vectors(answer)


def _send_together(target: Target, random: Random) -> None:
    answers = target.ask(b"".join(random.choice(_WHOLE) for _ in range(1000)), half_close=True)
    assert answers.count(b"HTTP/1.1 200 OK") == 1000, f"{answers.count(b'HTTP/1.1 200 OK')} answers"


def _send_together_and_leave(target: Target, _: Random) -> None:
    with closing(target.connect()) as client, suppress(OSError):
        client.settimeout(2)  # the server stops reading, as nobody reads its answers
        client.sendall(HEALTH * 1_000_000)


def _leave_at_any_moment(target: Target, random: Random) -> None:
    for _ in range(100):
        request = random.choice((HEALTH, EMBED, IN_CHUNKS, ASK_LARGE))
        client = target.connect()
        with suppress(ConnectionError):
            client.sendall(request[: random.randint(0, len(request))])
            time.sleep(random.choice((0, 0, 0.001, 0.01)))
        if random.random() < 0.5:
            _leave_by_reset(client)
        client.close()


def _do_not_read(target: Target, _: Random) -> None:
    with ExitStack() as stack:
        for _client in range(5):
            client = stack.enter_context(closing(target.connect()))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(ASK_LARGE)
        target.check()


def _stop_and_continue(target: Target, _: Random) -> None:
    with closing(target.connect()) as client:
        target.server.process.send_signal(signal.SIGSTOP)
        client.sendall(EMBED)
        time.sleep(0.2)
        target.server.process.send_signal(signal.SIGCONT)
        target.check_vectors(server_process.answer_from(client))


def _send_random_bytes(target: Target, random: Random) -> None:
    """A few requests that are nearly right, cut anywhere."""
    for _ in range(10):
        request = bytearray(b"".join(random.choices((*_WHOLE, CHUNKED), k=random.randint(1, 3))))
        for _ in range(random.randint(0, 4)):
            place = random.randrange(len(request))
            request[place : place + random.choice((0, 1, 1, 5))] = random.randbytes(random.choice((0, 1, 1, 20)))
        with closing(target.connect()) as client, suppress(ConnectionError):
            middle = random.randint(0, len(request))
            client.sendall(request[:middle])
            client.sendall(request[middle:])
            random.choice((_leave_by_reset, _listen_to_the_end, _say_no_more))(client)


def _leave_by_reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _listen_to_the_end(client: socket.socket) -> None:
    _say_no_more(client)
    while client.recv(65536):
        pass


def _say_no_more(client: socket.socket) -> None:
    with suppress(OSError):  # the server has closed after what the client called its last request
        client.shutdown(socket.SHUT_WR)


def _departures() -> Iterator[tuple[str, Callable[[Any, Random], None]]]:
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        yield f"{sig.name} while 8 clients wait", partial(_leave_under_load, sig)
    yield "SIGTERM and a time to leave that is too short", _leave_in_no_time
    yield "a second Ctrl-C", _leave_at_once


def _leave_under_load(sig: signal.Signals, start: Any, random: Random) -> None:
    """Whoever was accepted is answered in full; whoever comes later gets 503, or no connection."""
    answers: list[bytes] = []
    with start() as target:
        clients = [threading.Thread(target=_ask_until_refused, args=(target, answers)) for _ in range(8)]
        for client in clients:
            client.start()
        _wait_until(lambda: len(answers) >= 8)
        time.sleep(random.random() / 10)
        code = target.server.stop(sig)
        for client in clients:
            client.join()
    assert code == 0, f"exit code {code}"
    for answer in answers:
        assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 503 ")), answer[:100]
        if answer.startswith(b"HTTP/1.1 200 "):
            assert len(json.loads(answer.partition(b"\r\n\r\n")[2])) == len(TEXTS) * 1000
    served = [line["status"] for line in target.server.log if line.get("path") == "/embed"][1:]  # but the first
    told = [int(answer[9:12]) for answer in answers]
    assert sorted(served) == sorted(told), f"accepted {len(served)}, answered {len(told)}"


def _ask_until_refused(target: Target, answers: list[bytes]) -> None:
    while True:
        try:
            answer = target.ask(ASK_LARGE)
        except OSError:
            return
        if not answer:
            return
        answers.append(answer)


def _leave_in_no_time(start: Any, _: Random) -> None:
    with start("--drain-timeout", "0") as target, closing(target.connect()) as client:
        client.sendall(EMBED[:-5])
        assert target.ask(HEALTH).startswith(b"HTTP/1.1 200 ")
        target.server.process.send_signal(signal.SIGTERM)
        answer = server_process.answer_from(client)
        assert answer.startswith(b"HTTP/1.1 503 "), answer[:100]
        client.close()
        assert target.server.stop() == 0


def _leave_at_once(start: Any, _: Random) -> None:
    with start() as target, closing(target.connect()) as client:
        client.sendall(EMBED[:-5])
        assert target.ask(HEALTH).startswith(b"HTTP/1.1 200 ")
        target.server.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert target.server.process.poll() is None
        target.server.process.send_signal(signal.SIGINT)
        try:
            target.server.process.wait(timeout=15)  # by itself it would wait 25 s
        except subprocess.TimeoutExpired:
            raise AssertionError("it is still there") from None


def _wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "nothing was answered"
        time.sleep(0.005)


def _allow_files(n_files: int) -> None:
    """Of this process: it is every client."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < n_files:
        if hard < n_files:
            raise NotPossible(f"only {hard} files may be open")
        resource.setrlimit(resource.RLIMIT_NOFILE, (n_files, hard))


def _resident_bytes(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0  # not Linux
    return pages * 4096
