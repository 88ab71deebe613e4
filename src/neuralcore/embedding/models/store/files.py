"""Files that are whole or absent: hashes, atomic folders, locks between processes."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from ...errors import ModelCorrupt

_PARTIAL = ".partial-"


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_sha1(path: Path) -> str:
    """The id git gives a file's content, in hex: SHA-1 of a header and the content."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_sha256(folder: Path, expected: Mapping[str, str]) -> None:
    """Compare files with their hashes.

    Raises:
        ModelCorrupt: a file is missing or differs.
    """
    for name, digest in expected.items():
        path = folder / name
        actual = sha256(path) if path.is_file() else "no such file"
        if actual != digest:
            raise ModelCorrupt(str(path), expected=f"SHA-256 {digest}", actual=actual)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that other processes see; waits for as long as another holds it.

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path, mode=0o644):
        yield


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """A folder to fill, which takes its final name when the block ends well and vanishes when it does not.

    Hold the lock of `target`: leftovers of killed processes are removed, and a folder that is there is replaced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f"{_PARTIAL}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=target.parent))
    try:
        staging.chmod(0o755)  # mkdtemp makes it private; a cache may be shared
        yield staging
        if target.exists():
            target.replace(Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=target.parent)) / "old")
        staging.replace(target)
    finally:
        for leftover in target.parent.glob(f"{_PARTIAL}*"):
            shutil.rmtree(leftover, ignore_errors=True)
