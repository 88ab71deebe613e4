"""Batches of records in the forms that Ray gives them: a dictionary of arrays, a pandas DataFrame or an Arrow table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..types import Vectors


def texts_of(batch: Any, column: str) -> list[Any]:
    """The values of a column, in order.

    Raises:
        InputError: it is not there, or there several times; with the names of those that are.
    """
    names = _column_names(batch)
    if names.count(column) != 1:
        found = f"{names.count(column)} columns {column!r}" if column in names else f"no column {column!r}"
        raise InputError(f"the batch has {found}; it has {', '.join(map(repr, names)) or 'none at all'}")
    if _is_arrow(batch):
        values: list[Any] = batch.column(column).to_pylist()
        return values
    return list(getattr(batch[column], "tolist", batch[column].__iter__)())


def with_vectors(batch: Any, column: str, vectors: Vectors) -> Any:
    """The batch, in its own form, with a column of vectors; one of that name is replaced."""
    if _is_arrow(batch):
        return _with_arrow_column(batch, column, vectors)
    if hasattr(batch, "assign"):
        return batch.assign(**{column: list(vectors)})
    return {**batch, column: vectors}


def _column_names(batch: Any) -> list[str]:
    if _is_arrow(batch):
        return list(batch.column_names)
    return list(getattr(batch, "columns", batch))


def _is_arrow(batch: Any) -> bool:
    return hasattr(batch, "append_column")


def _with_arrow_column(table: Any, column: str, vectors: Vectors) -> Any:
    import pyarrow as pa

    values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1])
    if column in table.column_names:
        return table.set_column(table.column_names.index(column), column, values)
    return table.append_column(column, values)
