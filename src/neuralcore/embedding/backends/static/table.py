"""The table of a static model, mapped from its safetensors file: a row for each token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelCorrupt, UnsupportedModel
from ...families.tensor_file import TensorFile
from ...types import Vectors

_TABLE, _TABLE_OF_MODEL2VEC = "embedding.weight", "embeddings"
_MAPPING, _WEIGHTS = "mapping", "weights"
_ROWS = ("F32", "F16", "BF16", "F64")
_WEIGHED_ROWS = (*_ROWS, "I8")
_NUMBERS = ("I64", "I32", "I16", "U8")


def is_table(path: Path) -> bool:
    """Whether a safetensors file holds a table of vectors and no encoder."""
    try:
        names = TensorFile(path).places.keys()
    except ModelCorrupt:
        return False
    return _TABLE in names or _TABLE_OF_MODEL2VEC in names


class Table:
    """A vector for each token: `rows[mapping[token]] * weights[token]`, where the file has a mapping or weights.

    Args:
        path: a safetensors file with `embedding.weight`, as sentence-transformers writes it; or with `embeddings`, as
            model2vec does, and what else it has: `mapping`, where several tokens share a row, and `weights`.

    Raises:
        UnsupportedModel: numbers of a kind that sentence-transformers does not take, either.
        ModelCorrupt: no such file, or parts that do not fit together.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, TensorFile(path)
        self._inode, self._stamp = _stamp_of(path)
        self._mapping: NDArray[np.int64] | None = None
        self._weights: NDArray[np.float32] | None = None
        if _TABLE in self._file.places:
            self._rows = self._map(_TABLE, _ROWS, n_axes=2)
        else:
            self._read_model2vec()
        self.n_tokens = len(self._rows) if self._mapping is None else len(self._mapping)
        if _WEIGHTS in self._file.places and _TABLE not in self._file.places:
            self._weights = self._read_weights()

    @property
    def dimension(self) -> int:
        """Components of a vector."""
        return int(self._rows.shape[1])

    def take(self, ids: NDArray[np.int32]) -> Vectors:
        """The vectors of tokens, float32 (n, dimension).

        Raises:
            ModelCorrupt: another program has written to the file: to look beyond its end would end this process.
        """
        inode, stamp = _stamp_of(self._path)
        if inode == self._inode and stamp != self._stamp:  # what another program put in its place is no harm
            advice = "Load the model again. To replace a file in use, write another one and rename it."
            expected = "the table as it was when it was opened"
            raise ModelCorrupt(str(self._path), expected=expected, actual="a later change", advice=advice)
        rows = self._rows[ids if self._mapping is None else self._mapping[ids]]
        vectors = _as_float32(rows, self._is_bf16)
        return vectors if self._weights is None else vectors * self._weights[ids][:, None]

    def _read_model2vec(self) -> None:
        places = self._file.places
        kinds = _WEIGHED_ROWS if _WEIGHTS in places else _ROWS
        self._rows = self._map(_TABLE_OF_MODEL2VEC, kinds, n_axes=2)
        if _MAPPING in places:
            self._mapping = self._map(_MAPPING, _NUMBERS, n_axes=1).astype(np.int64)
            least, most = int(self._mapping.min()), int(self._mapping.max())
            if not 0 <= least <= most < len(self._rows):
                raise self._corrupt(f"a row below {len(self._rows)} for each token", f"rows {least} to {most}")

    def _read_weights(self) -> NDArray[np.float32]:
        shape = self._file.places[_WEIGHTS].shape
        if shape != (self.n_tokens,):
            raise self._corrupt(f"a weight for each of {self.n_tokens} tokens", f"{_WEIGHTS} of shape {shape}")
        weights = self._file.read(_WEIGHTS)
        if not np.isfinite(weights).all():
            raise self._corrupt("a finite weight for each token", "NaN or infinity")
        return weights

    def _map(self, name: str, kinds: tuple[str, ...], *, n_axes: int) -> NDArray[Any]:
        place = self._file.places.get(name)
        if place is None:
            raise self._corrupt(f"a tensor {_TABLE} or {_TABLE_OF_MODEL2VEC}", "none")
        if len(place.shape) != n_axes or 0 in place.shape:
            raise self._corrupt(f"{name} with {n_axes} axes", f"shape {place.shape}")
        if place.dtype not in kinds:
            reason = f"its tensor {name} holds {place.dtype} numbers, where {', '.join(kinds)} are read"
            raise UnsupportedModel(str(self._path), reason)
        return self._file.map(name)

    @property
    def _is_bf16(self) -> bool:
        return self._rows.dtype == np.uint16

    def _corrupt(self, expected: str, actual: str) -> ModelCorrupt:
        return ModelCorrupt(str(self._path), expected=expected, actual=actual, advice="Copy or download it again.")


def _as_float32(rows: NDArray[Any], is_bf16: bool) -> Vectors:
    if is_bf16:  # the upper half of a float32
        return (rows.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # the vectors are looked at
        return rows.astype(np.float32, copy=False)


def _stamp_of(path: Path) -> tuple[int | None, tuple[int, int]]:
    """Which file has this name, if any, and what changes when it is written to."""
    try:
        found = path.stat()
    except OSError:
        return None, (0, 0)
    return found.st_ino, (found.st_size, found.st_mtime_ns)
