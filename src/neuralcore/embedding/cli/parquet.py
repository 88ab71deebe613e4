"""Parquet in and out. Records stay Arrow batches, so that a column leaves with the type it came with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from neuralcore.embedding import DependencyMissing, InputError

from .records import Chunk, Row, Source, Write, require_column

if TYPE_CHECKING:
    from neuralcore.embedding.types import Vectors

_BATCH_ROWS = 1024
_ROW_GROUP_BYTES = 16_000_000
_TEXT_TYPES = {"string", "large_string", "string_view"}


def require_pyarrow() -> Any:
    """The package pyarrow.

    Raises:
        DependencyMissing: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DependencyMissing("pyarrow", "parquet") from error
    return pyarrow


@contextmanager
def open_parquet(path: Path, column: str) -> Iterator[Source]:
    """A Parquet file's records; see `readers.open_source`."""
    pa = require_pyarrow()
    try:
        file = pa.parquet.ParquetFile(path)
    except pa.ArrowException as error:
        raise InputError(f"{path} is no Parquet file: {error}") from error
    with file:
        schema = file.schema_arrow
        require_column(column, schema.names, str(path))
        _require_text(schema.field(column).type, column)
        batches = file.iter_batches(batch_size=_BATCH_ROWS)
        yield Source(
            chunks=_chunks(pa, batches, column), columns=schema.names, n_texts=file.metadata.num_rows, schema=schema
        )


@contextmanager
def parquet_writer(file: BinaryIO, source: Source, dimension: int) -> Iterator[Write]:
    """Writes the records' columns, and `embedding` as a list of float32 of fixed size."""
    table = _Table(require_pyarrow(), file, source, dimension)
    try:
        yield table.write
        table.flush()
    finally:
        table.close()


def to_rows(batch: Any) -> Sequence[Row]:
    """A batch as Python values. Nanoseconds become strings: datetime has none.

    Raises:
        InputError: a value that Python has no type for; with its column.
    """
    names = batch.schema.names
    values = [_to_values(name, column) for name, column in zip(names, batch, strict=True)]
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def _to_values(name: str, column: Any) -> list[Any]:
    pa = require_pyarrow()
    try:
        plain = column.cast(pa.string()) if str(column.type).startswith("timestamp[ns") else column
        values: list[Any] = plain.to_pylist()
    except (ValueError, ArithmeticError, LookupError, pa.ArrowException) as error:
        raise InputError(f"column {name!r}: {error}; choose a .parquet output") from error
    return values


