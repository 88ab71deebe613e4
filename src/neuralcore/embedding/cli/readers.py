"""Texts from a file or a pipe, chunk after chunk, with whatever else their records hold."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from neuralcore.embedding import InputError
from neuralcore.embedding.stream import WINDOW_CHARACTERS, WINDOW_TEXTS

from .records import Chunk, Record, Row, Source, require_column

SUFFIXES = (".txt", ".jsonl", ".csv", ".parquet")
_LONGEST_FIELD = 2**31 - 1  # csv stops at 131,072 characters by default; more than this is no C long on Windows

Parse = Callable[[Iterator[str], str], tuple[Sequence[str], Iterator[Record]]]


def text_source(texts: Sequence[str]) -> Source:
    """Texts that are here already."""
    return Source(chunks=_chunked((text, {"text": text}) for text in texts), n_texts=len(texts))


def line_source(stream: BinaryIO) -> Source:
    """The lines of a stream, each a text."""
    return _parsed(stream, "text", _read_text)


def open_source(path: Path, column: str) -> AbstractContextManager[Source]:
    """A file's records, by its ending.

    Raises:
        InputError: an unknown ending, a column that is not there, or a line that cannot be read; with its number.
        DependencyMissing: pyarrow is needed.
    """
    match path.suffix.lower():
        case ".txt":
            return _open_lines(path, column, _read_text)
        case ".jsonl":
            return _open_lines(path, column, _read_jsonl)
        case ".csv":
            return _open_lines(path, column, _read_csv)
        case ".parquet":
            from .parquet import open_parquet

            return open_parquet(path, column)
    raise InputError(f"{path}: its ending must be one of {', '.join(SUFFIXES)}")


@contextmanager
def _open_lines(path: Path, column: str, parse: Parse) -> Iterator[Source]:
    with path.open("rb") as stream:
        yield _parsed(stream, column, parse)


def _parsed(stream: BinaryIO, column: str, parse: Parse) -> Source:
    columns, records = parse(_decoded(stream), column)
    return Source(columns=columns, chunks=_chunked(records))


def _chunked(records: Iterable[Record]) -> Iterator[Chunk]:
    """Chunks as large as the engine's windows, so that as little as possible waits for the other."""
    texts: list[str] = []
    rows: list[Row] = []
    n_characters = 0
    for text, row in records:
        texts.append(text)
        rows.append(row)
        n_characters += len(text)
        if len(texts) >= WINDOW_TEXTS or n_characters >= WINDOW_CHARACTERS:
            yield Chunk(texts, rows)
            texts, rows, n_characters = [], [], 0
    if texts:
        yield Chunk(texts, rows)


def _decoded(stream: BinaryIO) -> Iterator[str]:
    for number, line in enumerate(stream, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"line {number} is not UTF-8: {error.reason} at byte {error.start}") from error


def _read_text(lines: Iterator[str], _: str) -> tuple[Sequence[str], Iterator[Record]]:
    texts = (line.removesuffix("\n").removesuffix("\r") for line in lines)
    return ("text",), ((text, {"text": text}) for text in texts)


def _read_jsonl(lines: Iterator[str], column: str) -> tuple[Sequence[str], Iterator[Record]]:
    filled = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    return (column,), (_json_record(line, column, f"line {number}") for number, line in filled)


def _json_record(line: str, column: str, where: str) -> Record:
    try:
        row = _JSON.decode(line)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise InputError(f"{where} is no JSON object")
    require_column(column, row, where)
    text = row[column]
    if not isinstance(text, str):
        raise InputError(f"{where}: column {column!r} holds {type(text).__name__}, not a text")
    return text, row


def _unique(pairs: list[tuple[str, Any]]) -> Row:
    """An object whose keys are all kept: of two with one name, json would keep the last."""
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise InputError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands there twice")
    return row


_JSON = json.JSONDecoder(object_pairs_hook=_unique)


def _read_csv(lines: Iterator[str], column: str) -> tuple[Sequence[str], Iterator[Record]]:
    csv.field_size_limit(_LONGEST_FIELD)
    table = csv.reader(lines, strict=True)
    rows = _csv_rows(table)
    _, columns = next(rows, (1, []))
    require_column(column, columns, "the header")
    return columns, (_csv_record(columns, values, column, f"line {number}") for number, values in rows)


def _csv_rows(table: Any) -> Iterator[tuple[int, list[str]]]:
    try:
        yield from ((table.line_num, values) for values in table if values)
    except csv.Error as error:
        raise InputError(f"line {table.line_num} is not CSV: {error}") from error


def _csv_record(columns: Sequence[str], values: Sequence[str], column: str, where: str) -> Record:
    if len(values) != len(columns):
        raise InputError(f"{where} has {len(values)} fields, the header {len(columns)}")
    row = dict(zip(columns, values, strict=True))
    return row[column], row
