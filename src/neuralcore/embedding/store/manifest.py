"""What lies in the cache for one model, where it came from, and whether it is still whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any, Self

from ..config import ModelConfig
from ..errors import ModelCorrupt
from ..files import sha256

FOLDER_VERSION = 5
"""Raised when what a folder says is read otherwise: configurations that are kept in the cache are then read again."""

_NAME = "manifest.json"
_FORMAT = 2
_PLAIN = ("max_positions", "source", "graph_version", "versions", "precision", "measured")


@dataclass(slots=True)
class FileRecord:
    """One file: `path` is relative to the manifest's folder, or absolute for a file that is used where it lies."""

    path: str
    size: int
    sha256: str
    mtime_ns: int

    @classmethod
    def of(cls, path: Path, folder: Path) -> Self:
        """Record a file as it is now."""
        stat = path.stat()
        name = path.relative_to(folder) if path.is_relative_to(folder) else path.absolute()
        return cls(str(name), stat.st_size, sha256(path), stat.st_mtime_ns)


def _versions() -> dict[str, str]:
    from importlib.metadata import version  # 15 ms, which what only reads need not wait for

    return {name: version(name) for name in ("neuralcore-embedding", "onnx", "numpy")}


@dataclass(slots=True, kw_only=True)
class Manifest:
    """A source, or a model made from one.

    Args:
        folder: where the manifest lies; None if it has not been written.
        files: by role: "model" (.onnx or .safetensors), "weights" (external data, if any), "tokenizer". The source of a
            checkpoint has no model, and a model that was made from it no tokenizer.
        config: the model's configuration.
        max_positions: most tokens it can take.
        source: kind, name, revision and hashes of what it was made from.
        graph_version: version of the writer of its graph; 0 where it has none, or one that was found.
        versions: of the packages that made it.
        precision: "fp32" for the model as it is, and for a source.
        measured: how near it is to the fp32 model, for one of another precision (`agreement.Agreement`).
    """

    folder: Path
    files: dict[str, FileRecord]
    config: ModelConfig
    max_positions: int
    source: Mapping[str, Any]
    graph_version: int = 0
    versions: Mapping[str, str] = field(default_factory=_versions)
    precision: str = "fp32"
    measured: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_checkpoint(self) -> bool:
        """Whether it is a source from which models are made; else it has a model."""
        return "model" not in self.files

    @property
    def model_path(self) -> Path:
        """What a back end opens."""
        return self.folder / self.files["model"].path

    @property
    def tokenizer_path(self) -> Path:
        """The tokenizer.json."""
        return self.folder / self.files["tokenizer"].path

    @property
    def weights_sha256(self) -> str | None:
        """SHA-256 of the checkpoint it was made from, whatever its precision; None where there was none."""
        made_from: Mapping[str, str] = self.source.get("sha256", {})
        return made_from.get("model.safetensors")

    @property
    def n_bytes(self) -> int:
        """Size of all files."""
        return sum(record.size for record in self.files.values())

    def write(self, folder: Path) -> None:
        """Write manifest.json into a folder."""
        values = {
            "format": _FORMAT,
            "graph_version": self.graph_version,
            "config": self.config.to_dict(),
            "max_positions": self.max_positions,
            "source": dict(self.source),
            "files": {role: asdict(record) for role, record in self.files.items()},
            "versions": dict(self.versions),
            "precision": str(self.precision),
            "measured": dict(self.measured),
        }
        values["digest"] = _digest(values)
        (folder / _NAME).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read a folder's manifest; None if there is none, or it was written by an incompatible version.

        Raises:
            ModelCorrupt: it is damaged.
        """
        path = folder / _NAME
        try:
            values = json.loads(path.read_bytes())
            if values["format"] != _FORMAT:
                return None
            if values.pop("digest", None) not in (None, _digest(values)):  # None: written by an earlier version
                raise ValueError("its digest is another")
            if not isinstance(values["source"], dict):
                raise TypeError("its source is no object")
            return cls(
                folder=folder,
                files=_records(values["files"]),
                config=ModelConfig.from_dict(values["config"]),
                **{key: values[key] for key in _PLAIN},
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, IsADirectoryError) as error:
            raise ModelCorrupt(str(path), expected="a manifest", actual=repr(error)) from error

    def check(self, *, thorough: bool = False) -> None:
        """Compare the files with what was recorded: size and time of change, and the SHA-256 where the time differs.

        Args:
            thorough: compare every SHA-256.

        Raises:
            ModelCorrupt: a file is missing or has changed.
        """
        for record in self.files.values():
            path = self.folder / record.path
            try:
                stat = path.stat()
            except OSError as error:
                raise ModelCorrupt(str(path), expected=f"{record.size} bytes", actual=str(error)) from error
            if stat.st_size != record.size:
                raise ModelCorrupt(str(path), expected=f"{record.size} bytes", actual=f"{stat.st_size} bytes")
            if thorough or stat.st_mtime_ns != record.mtime_ns:
                self._check_hash(path, record)

    @staticmethod
    def _check_hash(path: Path, record: FileRecord) -> None:
        actual = sha256(path)
        if actual != record.sha256:
            raise ModelCorrupt(str(path), expected=f"SHA-256 {record.sha256}", actual=actual)


def _records(values: Mapping[str, Any]) -> dict[str, FileRecord]:
    """The files; one without a digest (of an earlier version) may say anything."""
    records = {role: FileRecord(**record) for role, record in values.items()}
    if not {"model", "tokenizer"} & records.keys():
        raise ValueError("it lists neither a model nor a tokenizer")
    for record in records.values():
        if [type(value) for value in astuple(record)] != [str, int, str, int]:
            raise TypeError(f"it lists a file as {record}")
    return records


def _digest(values: Mapping[str, Any]) -> str:
    """By which a manifest knows that it is as it was written: a flipped bit may leave JSON that reads well."""
    as_read = json.loads(json.dumps(values))
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()
