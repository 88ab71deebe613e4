"""The encoder in NumPy, in fp32: what calibration looks at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .checkpoint import Array
from .positions import position_ids
from .stack import Layer, Linear, Norm, Stack

Observe = Callable[[str, Array], None]
"""Called with the name of a product ("qkv", "out", "up", "down") and its input, float32 (tokens, in)."""


def embed_tokens(stack: Stack, ids: NDArray[np.int32]) -> Array:
    """What goes into the first layer for one text, float32 (tokens, hidden).

    Args:
        stack: the weights.
        ids: int32 (tokens,).
    """
    x = stack.words[ids]
    if stack.positions is not None:
        offsets = np.array([0, len(ids)], np.int64)
        x = x + stack.positions[position_ids(ids, offsets, stack.pad_position)]
    return _normalize(x, stack.embedding_norm, stack.epsilon)


def run_layer(stack: Stack, layer: Layer, x: Array, observe: Observe) -> Array:
    """What comes out of a layer for one text, float32 (tokens, hidden).

    Args:
        stack: the weights.
        layer: one of its layers.
        x: float32 (tokens, hidden).
        observe: sees the input of every product; the gate of SwiGLU has that of "up".
    """

    def product(name: str, linear: Linear, value: Array) -> Array:
        observe(name, value)
        result: Array = value @ linear.weight + linear.bias
        return result

    attended = _attend(stack, product("qkv", layer.qkv, x))
    x = _normalize(x + product("out", layer.out, attended), layer.attention_norm, stack.epsilon)
    up = product("up", layer.up, x)
    inner = up * _silu(x @ layer.gate.weight + layer.gate.bias) if layer.gate else _activate(stack.activation, up)
    return _normalize(x + product("down", layer.down, inner), layer.output_norm, stack.epsilon)


def _attend(stack: Stack, qkv: Array) -> Array:
    n, size = len(qkv), stack.hidden // stack.n_heads
    query, key, value = qkv.reshape(n, 3, stack.n_heads, size).transpose(1, 2, 0, 3)
    if stack.angles is not None:
        query, key = (_rotate(part, *(table[:n] for table in stack.angles)) for part in (query, key))
    scores = query @ key.transpose(0, 2, 1)
    if stack.distance_bias is not None:
        positions = np.arange(n)
        scores = scores + stack.distance_bias[:, positions[None] - positions[:, None] + stack.max_positions - 1]
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    context = (weights / weights.sum(axis=-1, keepdims=True)) @ value
    return np.ascontiguousarray(context.transpose(1, 0, 2)).reshape(n, stack.hidden)


def _rotate(x: Array, cosines: Array, sines: Array) -> Array:
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=-1)


def _normalize(x: Array, norm: Norm, epsilon: float) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    result: Array = centred / np.sqrt(variance + np.float32(epsilon)) * norm.weight + norm.bias
    return result


def _silu(x: Array) -> Array:
    result: Array = x / (1 + np.exp(-np.clip(x, -80, None)))
    return result


def _activate(name: str, x: Array) -> Array:
    if name == "relu":
        return np.maximum(x, 0)
    inner: Array
    if name == "gelu_tanh":
        inner = np.tanh(np.float32(0.7978845608) * (x + np.float32(0.044715) * x**3))
    else:
        inner = _erf(x * np.float32(0.5**0.5))
    result: Array = x * (0.5 + 0.5 * inner)
    return result


def _erf(x: Array) -> Array:
    """To 1.5e-7: formula 7.1.26 of Abramowitz and Stegun, Handbook of Mathematical Functions."""
    size = np.abs(x)
    t = 1 / (1 + np.float32(0.3275911) * size)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    result: Array = np.copysign(1 - series * np.exp(-(size**2)), x)
    return result
