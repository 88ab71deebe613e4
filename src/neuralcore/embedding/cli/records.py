"""Records on their way from a reader to a writer: texts, and whatever else stands beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neuralcore.embedding import InputError

if TYPE_CHECKING:
    from neuralcore.embedding.types import Vectors

Row = dict[str, Any]
Record = tuple[str, Row]
Write = Callable[["Chunk", "Vectors"], None]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some texts and their records: as rows, or as the Arrow batch they came in, which keeps every type."""

    texts: Sequence[str]
    rows: Sequence[Row] = ()
    batch: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where texts come from.

    Args:
        chunks: read as needed.
        columns: names of the records' fields, as far as they are known beforehand.
        n_texts: None if that is not known.
        schema: of the Arrow batches, where chunks are such.
    """

    chunks: Iterator[Chunk]
    columns: Sequence[str] = ("text",)
    n_texts: int | None = None
    schema: Any = None


def require_column(column: str, columns: Iterable[str], where: str) -> None:
    """Refuse a column that is not there, or there several times.

    Raises:
        InputError: with the names of those that are there.
    """
    names = list(columns)
    if column not in names:
        raise InputError(f"{where} has no column {column!r}; it has {', '.join(map(repr, names)) or 'none at all'}")
    if names.count(column) > 1:
        raise InputError(f"{where} has {names.count(column)} columns {column!r}; rename all but the one to embed")
