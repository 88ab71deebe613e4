"""How the input of a product becomes integers, with the least error of the result on sampled activations.

SmoothQuant (arXiv:2211.10438) moves outliers from activations, which are quantized coarsely, into weights:

    x @ w = (x / f) @ (f w)        f > 1 where a channel of x reaches far
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .activations import Activations
from .model import Array

_LARGEST = 127  # of a weight; -128 is left out, so that ranges are symmetric
_STEPS = 255  # of an activation
_SHARES = (0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9)  # of an outlier that moves
_ONE_SIDED = 0.25  # of the highest value, what lies below zero
_LOW_SHARES = (0.05, 0.1, 0.15, 0.2, 0.3)  # of a token's range, kept for what lies below zero
_EVEN_SHARES = (0.2, 0.4, 0.5, 0.6, 0.7)  # of an outlier that moves, where each token has its own scale
SMALLEST_FLOOR = 1e-6
"""Of what a token's values are divided by."""


@dataclass(frozen=True, slots=True, eq=False)
class Quantization:
    """How the input of a product is turned to integers: `round(x / factors / scale) + zero`.

    Args:
        factors: float32 (channels,).
        scale: size of a step.
        zero: the integer that stands for 0.
    """

    factors: Array
    scale: float
    zero: int

    def product(self, x: Array, weight: Array) -> Array:
        """The product as it is computed with integers."""
        integers, weight_scale = quantize_columns(weight * self.factors[:, None])
        steps = np.clip(np.rint(x / (self.factors * np.float32(self.scale))) + self.zero, 0, _STEPS) - self.zero
        result: Array = (steps.astype(np.float32) @ (integers * weight_scale)) * np.float32(self.scale)
        return result


@dataclass(frozen=True, slots=True)
class RowQuantization:
    """How the input of a product is turned to integers when each token has its own scale: `round(x / r / scale) + zero`
    with r the token's largest value, but at least `floor`.

    Args:
        floor: so large that the lowest value there is still has an integer.
        scale: size of a step, relative to r.
        zero: the integer that stands for 0.
    """

    floor: float
    scale: float
    zero: int

    def product(self, x: Array, weight: Array) -> Array:
        """The product as it is computed with integers."""
        integers, weight_scale = quantize_columns(weight)
        rows = np.maximum(x.max(axis=1, keepdims=True), np.float32(self.floor))
        steps = np.clip(np.rint(x / rows / np.float32(self.scale)) + self.zero, 0, _STEPS) - self.zero
        result: Array = (steps.astype(np.float32) @ (integers * weight_scale)) * (rows * np.float32(self.scale))
        return result


@dataclass(frozen=True, slots=True, eq=False)
class EvenQuantization:
    """How the input of a product is turned to integers when each token has its own scale, the same on both sides of
    zero: `round(x / factors / r * 127) + 128` with r the largest size there.

    Args:
        factors: float32 (channels,).
    """

    factors: Array

    def product(self, x: Array, weight: Array) -> Array:
        """The product as it is computed with integers."""
        integers, weight_scale = quantize_columns(weight * self.factors[:, None])
        shrunk = x / self.factors
        rows = np.maximum(np.abs(shrunk).max(axis=1, keepdims=True), np.float32(SMALLEST_FLOOR)) / _LARGEST
        result: Array = (np.rint(shrunk / rows) @ (integers * weight_scale)) * rows
        return result


AnyQuantization = Quantization | RowQuantization | EvenQuantization


def find_quantization(activations: Activations, weight: Array, *, by_token: bool = False) -> AnyQuantization:
    """The quantization with the least error.

    Activations that hardly fall below zero, as GELU's and ReLU's, get a scale for each token: their outliers stand in
    few tokens, and of a token's range little is wasted on the other side of zero. It costs a pass over the values.
    Others get one where that is asked for: it costs three.

    Args:
        activations: what was observed.
        weight: float32 (channels, out), those of all products with this input side by side.
        by_token: whether two-sided values, too, get a scale for each token.
    """
    sample = activations.sample
    expected = sample @ weight

    def error(found: AnyQuantization) -> float:
        return float(((found.product(sample, weight) - expected) ** 2).sum())

    candidates: list[AnyQuantization]
    if is_one_sided(activations):
        low = float(activations.low.min())
        candidates = [_row_quantization(low, share) for share in (_LOW_SHARES if low else (0.0,))]
    elif by_token:
        candidates = [EvenQuantization(_factors_of(activations, weight, share)) for share in _EVEN_SHARES]
    else:
        candidates = [_quantization(activations, weight, share) for share in _SHARES]
    return min(candidates, key=error)


def is_one_sided(activations: Activations) -> bool:
    """Whether values hardly fall below zero."""
    return bool(-activations.low.min() < _ONE_SIDED * activations.high.max())


def quantize_columns(weight: Array) -> tuple[NDArray[np.int8], Array]:
    """Integers from -127 to 127, with one scale a column.

    Args:
        weight: float32 (in, out).

    Returns:
        int8 (in, out) and float32 (out,); their product is near the weight.
    """
    scale = (np.abs(weight).max(axis=0) / _LARGEST).astype(np.float32)
    scale[scale == 0] = 1
    return np.rint(weight / scale).astype(np.int8), scale


def _quantization(activations: Activations, weight: Array, share: float) -> Quantization:
    factors = _factors_of(activations, weight, share)
    low, high = float((activations.low / factors).min()), float((activations.high / factors).max())
    scale = (high - low) / _STEPS or 1.0
    return Quantization(factors, scale, round(-low / scale))


def _factors_of(activations: Activations, weight: Array, share: float) -> Array:
    return _factors(np.maximum(-activations.low, activations.high), np.abs(weight).max(axis=1), share)


def _row_quantization(low: float, share: float) -> RowQuantization:
    """With so large a share of the highest value for what is below zero."""
    scale = (1 + share) / _STEPS
    floor = -low / share if low else SMALLEST_FLOOR
    return RowQuantization(floor, scale, round(share / scale))


def _factors(activations: Array, weights: Array, share: float) -> Array:
    """By the largest sizes in each channel; 1 where a channel is always zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = activations.astype(np.float64) ** share / weights.astype(np.float64) ** (1 - share)
    usable = np.isfinite(ratio) & (ratio > 0)
    return np.where(usable, ratio, 1.0).astype(np.float32)
