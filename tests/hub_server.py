"""A stand-in for the Hugging Face Hub on loopback: the part of its protocol that the Hub's client uses to download.

`GET /api/models/{id}/revision/{rev}`, `GET /api/models/{id}/tree/{rev}`, `HEAD|GET /{id}/resolve/{rev}/{path}`.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_LARGE = (".safetensors", ".onnx")


@dataclass
class HubState:
    """What the server holds and how it behaves; tests change it while it runs."""

    repositories: dict[str, Path]
    commit: str = COMMIT
    requests: list[str] = field(default_factory=list)
    served_bytes: int = 0
    ranges: list[str] = field(default_factory=list)
    cut_after: int | None = None  # bytes of the next large file, then the connection is dropped once
    seconds_per_mib: float = 0.0
    change: bytes = b""  # put in the place of a large file's first bytes
    states_hashes: bool = True
    authorizations: list[str | None] = field(default_factory=list)  # of each request
    # Called before each answer; True: it has answered itself, on the handler's `wfile` or `connection`.
    answer: Callable[[BaseHTTPRequestHandler], bool] = lambda handler: False
    url: str = ""


def etag(path: Path) -> str:
    """As the Hub: SHA-256 of large files, git's id of small ones."""
    content = path.read_bytes()
    if path.suffix in _LARGE:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def running(**repositories_or_state):
    """Serve until the block ends; yields the state, with the address in `url`."""
    state = HubState(**repositories_or_state)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(state: HubState):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # a small answer would wait 40 ms for its acknowledgement

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            state.requests.append(f"{self.command} {self.path}")
            state.authorizations.append(self.headers.get("Authorization"))
            self.path = re.sub(r"^http://[^/]+", "", self.path)  # as a proxy is asked
            if state.answer(self):
                self.close_connection = True
                return
            if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/?]+)/?(\?.*)?", self.path):
                self._api(match[1], match[2])
            elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path):
                self._file(match[1], unquote(match[3]))
            else:
                self._missing("EntryNotFound")

        def _api(self, repository: str, what: str):
            folder = state.repositories.get(repository)
            if folder is None:
                return self._missing("RepoNotFound")
            paths = sorted(path for path in folder.rglob("*") if path.is_file())
            names = [path.relative_to(folder).as_posix() for path in paths]
            if what == "revision":
                siblings = [{"rfilename": name} for name in names]
                return self._json({"id": repository, "sha": state.commit, "siblings": siblings})
            tree = [describe(path, name) for path, name in zip(paths, names, strict=True)]
            if not state.states_hashes:
                tree = [{key: entry[key] for key in ("type", "path", "size")} for entry in tree]
            return self._json(tree)

        def _file(self, repository: str, name: str):
            folder = state.repositories.get(repository)
            path = folder / name if folder else None
            if path is None or not path.is_file():
                return self._missing("EntryNotFound" if folder else "RepoNotFound")
            large = path.suffix in _LARGE
            content = path.read_bytes()
            if large and state.change:
                content = state.change + content[len(state.change) :]
            return self._send(content, etag(path), large=large)

        def _send(self, content: bytes, tag: str, *, large: bool):
            start = self._start()
            self.send_response(206 if start else 200)
            if state.states_hashes:
                self.send_header("ETag", f'"{tag}"')
            self.send_header("X-Repo-Commit", state.commit)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if self.command == "HEAD":
                return
            self._body(content[start:], large=large)

        def _start(self) -> int:
            wanted = self.headers.get("Range")
            if not wanted:
                return 0
            state.ranges.append(wanted)
            return int(wanted.removeprefix("bytes=").partition("-")[0])

        def _body(self, content: bytes, *, large: bool):
            end = len(content)
            if large and state.cut_after is not None:
                end, state.cut_after = state.cut_after, None
            for offset in range(0, min(end, len(content)), 1 << 16):
                self.wfile.write(content[offset : min(offset + (1 << 16), end)])
                state.served_bytes += 1 << 16
                if large:
                    time.sleep(state.seconds_per_mib / 16)
            if end < len(content):
                self.close_connection = True

        def _json(self, values):
            body = json.dumps(values).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _missing(self, code: str):
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

        def handle_one_request(self):
            try:
                super().handle_one_request()
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    return Handler


def describe(path: Path, name: str) -> dict:
    """A file as the tree API lists it."""
    size = path.stat().st_size
    entry = {"type": "file", "path": name, "size": size, "oid": etag(path)}
    if path.suffix in _LARGE:
        entry["lfs"] = {"oid": etag(path), "size": size, "pointerSize": 134}
    return entry
