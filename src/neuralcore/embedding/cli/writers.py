"""Vectors to a file or to standard output, chunk after chunk. A file has its name only when it is whole."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from neuralcore.embedding import InputError
from neuralcore.embedding.files import staging_beside

from .records import Chunk, Row, Source, Write

if TYPE_CHECKING:
    from neuralcore.embedding.types import Vectors

SUFFIXES = (".npy", ".jsonl", ".parquet")
_NPY_HEADER_BYTES = 128
_NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def check_output(path: Path | None) -> None:
    """Refuse an output before anything is computed.

    Raises:
        InputError: an unknown ending, no such folder, or a pipe or device, which a file would replace.
        DependencyMissing: pyarrow is needed.
    """
    if path is None:
        return
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: its ending must be one of {', '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.absolute().parent}")
    try:
        path.resolve()
    except RuntimeError as error:  # an OSError since Python 3.13
        raise InputError(f"{path} is a link that leads to itself") from error
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no file; a pipe or device can be had by standard output: > {path}")
    if path.suffix.lower() == ".parquet":
        from .parquet import require_pyarrow

        require_pyarrow()


@contextmanager
def open_writer(path: Path | None, source: Source, dimension: int) -> Iterator[Write]:
    """A writer by the file's ending; JSON lines on standard output where there is no file.

    Raises:
        InputError: two columns have one name, and the output could hold one of them only.
    """
    _require_room(path, source)
    if path is None:
        yield _json_lines(sys.stdout.buffer)
        return
    with _renamed_at_the_end(path) as file:
        match path.suffix.lower():
            case ".npy":
                with _npy_writer(file, dimension) as write:
                    yield write
            case ".parquet":
                from .parquet import parquet_writer

                with parquet_writer(file, source, dimension) as write:
                    yield write
            case _:
                yield _json_lines(file)


def _require_room(path: Path | None, source: Source) -> None:
    kind = path.suffix.lower() if path else ".jsonl"
    if kind == ".npy" or (kind == ".parquet" and source.schema is not None):
        return  # no columns, or Arrow's own, which it tells apart by their place
    repeated = [name for name, count in Counter(source.columns).items() if count > 1 and name != "embedding"]
    if repeated:
        names = ", ".join(map(repr, repeated))
        raise InputError(f"several columns are named {names}, and one each could be kept; rename them")


def _json_lines(file: BinaryIO) -> Write:
    """One JSON object a line, always in UTF-8: the record's fields and "embedding"."""

    def write(chunk: Chunk, vectors: Vectors) -> None:
        # NumPy writes the fewest digits that give the same float32; those of a Python float would be twice as many.
        numbers = vectors.astype("U16").tolist()
        file.writelines(_json_line(row, values) for row, values in zip(_rows(chunk), numbers, strict=True))
        file.flush()

    return write


def _rows(chunk: Chunk) -> Any:
    if chunk.batch is None:
        return chunk.rows
    from .parquet import to_rows

    return to_rows(chunk.batch)


def _json_line(row: Row, values: list[str]) -> bytes:
    kept = {name: value for name, value in row.items() if name != "embedding"}
    fields = _to_json(kept, ensure_ascii=False)
    try:
        return _joined(fields, values).encode()
    except UnicodeEncodeError:  # a field was read from an escape like \ud800, and can only be written as one
        return _joined(_to_json(kept, ensure_ascii=True), values).encode()


def _joined(fields: str, values: list[str]) -> str:
    return f'{fields.removesuffix("}")}{", " if fields != "{}" else ""}"embedding": [{", ".join(values)}]}}\n'


def _to_json(row: Row, *, ensure_ascii: bool) -> str:
    encode = partial(json.dumps, ensure_ascii=ensure_ascii, allow_nan=False, default=_plain)
    try:
        return encode(row)
    except ValueError:
        return encode({name: _fit(value, name) for name, value in row.items()})


def _plain(value: object) -> str:
    """Dates, decimals and the like as they are printed."""
    if isinstance(value, bytes):
        raise ValueError("bytes are no text")
    return str(value)


def _fit(value: Any, column: str) -> Any:
    """What JSON can hold of a value: there is no NaN, and null is what it means in tables."""
    match value:
        case dict():
            return {key: _fit(each, column) for key, each in value.items()}
        case list() | tuple():
            return [_fit(each, column) for each in value]
        case float() if math.isnan(value):
            return None
        case float() if math.isinf(value):
            raise InputError(f"column {column!r} holds {value}, which JSON cannot hold; choose a .parquet output")
        case bytes():
            raise InputError(f"column {column!r} holds bytes, which JSON cannot hold; choose a .parquet output")
    return value


@contextmanager
def _npy_writer(file: BinaryIO, dimension: int) -> Iterator[Write]:
    """NumPy's .npy, format 1.0; the header is written again at the end, when the number of rows is known."""
    n_rows = 0

    def write(_: Chunk, vectors: Vectors) -> None:
        nonlocal n_rows
        file.write(vectors.astype("<f4").tobytes())
        n_rows += len(vectors)

    file.write(_npy_header(0, dimension))
    yield write
    file.seek(0)
    file.write(_npy_header(n_rows, dimension))


def _npy_header(n_rows: int, dimension: int) -> bytes:
    header = {"descr": "<f4", "fortran_order": False, "shape": (n_rows, dimension)}
    text = repr(header).encode().ljust(_NPY_HEADER_BYTES - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@contextmanager
def _renamed_at_the_end(path: Path) -> Iterator[BinaryIO]:
    path = path.resolve()  # a link stays a link
    with _naming(path), staging_beside(path) as staging:
        with (staging / path.name).open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # a name must not reach the disk before what it names
        (staging / path.name).replace(path)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say which file is meant where the system says only that there is no room."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
