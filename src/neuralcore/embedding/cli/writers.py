"""Vectors to a file or to standard output, block after block. A file has its name only when it is whole."""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TextIO

from neuralcore.embedding import DependencyMissing, InputError

if TYPE_CHECKING:
    from neuralcore.embedding.types import Vectors

SUFFIXES = (".npy", ".jsonl", ".parquet")
_NPY_HEADER_BYTES = 128


class Writer(Protocol):
    """Takes blocks of vectors with their records' fields."""

    def write(self, fields: Sequence[dict[str, Any]], vectors: Vectors) -> None:
        """Write one block."""

    def finish(self) -> None:
        """Write what can be known only at the end."""


@contextmanager
def open_writer(path: Path | None, dimension: int) -> Iterator[Writer]:
    """A writer by the file's ending; JSON lines on standard output where there is no file.

    Raises:
        InputError: an unknown ending.
        DependencyMissing: pyarrow is needed.
    """
    if path is None:
        yield JsonLines(sys.stdout)
        return
    make = _maker(path, dimension)
    with _renamed_at_the_end(path) as temporary, temporary.open("w+b") as file:
        writer = make(file)
        yield writer
        writer.finish()


def check_output(path: Path | None) -> None:
    """Refuse an output before anything is computed.

    Raises:
        InputError: an unknown ending, or no such folder.
    """
    if path and path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: its ending must be one of {', '.join(SUFFIXES)}")
    if path and not path.absolute().parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.absolute().parent}")


class JsonLines:
    """One JSON object a line: the record's fields and "embedding"."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, fields: Sequence[dict[str, Any]], vectors: Vectors) -> None:
        """See `Writer`."""
        for record, vector in zip(fields, vectors, strict=True):
            # repr of a float32 as a float64 would show digits that float32 does not have.
            values = [float(str(value)) for value in vector]
            self._file.write(json.dumps({**record, "embedding": values}, ensure_ascii=False, default=str) + "\n")
        self._file.flush()

    def finish(self) -> None:
        """See `Writer`."""


class JsonLinesFile(JsonLines):
    """The same, into a binary file."""

    def __init__(self, file: BinaryIO) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="\n")
        super().__init__(self._text)

    def finish(self) -> None:
        """See `Writer`."""
        self._text.detach()


class Npy:
    """NumPy's .npy, format 1.0; the header is written again at the end, when the number of rows is known."""

    def __init__(self, file: BinaryIO, dimension: int) -> None:
        self._file, self._dimension, self._n_rows = file, dimension, 0
        self._write_header()

    def write(self, fields: Sequence[dict[str, Any]], vectors: Vectors) -> None:  # noqa: ARG002
        """See `Writer`. Vectors only."""
        self._file.write(vectors.astype("<f4").tobytes())
        self._n_rows += len(vectors)

    def finish(self) -> None:
        """See `Writer`."""
        self._file.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        header = {"descr": "<f4", "fortran_order": False, "shape": (self._n_rows, self._dimension)}
        text = repr(header).encode().ljust(_NPY_HEADER_BYTES - 11) + b"\n"
        self._file.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)


class Parquet:
    """The records' columns, and `embedding` as a list of float32 of fixed size."""

    def __init__(self, file: BinaryIO, dimension: int) -> None:
        self._file, self._dimension = file, dimension
        self._writer: Any = None

    def write(self, fields: Sequence[dict[str, Any]], vectors: Vectors) -> None:
        """See `Writer`."""
        import pyarrow as pa
        import pyarrow.parquet

        table = pa.Table.from_pylist(list(fields), schema=self._writer and self._writer.schema.remove(self._last()))
        flat = pa.array(vectors.ravel(), pa.float32())
        table = table.append_column("embedding", pa.FixedSizeListArray.from_arrays(flat, self._dimension))
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def finish(self) -> None:
        """See `Writer`."""
        if self._writer is None:
            import numpy as np

            self.write([], np.empty((0, self._dimension), np.float32))
        self._writer.close()

    def _last(self) -> int:
        return len(self._writer.schema) - 1


def _maker(path: Path, dimension: int) -> Any:
    match path.suffix.lower():
        case ".npy":
            return lambda file: Npy(file, dimension)
        case ".jsonl":
            return JsonLinesFile
        case ".parquet":
            try:
                import pyarrow.parquet  # noqa: F401
            except ImportError as error:
                raise DependencyMissing("pyarrow", "parquet") from error
            return lambda file: Parquet(file, dimension)
    raise InputError(f"{path}: its ending must be one of {', '.join(SUFFIXES)}")


@contextmanager
def _renamed_at_the_end(path: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
