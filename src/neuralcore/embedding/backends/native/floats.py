"""Products and words as floats: fp32, halves, or bfloat16 as the upper halves of float32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...families.stack import Array, Embeddings, Layer, Linear
from ...types import Precision
from .file import Blocks, Named
from .format import FORMS
from .panels import pack_columns

_ROWS = 4096  # of a table, made at a time
_RANGES: Mapping[str, tuple[str, float]] = {
    "float32": ("fp32", float(np.finfo(np.float32).max)),
    "float16": ("fp16", float(np.finfo(np.float16).max)),
    "uint16": ("bf16", 2.0**128 - 2.0**120),
}


class BeyondRange(ValueError):
    """A weight is larger than all numbers of a precision."""


class Floats:
    """Makes the tensors of a model whose precision is one of floats.

    Args:
        precision: which.
    """

    def __init__(self, precision: Precision) -> None:
        self._form = FORMS[precision]

    def words(self, embeddings: Embeddings, scale: float) -> Iterator[Named]:
        """The table of words, with what its rows are multiplied by; made as it is written."""
        table, dtype = embeddings.words, self._form.words
        parts = (
            _round("the table of words", table[start : start + _ROWS] * np.float32(scale), dtype)
            for start in range(0, len(table), _ROWS)
        )
        yield "words", Blocks(np.dtype(dtype), table.shape, parts)

    def products(self, number: int, _: Layer, linears: Mapping[str, Linear], /) -> Iterator[Named]:
        """Those of a layer: their parts by name."""
        for name, linear in linears.items():
            weight = _round(f"{name} of layer {number}", linear.weight, self._form.dtype)
            yield f"{name}.weight", pack_columns(weight, self._form.group)
            bias = linear.bias
            yield f"{name}.bias", np.zeros(weight.shape[1], np.float32) if bias is None else bias


def _round(name: str, values: Array, dtype: str) -> NDArray[Any]:
    """To the nearest.

    Raises:
        BeyondRange: one is too large.
    """
    kind, most = _RANGES[dtype]
    largest = max(-float(values.min()), float(values.max()))
    if not largest <= most:
        raise BeyondRange(f"{name} reaches {largest:g}, and {kind} ends at {most:g}")
    return round_to_bfloat16(values) if dtype == "uint16" else values.astype(dtype, copy=False)


def round_to_bfloat16(values: Array) -> NDArray[np.uint16]:
    """The upper halves of float32, to the nearest, ties to even; of finite numbers.

    Example:
        >>> [hex(half) for half in round_to_bfloat16(np.array([1, -2, 3.14159], np.float32))]
        ['0x3f80', '0xc000', '0x4049']
    """
    bits = values.view(np.uint32)
    return ((bits + (bits >> 16 & 1) + 0x7FFF) >> 16).astype(np.uint16)
