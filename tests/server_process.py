"""The real server, started by its command on a free port of loopback."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryFile

from neuralcore.embedding.server.process import Server as RealServer
from neuralcore.embedding.server.process import listen
from neuralcore.embedding.server.service import Service

COMMAND = [sys.executable, "-m", "neuralcore.embedding.cli", "serve"]


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self):
        return json.loads(self.body)


@dataclass
class Server:
    process: subprocess.Popen
    port: int
    errors: object
    log: list[dict] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(self, method: str, path: str, body=None, headers=None) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            content = body if isinstance(body, (bytes, type(None))) else json.dumps(body)
            connection.request(method, path, content, headers or {})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def post(self, path: str, body, headers=None) -> Answer:
        return self.request("POST", path, body, headers)

    def stop(self, sig: int = signal.SIGTERM) -> int:
        """Send a signal, wait, and read the log."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
        code = self.process.wait(timeout=60)
        self.errors.seek(0)
        self.log = [json.loads(line) for line in self.errors.read().decode().splitlines() if line.startswith("{")]
        return code


@contextmanager
def running(model, *options: str, cache: Path | None = None, wait: bool = True, log=TemporaryFile):
    """Serve a model until the block ends."""
    environment = os.environ | ({"NEURALCORE_CACHE": str(cache)} if cache else {})
    with log() as errors:
        command = [*COMMAND, str(model), "--port", "0", *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        try:
            first_line = process.stdout.readline()
            port = re.search(r"http://127\.0\.0\.1:(\d+)", first_line)
            if not port:
                errors.seek(0)
                raise AssertionError(first_line + errors.read().decode())
            server = Server(process, int(port[1]), errors)
            if wait:
                until_ready(server)
            yield server
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(timeout=30)
            process.stdout.close()


def until_ready(server: Server, timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        try:
            if server.request("GET", "/health").status == 200:
                return
        except OSError:
            assert server.process.poll() is None
        time.sleep(0.05)
    raise AssertionError("the server did not become ready")


def raw(server: Server, *parts: bytes, half_close: bool = False) -> bytes:
    """Send bytes as they are, and read until the other side has nothing more to say for a moment or closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        for part in parts:
            client.sendall(part)
        if half_close:
            client.shutdown(socket.SHUT_WR)
        return answer_from(client)


def answer_from(client: socket.socket) -> bytes:
    """One answer, or what came of it before the connection ended."""
    received = b""
    while not _is_whole(received):
        part = client.recv(65536)
        if not part:
            break
        received += part
    return received


def _is_whole(received: bytes) -> bool:
    head, end, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    return bool(end) and not head.startswith(b"HTTP/1.1 100") and len(body) >= int(length[1] if length else 0)


@dataclass
class Local(Server):
    """The server in a thread of the tests: its patience can be short, its engine held up, its inside looked at."""

    server: RealServer | None = None
    service: Service | None = None

    def leave(self) -> None:
        self.server.handle_exit(signal.SIGTERM, None)


@contextmanager
def local(engine, *, patience=None, drain_s=25, buffer_bytes=None, **options):
    """Serve an engine from a thread until the block ends."""
    service = Service(model="tiny", **options)
    with listen("127.0.0.1", 0) as listener:
        if buffer_bytes:  # connections inherit it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        server = RealServer(service, lambda: engine, drain_s=drain_s, patience=patience)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        here = Local(None, listener.getsockname()[1], None, server=server, service=service)
        try:
            wait_until(lambda: service.engine)
            yield here
        finally:
            if gate := getattr(engine, "open", None):
                gate.release(10_000)
            here.leave()
            thread.join(timeout=30)
            assert not thread.is_alive()


def wait_until(condition, timeout_s: float = 20):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)
