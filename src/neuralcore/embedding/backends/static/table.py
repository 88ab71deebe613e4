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
        self._mapping: NDArray[np.int64] | None = None
        self._weights: NDArray[np.float32] | None = None
        if _TABLE in self._file.places:
            self._rows = self._map(_TABLE, _ROWS, n_axes=2)
        else:
            self._read_model2vec()
        rows = len(self._rows)
        self.n_tokens = rows if self._mapping is None else len(self._mapping)
        if self._weights is not None and len(self._weights) != self.n_tokens:
            raise self._corrupt(f"a weight for each of {self.n_tokens} tokens", str(len(self._weights)))

    @property
    def dimension(self) -> int:
        """Components of a vector."""
        return int(self._rows.shape[1])

    def take(self, ids: NDArray[np.int32]) -> Vectors:
        """The vectors of tokens, float32 (n, dimension)."""
        rows = self._rows[ids if self._mapping is None else self._mapping[ids]]
        vectors = _as_float32(rows, self._is_bf16)
        return vectors if self._weights is None else vectors * self._weights[ids][:, None]

    def _read_model2vec(self) -> None:
        places = self._file.places
        if _WEIGHTS in places:
            self._weights = self._file.read(_WEIGHTS)
            if self._weights.ndim != 1 or not np.isfinite(self._weights).all():
                raise self._corrupt("a finite weight for each token", f"{_WEIGHTS} of shape {self._weights.shape}")
        kinds = _ROWS if self._weights is None else _WEIGHED_ROWS
        self._rows = self._map(_TABLE_OF_MODEL2VEC, kinds, n_axes=2)
        if _MAPPING in places:
            self._mapping = self._map(_MAPPING, _NUMBERS, n_axes=1).astype(np.int64)
            least, most = int(self._mapping.min()), int(self._mapping.max())
            if not 0 <= least <= most < len(self._rows):
                raise self._corrupt(f"a row below {len(self._rows)} for each token", f"rows {least} to {most}")

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
