"""A mirror that lies, drips, breaks off, never ends, or names files where they do not belong.

Each trial changes what one mirror says at random places. The fetch must end in time, either with an error of ours or
with the files that the mirror has; and nothing may be written outside of the cache.
"""

import gzip
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler
from itertools import count
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any
from unittest import mock
from urllib.parse import unquote

from tests import hub_server, tiny_model

from faults.trial import Trial
from neuralcore.embedding import EmbeddingError
from neuralcore.embedding.store import make_store, transfer

TITLE = "a mirror that lies, drips, breaks off or never ends"

REPOSITORY = "org/tiny"
_WINDOW_S = 1.0
_LONGEST_S = 60.0  # of a fetch, all its tries together
_EVIL: tuple[Any, ...] = (
    "../../../../pwned", "/tmp/neuralcore-pwned", "..", ".", "", "a" * 39, "a" * 40, "f" * 64, "A" * 64, "\u00e9" * 40,
    "con", "x/../../../pwned", "..\\pwned", "a\nb", "a\0b", "x" * 300, -1, 0, 1, 10**18, 1.5, True, None, [], {}, [[]],
    "0123456789abcdef0123456789abcdef01234567", "NaN", "config.json", "config.json/x", "model.safetensors",
)  # fmt: skip
_PLACES = ("../pwned.json", "../../../../../../pwned.json", "/tmp/neuralcore-pwned.json", "x/../../../../../pwned.json")
_HEADERS = ("ETag", "X-Linked-Etag", "X-Repo-Commit", "X-Linked-Size", "Content-Length", "Location", "Link",
            "Content-Encoding", "Content-Range", "Retry-After", "Transfer-Encoding", "X-Error-Message")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Honest:
    """What the mirror would have said."""

    status: str
    headers: dict[str, str]
    body: bytes

    def send(self, handler: BaseHTTPRequestHandler) -> None:
        lines = [f"HTTP/1.1 {self.status}", *(f"{name}: {value}" for name, value in self.headers.items())]
        handler.connection.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1", "replace"))
        if handler.command != "HEAD":
            handler.connection.sendall(self.body)


Lie = Callable[[BaseHTTPRequestHandler, Honest, Random], None]


def trials(random: Random) -> Iterator[Trial]:
    """Lies of every kind at every place, in a random order."""
    with TemporaryDirectory(prefix="faults-") as name:
        root = Path(name)
        folder = tiny_model.write(root / "tiny")
        yield Trial("an honest mirror", partial(_tried, root, folder, 0, 0.0, 0, _LIES))
        while True:
            kinds = random.sample(list(_LIES), k=random.choice([1, 1, 2, 3]))
            seed, share, n_lies = random.randrange(2**32), random.choice([0.1, 0.4, 1.0]), random.choice([1, 2, 1000])
            told = f"{' and '.join(kinds)} in {share:.0%} of the answers, at most {n_lies} (seed {seed})"
            lies = {kind: _LIES[kind] for kind in kinds}
            yield Trial(told, partial(_tried, root, folder, seed, share, n_lies, lies))


def _tried(root: Path, folder: Path, seed: int, share: float, n_lies: int, lies: dict[str, Lie]) -> None:
    random, told = Random(seed), count(1)
    with TemporaryDirectory(dir=root) as name, hub_server.running(repositories={REPOSITORY: folder}) as hub:
        place = Path(name)

        def answer(handler: BaseHTTPRequestHandler) -> bool:
            lead = "pwned" in handler.path
            if not lead and (random.random() >= share or next(told) > n_lies):
                return False
            with suppress(OSError):
                lie = _truth if lead else random.choice(list(lies.values()))
                lie(handler, _honest(folder, handler.path), random)
            return True

        hub.answer = answer
        before = _files(root, place)
        outcome = _fetched_in_time(place / "cache", hub.url)
        if isinstance(outcome, Path):
            _check_content(outcome, folder)
        elif not isinstance(outcome, EmbeddingError):
            raise AssertionError(f"{type(outcome).__name__}: {outcome}") from outcome
        assert share or isinstance(outcome, Path), f"an honest mirror was refused: {outcome}"
        assert _files(root, place) == before, "written outside of the cache"
        assert [path.name for path in place.iterdir()] in ([], ["cache"]), "written beside the cache"
        assert not list(Path("/tmp").glob("neuralcore-pwned*")), "written to an absolute path"
        assert not list(place.rglob("*pwned*")), "written under a name of the mirror's"


