"""Products as integers: smoothed by what goes into them, and packed as the kernels read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..build.checkpoint import Array
from .rounding import quantize_columns, quantize_columns_for
from .stack import Linear

PANEL, GROUP = 16, 4
"""Columns of a panel, and neighbours in k that lie side by side in it: as native/include/neuralcore.h says."""

_LOWEST, _HIGHEST = -96, 95  # integers of inputs
_SHARES = (0.0, 0.35, 0.5, 0.6, 0.7, 0.8)  # of an outlier that moves into the weights
_SAMPLED_TOKENS = 1024


@dataclass(frozen=True, slots=True, eq=False)
class PackedProduct:
    """A product as native/include/neuralcore.h describes it.

    Args:
        weight: int8 (out / 16, in / 4, 16, 4).
        column_scale: float32 (out,).
        column_sum: int32 (out,).
        bias: float32 (out,).
        smooth: float32 (in,).
    """

    weight: NDArray[np.int8]
    column_scale: Array
    column_sum: NDArray[np.int32]
    bias: Array
    smooth: Array


def find_smoothing(linears: Sequence[Linear], x: Array) -> Array:
    """What to multiply an input with, so that products with it have the least error: SmoothQuant (arXiv:2211.10438).

    Args:
        linears: the products with this input.
        x: float32 (tokens, in), inputs that were seen.

    Returns:
        float32 (in,).
    """
    weight = np.concatenate([linear.weight for linear in linears], axis=1)
    largest, heaviest = np.abs(x).max(axis=0), np.abs(weight).max(axis=1)
    sample = x[:: max(1, len(x) // _SAMPLED_TOKENS)]
    expected = sample @ weight

    def error(smooth: Array) -> float:
        steps, row_scale = quantize_rows(sample * smooth)
        integers, scale = quantize_columns(np.divide(weight, smooth[:, None], dtype=np.float32))
        found = (steps @ integers.astype(np.float32)) * scale * row_scale
        return float(((found - expected) ** 2).sum())

    return min((_smoothing(largest, heaviest, share) for share in _SHARES), key=error)


def pack_product(linear: Linear, smooth: Array, x: Array) -> PackedProduct:
    """Quantize and pack a product.

    Args:
        linear: the product.
        smooth: from `find_smoothing`.
        x: float32 (tokens, in), inputs that were seen: the mean error over them goes into the bias.
    """
    integers, scale = quantize_columns_for(linear.weight / smooth[:, None], x * smooth)
    steps, row_scale = quantize_rows(x * smooth)
    found = (steps @ integers.astype(np.float32)) * scale * row_scale
    return PackedProduct(
        weight=pack_columns(integers),
        column_scale=scale,
        column_sum=integers.sum(axis=0, dtype=np.int32),
        bias=(linear.bias - (found - x @ linear.weight).mean(axis=0)).astype(np.float32),
        smooth=smooth,
    )


def pack_columns(integers: NDArray[np.int8]) -> NDArray[np.int8]:
    """Int8 (in, out) as panels: (out / 16, in / 4, 16, 4)."""
    n_in, n_out = integers.shape
    panels = integers.reshape(n_in // GROUP, GROUP, n_out // PANEL, PANEL)
    return np.ascontiguousarray(panels.transpose(2, 0, 3, 1))


def quantize_rows(x: Array) -> tuple[Array, Array]:
    """What the kernels make of an input: whole numbers less their zero, float32 (rows, in), and scales (rows, 1)."""
    low, high = np.minimum(x.min(axis=1, keepdims=True), 0), np.maximum(x.max(axis=1, keepdims=True), 0)
    scale = np.maximum((high - low) / np.float32(_HIGHEST - _LOWEST), np.float32(1e-30))
    zero = np.rint(-low / scale) + _LOWEST
    return np.clip(np.rint(x / scale) + zero, _LOWEST, _HIGHEST) - zero, scale


def _smoothing(activations: Array, weights: Array, share: float) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = activations.astype(np.float64) ** share / weights.astype(np.float64) ** (1 - share)
    usable = np.isfinite(factors) & (factors > 0)
    return np.where(usable, 1 / np.where(usable, factors, 1), 1).astype(np.float32)
