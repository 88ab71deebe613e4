"""Weights to integers so that the results of a product stay near, not the weights themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..build.checkpoint import Array

_LARGEST = 127
_DAMPING = 0.1  # of the mean square of an input, added to each: calibration texts are few (0.01 to 0.3 tried)
_PAIR = 128  # what the positive or the negative ones of two neighbours may add up to (native/src/isa/avx2.cpp)
_FACTORS = (1.0, 1.15, 1.3, 1.5, 1.75, 2.0)  # of the scale with which a column's largest weight is 127
_BLOCK = 64  # inputs whose errors are passed on together


def quantize_columns(weight: Array) -> tuple[NDArray[np.int8], Array]:
    """To the nearest integer: int8 (in, out) from -127 to 127, with one scale a column, float32 (out,)."""
    scale = (np.abs(weight).max(axis=0) / _LARGEST).astype(np.float32)
    scale[scale == 0] = 1
    return np.rint(weight / scale).astype(np.int8), scale


def quantize_columns_for(weight: Array, x: Array) -> tuple[NDArray[np.int8], Array]:
    """As `quantize_columns`, but each rounding error is made up for by the weights that are still to be rounded.

    GPTQ (arXiv:2210.17323): inputs that move together are taken from the inverse of their second moments; the largest
    inputs are rounded first, while most others are left. No two neighbours of a column are so large together that 255
    times their sum would not fit in 16 bits: one is made smaller, and others make up for it.

    Args:
        weight: float32 (in, out), an even number of inputs.
        x: float32 (tokens, in), inputs that were seen.
    """
    moments = x.T.astype(np.float64) @ x
    moments /= np.diag(moments).mean() or 1.0
    moments[np.diag_indices_from(moments)] += _DAMPING
    scale = _find_scale(weight, np.diag(moments).astype(np.float32))
    order = np.argsort(-np.diag(moments), kind="stable")
    place = np.argsort(order)
    root = _upper_root(moments[np.ix_(order, order)])
    weights = _Weights(weight[order].astype(np.float64), scale, root, partner=place[order ^ 1])
    for start in range(0, len(order), _BLOCK):
        weights.round_block(start, min(start + _BLOCK, len(order)))
    integers = np.empty(weight.shape, np.int8)
    integers[order] = weights.integers
    return integers, scale


def _find_scale(weight: Array, moments: Array) -> Array:
    """The scale of each column with the least error: small, it rounds finely; large, it lets neighbours be large."""
    _, nearest = quantize_columns(weight)
    candidates = np.stack([nearest * np.float32(factor) for factor in _FACTORS])
    errors = np.stack([_error(weight, scale, moments) for scale in candidates])
    best: Array = np.take_along_axis(candidates, errors.argmin(axis=0)[None], axis=0)[0]
    return best


def _error(weight: Array, scale: Array, moments: Array) -> Array:
    """Of each column, rounded to the nearest integers that neighbours allow."""
    steps = np.clip(np.rint(weight / scale), -_LARGEST, _LARGEST)
    first, second = steps[::2], steps[1::2]
    excess = np.maximum(np.maximum(first, 0) + np.maximum(second, 0) - _PAIR, 0)
    excess -= np.maximum(-np.minimum(first, 0) - np.minimum(second, 0) - _PAIR, 0)
    lighter = (moments[::2] < moments[1::2])[:, None]
    steps = np.stack([first - excess * lighter, second - excess * ~lighter], axis=1).reshape(weight.shape)
    result: Array = ((steps * scale - weight) ** 2 * moments[:, None]).sum(axis=0)
    return result


class _Weights:
    """Rows, of which the first have been rounded and the others hold what makes up for it."""

    def __init__(
        self, rows: NDArray[np.float64], scale: Array, root: NDArray[np.float64], partner: NDArray[np.intp]
    ) -> None:
        self._rows, self._scale, self._root, self._partner = rows, scale.astype(np.float64), root, partner
        self.integers = np.empty(rows.shape, np.int8)

    def round_block(self, start: int, end: int) -> None:
        rows, root = self._rows, self._root
        errors = np.empty((end - start, rows.shape[1]))
        for i in range(start, end):
            steps = np.clip(np.rint(rows[i] / self._scale), *self._bounds(i))
            self.integers[i] = steps
            errors[i - start] = (rows[i] - steps * self._scale) / root[i, i]
            rows[i + 1 : end] -= np.outer(root[i, i + 1 : end], errors[i - start])
        rows[end:] -= root[start:end, end:].T @ errors

    def _bounds(self, i: int) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
        """The least and the largest integer of each column, given the neighbour's if that has been rounded."""
        known = self._partner[i] < i
        other = self.integers[self._partner[i]].astype(np.int16) if known else np.zeros_like(self._scale, np.int16)
        least = np.maximum(-_PAIR - np.minimum(other, 0), -_LARGEST)
        largest = np.minimum(_PAIR - np.maximum(other, 0), _LARGEST)
        return least, largest


def _upper_root(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """U with U.T @ U = the inverse."""
    root: NDArray[np.float64] = np.linalg.cholesky(np.linalg.inv(moments)).T
    return root
