"""Runs a static model: looks up the rows of a text's tokens and takes their mean."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...batch import refuse_beyond
from ...config import ModelConfig
from ...errors import InferenceError, UnsupportedModel
from ...pooling import normalize
from ...types import Advance, Lengths, TokenBatch, Vectors
from .table import Table

BLOCK_TOKENS = 1024
"""Whose rows are looked up at a time; 1 MB of 256 components."""


class StaticEncoder:
    """A table of token vectors as an `Encoder`.

    A text without tokens has the zero vector. Rows are added in the order of a text's tokens, in blocks that begin with
    the text, so that its vector is the same, bit for bit, in any batch.

    Args:
        path: the safetensors file, see `Table`.
        config: dimension and normalisation.

    Raises:
        UnsupportedModel: the configuration is not of this model.
        ModelCorrupt: the file is damaged.
    """

    device = "cpu"
    backend = "static"
    takes_sentence = False

    def __init__(self, path: Path, config: ModelConfig) -> None:
        self._table: Table | None = Table(path)
        self._config = config
        if self._table.dimension != config.dimension:
            has = f"its vectors have {self._table.dimension} components"
            raise UnsupportedModel(str(path), f"{has}, its configuration says otherwise")

    def encode(self, tokens: TokenBatch, advance: Advance | None = None, threads: int | None = None) -> Vectors:  # noqa: ARG002 - one is used
        """See `Encoder.encode`. The time goes into waiting for memory, so one thread is used.

        Raises:
            InputError: a token is beyond the table.
            InferenceError: a vector is not finite.
        """
        table = self._table
        if table is None:
            raise InferenceError(self.backend, "the engine was closed")
        refuse_beyond(table.n_tokens, tokens)
        out = np.zeros((len(tokens), table.dimension), np.float32)
        for rows in _blocks(tokens.lengths):
            some = tokens.part(rows.start, rows.stop)
            out[rows] = _means(table, some)
            if advance:
                advance(len(some))
        if not np.isfinite(out).all():
            raise InferenceError.not_finite(self.backend)
        return normalize(out) if self._config.normalize else out

    def give_back(self) -> None:
        """See `Encoder.give_back`: nothing is kept."""

    def close(self) -> None:
        """See `Encoder.close`."""
        self._table = None


def _blocks(lengths: Lengths) -> Iterator[slice]:
    """Neighbouring texts of a block together; a longer text is alone."""
    start, n_tokens = 0, 0
    for row, length in enumerate(lengths.tolist()):
        if n_tokens + length > BLOCK_TOKENS and row > start:
            yield slice(start, row)
            start, n_tokens = row, 0
        n_tokens += length
    if start < len(lengths):
        yield slice(start, len(lengths))


def _means(table: Table, tokens: TokenBatch) -> Vectors:
    lengths = tokens.lengths
    sums = np.zeros((len(tokens), table.dimension), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # the vectors are looked at
        if len(tokens.ids) > BLOCK_TOKENS:
            for start in range(0, len(tokens.ids), BLOCK_TOKENS):
                sums[0] += table.take(tokens.ids[start : start + BLOCK_TOKENS]).sum(axis=0)
        elif len(tokens.ids):
            some = np.flatnonzero(lengths)
            sums[some] = np.add.reduceat(table.take(tokens.ids), tokens.offsets[:-1][some])
        means: Vectors = sums / np.maximum(lengths, 1).astype(np.float32)[:, None]
    return means
