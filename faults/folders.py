"""Model folders that are not what they should be.

Every load ends in an error of ours that names the folder's own file, or in finite vectors; within bounds of memory and
time, and without a file outside of the folder being opened.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from faults.altered import FOLDERS, Altered, draw
from faults.trial import Trial

TITLE = "malformed model folders"
TEXTS = ["the cat sat on the mat", "a big dog", ""]
_MOST_S = 30
_MORE_BYTES = 3 << 30  # of address space, beyond what the process has: its threads and ONNX Runtime's arenas are in it
_NOBODY = 65534


@dataclass(frozen=True)
class Result:
    """What came of one load: "vectors", or an error's class; and what else there is to judge."""

    kind: str
    ours: bool
    message: str
    path: str
    opened: list[str]


def trials(random: Random) -> Iterator[Trial]:
    """Changes of every kind, in random order, without end."""
    for altered in draw(random):
        yield Trial(f"{altered.kind}, {altered.precision}: {altered.name}", partial(_provoke, altered))


def _provoke(altered: Altered) -> None:
    with TemporaryDirectory() as temporary:
        root = Path(temporary).resolve()
        root.chmod(0o755)
        folder = FOLDERS[altered.kind](root / "model")
        secret = root / "secret"
        shutil.copytree(folder, secret)  # what a name that leads out would find is a model that works
        altered.alter(folder)
        _judge(_load(altered, folder, root / "cache"), folder, secret, refused=altered.refused)


def _judge(result: Result, folder: Path, secret: Path, *, refused: bool) -> None:
    outside = [path for path in result.opened if path.startswith(str(secret)) or path == "/etc/passwd"]
    assert not outside, f"it opened {outside[0]}"
    if result.kind == "vectors":
        assert not refused, "it was loaded"
        return
    assert result.ours, f"{result.kind}: {result.message}"
    if result.kind == "ModelCorrupt":
        assert Path(result.path).is_relative_to(folder), f"it names {result.path}: {result.message}"
    else:
        assert result.kind in {
            "UnsupportedModel",
            "ModelUnavailable",
            "InferenceError",
            "OutOfMemory",
            "VerificationFailed",
        }, f"{result.kind}: {result.message}"


def _load(altered: Altered, folder: Path, cache: Path) -> Result:
    """Load a folder and embed, in a process of its own that may use so much time and memory."""
    _warm()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _in_child(altered, folder, cache, write)
    os.close(write)
    with os.fdopen(read) as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if not told:
        ended = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}"
        raise AssertionError(f"the process ended with {ended}" + (", too late" if ended.endswith(" 14") else ""))
    return Result(**json.loads(told))


def _in_child(altered: Altered, folder: Path, cache: Path, write: int) -> None:
    opened: list[str] = []
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
    signal.alarm(_MOST_S)
    with open(os.devnull, "w") as nothing:  # noqa: PTH123 - what libraries print is not told
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    status = 1
    try:
        cache.mkdir()
        if altered.as_nobody and os.geteuid() == 0:
            os.chown(cache, _NOBODY, _NOBODY)
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
        bound = _address_space() + _MORE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
        if altered.most_files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (altered.most_files, altered.most_files))
        result = _try(folder, cache, altered.precision)
        told = {**result, "opened": [path for path in opened if "/secret" in path or path == "/etc/passwd"]}
        os.write(write, json.dumps(told).encode()[: 1 << 15])
        status = 0
    finally:
        os._exit(status)


def _try(folder: Path, cache: Path, precision: Any) -> dict[str, Any]:
    import numpy as np

    from neuralcore.embedding import EmbeddingEngine, EmbeddingError

    try:
        engine = EmbeddingEngine.from_pretrained(
            folder, cache_dir=cache, offline=True, precision=precision, device="cpu", threads=1
        )
        vectors = engine.embed_batch(TEXTS)
        assert vectors.shape == (len(TEXTS), engine.dimension), vectors.shape
        assert np.isfinite(vectors).all(), "vectors that are not finite"
    except EmbeddingError as error:
        return _about(error, ours=True, path=str(getattr(error, "path", "")))
    except BaseException as error:  # noqa: BLE001 - whatever comes through is what is looked for
        where = traceback.extract_tb(error.__traceback__)[-1]
        return _about(error, ours=False, path=f"{Path(where.filename).name}:{where.lineno}")
    return {"kind": "vectors", "ours": True, "message": "", "path": ""}


def _about(error: BaseException, *, ours: bool, path: str) -> dict[str, Any]:
    message = str(error)[:2000] + ("" if ours else f" at {path}")
    return {"kind": type(error).__name__, "ours": ours, "message": message, "path": path}


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _warm() -> None:
    """Import once, before the first fork, what every load needs; no session is opened here, and no thread started."""
    for name in (
        "engine",
        "backends.onnx.encoder",
        "backends.onnx.quantize.model",
        "backends.onnx.quantize.int8",
        "backends.native.encoder",
        "backends.onnx.write.graph",
    ):
        import_module(f"neuralcore.embedding.{name}")