def _fetched_in_time(cache: Path, url: str) -> Path | BaseException:
    outcome: list[Path | BaseException] = []

    def fetch() -> None:
        try:
            outcome.append(make_store(cache, endpoint=url, sources=("mirror",)).fetch(REPOSITORY))
        except BaseException as error:  # noqa: BLE001 - judged by who asked
            outcome.append(error)

    with mock.patch.multiple(transfer, WINDOW_S=_WINDOW_S, PAUSE_S=0.01, _LONGEST_PAUSE_S=0.05, ANSWER_BYTES=1 << 22):
        thread = Thread(target=fetch, daemon=True)
        thread.start()
        thread.join(_LONGEST_S)
    assert outcome, f"it did not end in {_LONGEST_S:.0f} s"
    return outcome[0]


def _files(root: Path, but: Path) -> set[tuple[str, int]]:
    """What lies in the folder of all trials, but for this one's."""
    files = (path for path in root.rglob("*") if path.is_file() and not path.is_relative_to(but))
    return {(str(path), path.stat().st_size) for path in files}


def _check_content(fetched: Path, folder: Path) -> None:
    for path in fetched.rglob("*"):
        source = folder / path.relative_to(fetched)
        if path.is_file() and source.is_file():
            assert path.read_bytes() == source.read_bytes(), f"another content of {path.name}"


def _honest(folder: Path, path: str) -> Honest:
    paths = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    if "/revision/" in path:
        values: Any = {"sha": hub_server.COMMIT, "siblings": [{"rfilename": name} for name in paths]}
    elif "/tree/" in path:
        values = [hub_server.describe(file, name) for name, file in paths.items()]
    else:
        name = unquote(path.partition("/resolve/")[2].partition("/")[2])
        file = paths.get(name, paths["config.json"])  # whatever name was told for it
        body = file.read_bytes()
        told = {"ETag": f'"{hub_server.etag(file)}"', "X-Repo-Commit": hub_server.COMMIT}
        return Honest("200 OK", {**told, "Content-Length": str(len(body))}, body)
    body = json.dumps(values).encode()
    return Honest("200 OK", {"Content-Length": str(len(body))}, body)


def _other_value(handler: BaseHTTPRequestHandler, honest: Honest, random: Random) -> None:
    """Another value somewhere in a JSON answer; in a file, other bytes."""
    if "/api/" not in handler.path:
        return _other_bytes(handler, honest, random)
    values = json.loads(honest.body)
    for _ in range(random.choice([1, 1, 3])):
        _change(values, random)
    body = json.dumps(values).encode()
    return Honest(honest.status, {"Content-Length": str(len(body))}, body).send(handler)


def _truth(handler: BaseHTTPRequestHandler, honest: Honest, _: Random) -> None:
    honest.send(handler)


def _other_names(handler: BaseHTTPRequestHandler, honest: Honest, random: Random) -> None:
    """The description of a model under a name that leads elsewhere, by path, hash, commit or header."""
    place = random.choice(_PLACES)
    values = json.loads(honest.body) if "/api/" in handler.path else None
    if isinstance(values, list):
        entry = next(entry for entry in values if entry["path"] == "config.json")
        entry[random.choice(["path", "oid"])] = place
        honest = Honest(honest.status, {}, json.dumps(values).encode())
    elif values:
        honest = Honest(honest.status, {}, json.dumps({**values, "sha": place}).encode())
    else:
        name = random.choice(["ETag", "X-Linked-Etag", "X-Repo-Commit"])
        honest = Honest(honest.status, {**honest.headers, name: place}, honest.body)
    Honest(honest.status, {**honest.headers, "Content-Length": str(len(honest.body))}, honest.body).send(handler)


