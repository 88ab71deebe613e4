"""Weights to integers so that the results of a product stay near, not the weights themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...families.stack import Array

_LARGEST = 127
_DAMPING = 0.1  # of the mean square of an input, added to each: calibration texts are few (0.01 to 0.3 tried)
_FOUR = 171  # what the positive or the negative ones of four neighbours may add up to (native/include/neuralcore.h)
_FACTORS = (1.0, 1.15, 1.3, 1.5, 1.75, 2.0, 2.5, 3.0)  # of the scale with which a column's largest weight is 127
_BLOCK = 64  # inputs whose errors are passed on together
_ROWS = 4096  # of a table, quantized together


def quantize_columns(weight: Array) -> tuple[NDArray[np.int8], Array]:
    """To the nearest integer: int8 (in, out) from -127 to 127, with one scale a column, float32 (out,)."""
    scale = (np.abs(weight).max(axis=0) / _LARGEST).astype(np.float32)
    scale[scale == 0] = 1
    return np.rint(weight / scale).astype(np.int8), scale


def quantize_rows_of(table: Array) -> tuple[NDArray[np.int8], Array]:
    """As `quantize_columns`, with one scale a row: int8 of the table's shape, and float32 (rows,).

    Some rows at a time: a table of words may be most of a model, and no second one like it finds room in memory.
    """
    integers, scale = np.empty(table.shape, np.int8), np.empty(len(table), np.float32)
    for start in range(0, len(table), _ROWS):
        rows = slice(start, start + _ROWS)
        quantized, scale[rows] = quantize_columns(table[rows].T)
        integers[rows] = quantized.T
    return integers, scale


def quantize_columns_for(weight: Array, x: Array) -> tuple[NDArray[np.int8], Array]:
    """As `quantize_columns`, but each rounding error is made up for by the weights that are still to be rounded.

    As GPTQ does (arXiv:2210.17323), by the triangular root of the inputs' second moments instead of by their inverse,
    which comes to the same (arXiv:2507.18553) in a quarter of the time. The largest inputs are rounded first, while
    most others are left. No four neighbours of a column are so large together that their products with an input would
    not fit in 16 bits: one is made smaller, and others make up for it.

    Args:
        weight: float32 (in, out), inputs a multiple of 8.
        x: float32 (tokens, in), inputs that were seen.
    """
    moments = (x.T @ x).astype(np.float64)
    moments /= np.diag(moments).mean() or 1.0
    moments[np.diag_indices_from(moments)] += _DAMPING
    scale = _find_scale(weight, np.diag(moments).astype(np.float32))
    order = np.argsort(-np.diag(moments), kind="stable")
    root = _upper_root(moments[np.ix_(order, order)])
    weights = _Weights(weight[order].astype(np.float64), scale, root, _fours(len(order))[order])
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
    members = np.argsort(_fours(len(weight)), kind="stable").reshape(-1, 4)
    lightest_first = np.take_along_axis(members, np.argsort(moments[members], axis=1), axis=1).T
    for sign in (1, -1):
        excess = np.maximum(sign * steps[members], 0).sum(axis=1) - _FOUR
        for member in lightest_first:
            less = np.clip(excess, 0, np.maximum(sign * steps[member], 0))
            steps[member] -= sign * less
            excess -= less
    result: Array = ((steps * scale - weight) ** 2 * moments[:, None]).sum(axis=0)
    return result


class _Weights:
    """Rows that are rounded one after the other, in view of the errors of those before."""

    def __init__(
        self, rows: NDArray[np.float64], scale: Array, root: NDArray[np.float64], fours: NDArray[np.intp]
    ) -> None:
        self._rows, self._scale, self._root, self._fours = rows, scale.astype(np.float64), root, fours
        self._errors = np.empty(rows.shape)
        self._most = np.full((len(rows) // 4, rows.shape[1]), _FOUR, np.int16)  # what each four has left
        self._least = -self._most
        self.integers = np.empty(rows.shape, np.int8)

    def round_block(self, start: int, end: int) -> None:
        """Row i of the root says how much of each earlier error stands in for one of row i."""
        rows, root, errors = self._rows, self._root, self._errors
        passed_on = root[:start, start:end].T @ errors[:start]
        for i in range(start, end):
            wanted = rows[i] + (passed_on[i - start] + root[start:i, i] @ errors[start:i]) / root[i, i]
            errors[i] = rows[i] - self._round(i, wanted / self._scale) * self._scale

    def _round(self, i: int, steps: NDArray[np.float64]) -> NDArray[np.int16]:
        four = self._fours[i]
        least, most = np.maximum(self._least[four], -_LARGEST), np.minimum(self._most[four], _LARGEST)
        rounded = np.clip(np.rint(steps), least, most).astype(np.int16)
        self._most[four] -= np.maximum(rounded, 0)
        self._least[four] -= np.minimum(rounded, 0)
        self.integers[i] = rounded
        return rounded


def _fours(n: int) -> NDArray[np.intp]:
    """The four that each of n inputs belongs to: 0, 1, 4 and 5 of eight, or 2, 3, 6 and 7."""
    k = np.arange(n)
    return k // 8 * 2 + k % 4 // 2


def _upper_root(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """The upper triangular U with U @ U.T = moments: Cholesky's from the other end."""
    # Contiguous: products of arrays that run backwards do without BLAS.
    return np.ascontiguousarray(np.linalg.cholesky(moments[::-1, ::-1])[::-1, ::-1], np.float64)
