"""Weights to integers so that the results of a product stay near, not the weights themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..build.checkpoint import Array

_LARGEST = 127
_DAMPING = 0.1  # of the mean square of an input, added to each: calibration texts are few (0.01 to 0.3 tried)
_BLOCK = 64  # inputs whose errors are passed on together


def quantize_columns(weight: Array) -> tuple[NDArray[np.int8], Array]:
    """To the nearest integer: int8 (in, out) from -127 to 127, with one scale a column, float32 (out,)."""
    scale = (np.abs(weight).max(axis=0) / _LARGEST).astype(np.float32)
    scale[scale == 0] = 1
    return np.rint(weight / scale).astype(np.int8), scale


def quantize_columns_for(weight: Array, x: Array) -> tuple[NDArray[np.int8], Array]:
    """As `quantize_columns`, but each rounding error is made up for by the weights that are still to be rounded.

    GPTQ (arXiv:2210.17323): inputs that move together are taken from the inverse of their second moments; the largest
    inputs are rounded first, while most others are left.

    Args:
        weight: float32 (in, out).
        x: float32 (tokens, in), inputs that were seen.
    """
    _, scale = quantize_columns(weight)
    moments = x.T.astype(np.float64) @ x
    order = np.argsort(-np.diag(moments), kind="stable")
    moments[np.diag_indices_from(moments)] += _DAMPING * np.diag(moments).mean() + np.finfo(np.float32).tiny
    weights = _Weights(weight[order].astype(np.float64), scale, _upper_root(moments[np.ix_(order, order)]))
    for start in range(0, len(order), _BLOCK):
        weights.round_block(start, min(start + _BLOCK, len(order)))
    integers = np.empty(weight.shape, np.int8)
    integers[order] = weights.integers
    return integers, scale


class _Weights:
    """Rows, of which the first have been rounded and the others hold what makes up for it."""

    def __init__(self, rows: NDArray[np.float64], scale: Array, root: NDArray[np.float64]) -> None:
        self._rows, self._scale, self._root = rows, scale.astype(np.float64), root
        self.integers = np.empty(rows.shape, np.int8)

    def round_block(self, start: int, end: int) -> None:
        rows, root = self._rows, self._root
        errors = np.empty((end - start, rows.shape[1]))
        for i in range(start, end):
            steps = np.clip(np.rint(rows[i] / self._scale), -_LARGEST, _LARGEST)
            self.integers[i] = steps
            errors[i - start] = (rows[i] - steps * self._scale) / root[i, i]
            rows[i + 1 : end] -= np.outer(root[i, i + 1 : end], errors[i - start])
        rows[end:] -= root[start:end, end:].T @ errors


def _upper_root(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """U with U.T @ U = the inverse."""
    root: NDArray[np.float64] = np.linalg.cholesky(np.linalg.inv(moments)).T
    return root
