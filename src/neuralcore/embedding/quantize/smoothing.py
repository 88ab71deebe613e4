"""SmoothQuant (arXiv:2211.10438): move outliers from activations, which are quantized coarsely, into weights.

    x @ w = (x / f) @ (f w)        f > 1 where a channel of x reaches far

How much to move is found for each product: the least error of its result on sampled activations.
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

    def round_trip(self, x: Array) -> Array:
        """The values that the integers stand for, still divided by the factors."""
        steps = np.clip(np.rint(x / (self.factors * np.float32(self.scale))) + self.zero, 0, _STEPS)
        values: Array = ((steps - self.zero) * self.scale).astype(np.float32)
        return values


def find_quantization(activations: Activations, weight: Array) -> Quantization:
    """The quantization with the least error.

    Args:
        activations: what was observed.
        weight: float32 (channels, out), those of all products with this input side by side.
    """
    sample = activations.sample
    expected = sample @ weight
    candidates = [_quantization(activations, weight, share) for share in _SHARES]
    return min(candidates, key=lambda candidate: float(((apply(candidate, sample, weight) - expected) ** 2).sum()))


def apply(quantization: Quantization, x: Array, weight: Array) -> Array:
    """The product as it is computed with integers."""
    integers, scale = quantize_columns(weight * quantization.factors[:, None])
    result: Array = quantization.round_trip(x) @ (integers * scale)
    return result


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
    factors = _factors(np.maximum(-activations.low, activations.high), np.abs(weight).max(axis=1), share)
    low, high = float((activations.low / factors).min()), float((activations.high / factors).max())
    scale = (high - low) / _STEPS or 1.0
    return Quantization(factors, scale, round(-low / scale))


def _factors(activations: Array, weights: Array, share: float) -> Array:
    """By the largest sizes in each channel; 1 where a channel is always zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = activations.astype(np.float64) ** share / weights.astype(np.float64) ** (1 - share)
    usable = np.isfinite(ratio) & (ratio > 0)
    return np.where(usable, ratio, 1.0).astype(np.float32)
