"""Files that are whole or absent: hashes, atomic folders, locks between processes."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from errno import EACCES, EDQUOT, EFBIG, ENOSPC, EPERM, EROFS
from glob import escape
from pathlib import Path

from .errors import ModelCorrupt

NOT_WRITABLE = frozenset({ENOSPC, EDQUOT, EFBIG, EROFS, EACCES, EPERM})
"""Errors of a disk or folder that cannot take what is written: no other source of the same file would help."""
_PARTIAL = ".partial-"
_LOCK = ".lock"
_NAME_CHARACTERS = 50  # of up to 4 bytes each; a name may have 255
SILENT_WAIT_S = 5.0
"""How long a lock is waited for before the next word about it."""
_log = logging.getLogger(__name__)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_all(paths: Sequence[Path]) -> str:
    """SHA-256 of one file; of several, that of their SHA-256s."""
    digests = [sha256(path) for path in paths]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def state_of(path: Path) -> str:
    """What changes when a file changes: size and time. A link to nothing has a state, too: who needs it refuses it."""
    try:
        stat = path.stat()
    except OSError as error:
        return f"unreadable {error.errno}"
    return f"{stat.st_size} {stat.st_mtime_ns}"


def git_sha1(path: Path) -> str:
    """The id git gives a file's content, in hex: SHA-1 of a header and the content."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def plain_sha1(path: Path) -> str:
    """SHA-1 of a file, in hex: what some mirrors name small files by."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()


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
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold a lock that other processes see; waits for as long as another holds it, and says so.

    Args:
        path: of the lock, which other users may take, too, where the folder lets them.
        what: is being done under it, for the message.

    Raises:
        OSError: the folder cannot be written.
    """
    from filelock import FileLock, Timeout  # 10 ms, which what is in the cache need not wait for

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, mode=0o666)
    waited_s = 0.0
    while True:
        try:
            lock.acquire(timeout=SILENT_WAIT_S)
            break
        except Timeout:
            waited_s += SILENT_WAIT_S
            _log.warning("waiting for another process: %s (%.0f s so far; its lock is %s)", what, waited_s, path)
    try:
        yield
    finally:
        lock.release()


def sync(path: Path) -> None:
    """Have what was written reach the disk: a file, or the names in a folder."""
    if path.is_dir() and os.name == "nt":
        return  # Windows does not open folders
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, content: str) -> None:
    """Write a small file that is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_text(content, encoding="utf-8")
        sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def staged_folder(target: Path, *, alone: bool = True) -> Iterator[Path]:
    """A folder to fill, which takes its final name when the block ends well and vanishes when it does not.

    Hold the lock of `target`: leftovers of killed processes are removed, and a folder that is there is replaced.

    Args:
        target: the final name.
        alone: whether the lock is that of everything in the folder above; others may work in it if not.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{_PARTIAL}{target.name[:_NAME_CHARACTERS]}-"
    leftovers = f"{_PARTIAL}*" if alone else f"{escape(prefix)}*"
    _remove(target.parent.glob(leftovers))
    staging, old = (target.with_name(f"{prefix}{os.getpid()}-{part}") for part in ("new", "old"))
    staging.mkdir()
    try:
        yield staging
        sync_all(staging)
        if target.exists():
            target.rename(old)
        staging.rename(target)
        sync(target.parent)
    finally:
        _remove(target.parent.glob(leftovers))


def sync_all(folder: Path) -> None:
    """Have a folder and all that is in it reach the disk, before its name does."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def _remove(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def remove_siblings(folder: Path) -> None:
    """Remove what lies beside a folder, which may not be there yet itself."""
    for other in folder.parent.glob("*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)


@contextmanager
def staging_beside(target: Path) -> Iterator[Path]:
    """A folder to work in beside a file or folder to be made, on the same disk, so that a rename puts it in its place.

    At the end it is gone, and so are the folders above it that were made for it and are empty. It holds a lock that
    ends with this process: what killed processes left for the same target is removed, what others work in is not.
    """
    missing = [folder for folder in target.parents if not folder.exists()]  # the deepest first
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{_PARTIAL}{target.name[:_NAME_CHARACTERS]}-"
    for leftover in target.parent.glob(f"{escape(prefix)}*"):
        _remove_unless_locked(leftover)
    made: list[Path] = []
    try:
        with _make_locked(prefix, target.parent, made):
            yield made[-1]
    finally:
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)
        for folder in missing:
            with suppress(OSError):  # not empty: what was made is in it
                folder.rmdir()


def _make_locked(prefix: str, parent: Path, made: list[Path]) -> AbstractContextManager[object]:
    """A new folder, added to `made`, its lock held for a block; another if it was taken for a leftover meanwhile."""
    from filelock import FileLock

    while True:
        made.append(Path(tempfile.mkdtemp(prefix=prefix, dir=parent)))
        with suppress(FileNotFoundError, FileExistsError):  # where filelock makes the folder again, or fails to
            held: AbstractContextManager[object] = FileLock(made[-1] / _LOCK).acquire()
            return held


def _remove_unless_locked(folder: Path) -> None:
    from filelock import FileLock, Timeout

    with suppress(Timeout, OSError):
        if not (folder / _LOCK).exists():
            folder.rmdir()  # of a process that was killed before it had its lock; not if it has it by now
            return
        with FileLock(folder / _LOCK, timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)  # where an open file cannot be removed
