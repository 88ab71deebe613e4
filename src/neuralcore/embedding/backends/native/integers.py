"""Products as integers, packed as the kernels read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...families.stack import Array, Linear
from .panels import pack_columns
from .rounding import quantize_columns_for

GROUP, BLOCK = 4, 128
"""Neighbours in k that lie side by side, and the largest block of the Hadamard transform: as
native/include/neuralcore.h says."""

_LOWEST, _HIGHEST = -96, 95  # integers of inputs


@dataclass(frozen=True, slots=True, eq=False)
class PackedProduct:
    """A product as native/include/neuralcore.h describes it.

    Args:
        weight: int8 (out / 16, in / 4, 16, 4).
        column_scale: float32 (out,).
        column_sum: int32 (out,).
        bias: float32 (out,).
    """

    weight: NDArray[np.int8]
    column_scale: Array
    column_sum: NDArray[np.int32]
    bias: Array


def pack_product(linear: Linear, x: Array) -> PackedProduct:
    """Quantize and pack a product.

    Inputs are transformed so that a few large ones among them do not make all steps large, and weights by the inverse
    (QuaRot, arXiv:2404.00456).

    Args:
        linear: the product.
        x: float32 (tokens, in), inputs that were seen: the mean error over them goes into the bias.
    """
    transformed = hadamard(x)
    weight = np.ascontiguousarray(hadamard(linear.weight.T).T) / np.float32(_block_of(x.shape[1]))
    integers, scale = quantize_columns_for(weight, transformed)
    steps, row_scale = quantize_rows(transformed)
    bias = 0 if linear.bias is None else linear.bias
    found = (steps @ integers.astype(np.float32)) * scale * row_scale
    return PackedProduct(
        weight=pack_columns(integers, GROUP),
        column_scale=scale,
        column_sum=integers.sum(axis=0, dtype=np.int32),
        bias=(bias - (found - x @ linear.weight).mean(axis=0)).astype(np.float32),
    )


def hadamard(x: Array) -> Array:
    """The Hadamard transform of each row of float32 (rows, n), in blocks; not scaled.

    Example:
        >>> hadamard(np.array([[1, 2, 3, 5]], np.float32))
        array([[11., -3., -5.,  1.]], dtype=float32)
    """
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < _block_of(x.shape[1]):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    blocks = x.reshape(len(x), -1, len(matrix))
    result: Array = (blocks @ matrix).reshape(x.shape)
    return result


def _block_of(n: int) -> int:
    return min(n & -n, BLOCK)


def quantize_rows(x: Array) -> tuple[Array, Array]:
    """Integers as the kernels make them of transformed inputs, less zero: float32 (rows, in); and scales (rows, 1)."""
    low, high = np.minimum(x.min(axis=1, keepdims=True), 0), np.maximum(x.max(axis=1, keepdims=True), 0)
    scale = np.maximum((high - low) / np.float32(_HIGHEST - _LOWEST), np.float32(1e-30))
    zero = np.rint(-low / scale) + _LOWEST
    return np.clip(np.rint(x / scale) + zero, _LOWEST, _HIGHEST) - zero, scale