class _Table:
    """Collects batches into row groups, and creates the file when the first one tells the columns."""

    def __init__(self, pa: Any, file: BinaryIO, source: Source, dimension: int) -> None:
        self._pa, self._file, self._dimension = pa, file, dimension
        # What is known before the first record: an empty input gives a table with its columns, too.
        self._empty = source.schema or pa.schema([(name, pa.string()) for name in source.columns])
        self._schema: Any = source.schema
        self._waiting: list[Any] = []
        self._writer: Any = None

    def write(self, chunk: Chunk, vectors: Vectors) -> None:
        batch = chunk.batch if chunk.batch is not None else self._to_batch(chunk.rows)
        self._waiting.append(self._with_vectors(batch, vectors))
        if sum(batch.nbytes for batch in self._waiting) >= _ROW_GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        if not self._waiting and self._writer is None:
            import numpy as np

            batch = self._pa.RecordBatch.from_pylist([], schema=self._empty)
            self._waiting.append(self._with_vectors(batch, np.empty((0, self._dimension), np.float32)))
        if self._waiting:
            self._translated(self._write_row_group)

    def close(self) -> None:
        if self._writer is not None:
            # After an error the footer of an abandoned file may fail as well: that would hide what went wrong first.
            with suppress(OSError, ValueError):
                self._writer.close()

    def _write_row_group(self) -> None:
        table = self._pa.Table.from_batches(self._waiting)
        self._waiting = []
        if self._writer is None:
            self._writer = self._pa.parquet.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def _to_batch(self, rows: Sequence[Row]) -> Any:
        columns = dict.fromkeys(name for row in rows for name in row)
        known = self._schema.names if self._schema else list(columns)
        if unknown := columns.keys() - set(known):
            names = ", ".join(map(repr, sorted(unknown)))
            raise InputError(f"column {names} is not in the first {_BATCH_ROWS} records; choose a .jsonl output")
        arrays = self._translated(lambda: [self._to_array([row.get(name) for row in rows], name) for name in known])
        batch = self._pa.RecordBatch.from_arrays(arrays, names=known)
        self._schema = batch.schema
        return batch

    def _to_array(self, values: list[Any], name: str) -> Any:
        """A column's values, as they are: Arrow by itself would make 1 of 1.5 and 1.0 of true, and forget keys."""
        found = self._pa.array(values)
        kept = self._schema.field(name).type if self._schema else found.type
        if not _fits(self._pa.types, found.type, kept):
            raise TypeError(f"column {name!r} held {kept} before and holds {found.type} now")
        if _holds_bool(self._pa.types, found.type, values):
            raise TypeError(f"column {name!r} holds bool beside numbers")
        return found if found.type == kept else self._pa.array(values, kept)

    def _with_vectors(self, batch: Any, vectors: Vectors) -> Any:
        pa = self._pa
        kept = [(field, column) for field, column in zip(batch.schema, batch, strict=True) if field.name != "embedding"]
        flat = pa.array(vectors.ravel(), pa.float32())
        embedding = pa.FixedSizeListArray.from_arrays(flat, self._dimension)
        fields = [*(field for field, _ in kept), pa.field("embedding", embedding.type)]
        schema = pa.schema(fields, metadata=batch.schema.metadata)
        return pa.RecordBatch.from_arrays([*(column for _, column in kept), embedding], schema=schema)

    def _translated(self, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except (self._pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"the records do not fit into one table: {error}; choose a .jsonl output") from error


def _fits(types: Any, found: Any, kept: Any) -> bool:
    """Whether every value of one type is one of another, or is refused by Arrow if it is not."""
    if found == kept or types.is_null(found):
        return True
    if types.is_list(found) and types.is_list(kept):
        return _fits(types, found.value_type, kept.value_type)
    if types.is_struct(found) and types.is_struct(kept):
        known = {field.name: field.type for field in kept}
        return all(field.name in known and _fits(types, field.type, known[field.name]) for field in found)
    return bool(types.is_integer(found) and types.is_floating(kept))


def _holds_bool(types: Any, kind: Any, values: list[Any]) -> bool:
    """Whether a truth value has become a number; Arrow lets it where there are floats."""
    if types.is_floating(kind):
        return bool in set(map(type, values))
    filled = [value for value in values if value is not None] if types.is_nested(kind) else []
    if types.is_list(kind):
        return _holds_bool(types, kind.value_type, [each for value in filled for each in value])
    if types.is_struct(kind):
        return any(_holds_bool(types, field.type, [value.get(field.name) for value in filled]) for field in kind)
    return False


def _require_text(kind: Any, column: str) -> None:
    name = str(getattr(kind, "value_type", kind)) if str(kind).startswith("dictionary") else str(kind)
    if name not in _TEXT_TYPES:
        raise InputError(f"column {column!r} holds {kind}, not texts")


def _chunks(pa: Any, batches: Iterator[Any], column: str) -> Iterator[Chunk]:
    n_before = 0
    try:
        for batch in batches:
            texts = batch.column(column).to_pylist()
            if None in texts:
                raise InputError(f"row {n_before + texts.index(None) + 1}: column {column!r} is null, not a text")
            n_before += len(texts)
            yield Chunk(texts, batch=batch)
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise InputError(f"the rows after {n_before} cannot be read: {error}") from error
