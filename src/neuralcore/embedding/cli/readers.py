"""Texts from a file or a pipe, one record after the other."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from neuralcore.embedding import DependencyMissing, InputError

SUFFIXES = (".txt", ".jsonl", ".csv", ".parquet")
_PARQUET_ROWS = 1024


class Record(NamedTuple):
    """A text and the other fields of its line or row."""

    text: str
    fields: dict[str, Any]


def read_records(path: Path, column: str) -> Iterator[Record]:
    """The records of a file, by its ending.

    Raises:
        InputError: an unknown ending, a column that is not there, or a line that cannot be read; with its number.
    """
    match path.suffix.lower():
        case ".txt":
            return _from_file(path, _text_records)
        case ".jsonl":
            return _from_file(path, lambda lines: _jsonl_records(lines, column))
        case ".csv":
            return _from_file(path, lambda lines: _csv_records(lines, column))
        case ".parquet":
            return _parquet_records(path, column)
    raise InputError(f"{path}: its ending must be one of {', '.join(SUFFIXES)}")


def read_lines(stream: BinaryIO) -> Iterator[Record]:
    """The lines of a stream, each a text."""
    return _text_records(_decoded(stream))


def _from_file(path: Path, parse: Callable[[Iterator[str]], Iterator[Record]]) -> Iterator[Record]:
    with path.open("rb") as stream:
        yield from parse(_decoded(stream))


def _decoded(stream: BinaryIO) -> Iterator[str]:
    for number, line in enumerate(stream, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"line {number} is not UTF-8: {error.reason} at byte {error.start}") from error


def _text_records(lines: Iterator[str]) -> Iterator[Record]:
    for line in lines:
        text = line.rstrip("\r\n")
        yield Record(text, {"text": text})


def _jsonl_records(lines: Iterator[str], column: str) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise InputError(f"line {number} is not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise InputError(f"line {number} is no JSON object")
        yield Record(_field(fields, column, f"line {number}"), fields)


def _csv_records(lines: Iterator[str], column: str) -> Iterator[Record]:
    for number, fields in enumerate(csv.DictReader(lines), 2):
        yield Record(_field(fields, column, f"row {number}"), fields)


def _field(fields: dict[str, Any], column: str, where: str) -> str:
    if column not in fields:
        raise InputError(f"{where} has no column {column!r}; it has {', '.join(map(repr, fields))}")
    text = fields[column]
    if not isinstance(text, str):
        raise InputError(f"{where}: column {column!r} holds {type(text).__name__}, not a text")
    return text


def _parquet_records(path: Path, column: str) -> Iterator[Record]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DependencyMissing("pyarrow", "parquet") from error
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
            for number, fields in enumerate(batch.to_pylist()):
                yield Record(_field(fields, column, f"row {number}"), fields)