def _change(values: Any, random: Random) -> None:
    while True:
        keys = list(values) if isinstance(values, dict) else list(range(len(values)))
        if not keys:
            return
        key = random.choice(keys)
        if isinstance(values[key], (dict, list)) and values[key] and random.random() < 0.85:
            values = values[key]
            continue
        values[key] = random.choice(_EVIL)
        return


def _other_bytes(handler: BaseHTTPRequestHandler, honest: Honest, random: Random) -> None:
    body = bytearray(honest.body)
    body[random.randrange(len(body))] ^= 1 << random.randrange(8)
    Honest(honest.status, honest.headers, bytes(body)).send(handler)


def _other_header(handler: BaseHTTPRequestHandler, honest: Honest, random: Random) -> None:
    value = str(random.choice(_EVIL)).replace("\n", " ").replace("\0", " ")
    Honest(honest.status, {**honest.headers, random.choice(_HEADERS): value}, honest.body).send(handler)


def _other_status(handler: BaseHTTPRequestHandler, honest: Honest, random: Random) -> None:
    status = random.choice([204, 206, 301, 302, 304, 307, 401, 403, 404, 408, 416, 418, 429, 500, 503, 999])
    Honest(f"{status} Said", honest.headers, honest.body).send(handler)


def _redirect(handler: BaseHTTPRequestHandler, honest: Honest, random: Random) -> None:
    target = random.choice(
        [handler.path, "file:///etc/passwd", "http://", "//[", "ftp://127.0.0.1/", "http://127.0.0.1:9/"]
    )
    Honest("302 Found", {**honest.headers, "Location": target}, b"").send(handler)


def _break_off(handler: BaseHTTPRequestHandler, honest: Honest, random: Random) -> None:
    Honest(honest.status, honest.headers, honest.body[: random.randrange(len(honest.body))]).send(handler)


def _silence(handler: BaseHTTPRequestHandler, _: Honest, random: Random) -> None:
    handler.connection.sendall(b"HTTP/1.1 200 OK\r\n"[: random.randrange(18)])
    time.sleep(2 * _WINDOW_S)


def _drip(handler: BaseHTTPRequestHandler, honest: Honest, random: Random) -> None:
    Honest(honest.status, honest.headers, b"").send(handler)
    end = time.monotonic() + 3 * _WINDOW_S
    while time.monotonic() < end:
        handler.connection.sendall(b" ")
        time.sleep(random.uniform(0, 0.2))


def _endless(handler: BaseHTTPRequestHandler, honest: Honest, random: Random) -> None:
    length = {"Content-Length": str(10**15)} if random.random() < 0.5 else {"Transfer-Encoding": "chunked"}
    headers = {name: value for name, value in honest.headers.items() if name != "Content-Length"}
    Honest(honest.status, {**headers, **length}, b"").send(handler)
    piece = random.randbytes(1 << 15)
    for _ in range(2000):
        handler.connection.sendall(piece if "Content-Length" in length else b"8000\r\n%b\r\n" % piece)


def _packed(handler: BaseHTTPRequestHandler, honest: Honest, _: Random) -> None:
    body = gzip.compress(bytes(1 << 22))
    Honest(honest.status, {**honest.headers, "Content-Encoding": "gzip", "Content-Length": str(len(body))}, body).send(
        handler
    )


def _nonsense(handler: BaseHTTPRequestHandler, _: Honest, random: Random) -> None:
    handler.connection.sendall(random.randbytes(random.choice([1, 100, 200_000])))


_LIES: dict[str, Lie] = {
    "other values": _other_value,
    "other names": _other_names,
    "other bytes": _other_bytes,
    "other headers": _other_header,
    "other statuses": _other_status,
    "redirects": _redirect,
    "breaks": _break_off,
    "silence": _silence,
    "drips": _drip,
    "answers without end": _endless,
    "packed answers": _packed,
    "nonsense": _nonsense,
}
