"""The encoder in NumPy, in fp32: what calibration looks at, and what back ends are held to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from .positions import position_ids
from .stack import Activation, Array, Attention, Embeddings, End, Layer, Linear, Norm, NormKind, Stack

Observe = Callable[[str, Array], None]
"""Called with the name of a product ("query", "out", "up", "down") and its input, float32 (tokens, in)."""


def run(stack: Stack, ids: NDArray[np.int32], offsets: Sequence[int] | None = None) -> Array:
    """The last token vectors, float32 (tokens, size).

    Args:
        stack: the encoder.
        ids: int32 (tokens,), of one text or of several, one after the other.
        offsets: where texts begin and end; None for one text. Together, they read weights once.

    Example:
        >>> run(stack, np.array([101, 7592, 102], np.int32)).shape  # doctest: +SKIP
        (3, 384)
    """
    embeddings = stack.read_embeddings()
    x, bias = embed_tokens(stack, embeddings, ids, offsets), embeddings.distance_bias
    for number in range(stack.n_layers):
        x = run_layer(stack, number, stack.read_layer(number), x, offsets=offsets, distance_bias=bias)
    return run_end(stack, stack.read_end(), x)


def embed_tokens(
    stack: Stack, embeddings: Embeddings, ids: NDArray[np.int32], offsets: Sequence[int] | None = None
) -> Array:
    """What goes into the first layer, float32 (tokens, hidden); see `run`."""
    x = embeddings.words[ids] * np.float32(stack.word_scale)
    if embeddings.positions is not None:
        ends = np.array(offsets or (0, len(ids)), np.int64)
        x = x + embeddings.positions[position_ids(ids, ends, stack.pad_position)]
    x = _normalize(stack, x, embeddings.norm)
    return x if embeddings.projection is None else multiply(x, embeddings.projection)


def run_layer(
    stack: Stack,
    number: int,
    layer: Layer,
    x: Array,
    *,
    offsets: Sequence[int] | None = None,
    distance_bias: Array | None = None,
    observe: Observe = lambda *_: None,
) -> Array:
    """What comes out of a layer, float32 (tokens, hidden).

    Args:
        stack: the encoder.
        number: which layer this is.
        layer: its weights.
        x: float32 (tokens, hidden), of one text or of several.
        offsets: see `run`.
        distance_bias: of the embeddings.
        observe: sees the input of every product; key and value have that of "query", the gate that of "up".
    """
    attention, norms = stack.attentions[number], layer.attention_norms
    y = _normalize(stack, x, norms.before)
    observe("query", y)
    attended = _attend(stack, attention, layer, y, offsets or (0, len(y)), distance_bias)
    observe("out", attended)
    y = _normalize(stack, multiply(attended, layer.out), norms.inner)
    x = _normalize(stack, x + y, norms.after)
    norms = layer.feed_forward_norms
    y = _normalize(stack, x, norms.before)
    observe("up", y)
    inner = multiply(y, layer.up)
    if layer.gate is None:
        inner = activate(stack.activation, inner)
    else:
        inner = inner * activate(stack.activation, multiply(y, layer.gate))
    observe("down", inner)
    y = _normalize(stack, multiply(inner, layer.down), norms.inner)
    return _normalize(stack, x + y, norms.after)


def run_end(stack: Stack, end: End, x: Array) -> Array:
    """What follows the last layer, float32 (tokens, size)."""
    x = _normalize(stack, x, end.norm)
    return x if end.projection is None else multiply(x, end.projection)


def multiply(x: Array, linear: Linear) -> Array:
    """X @ weight + bias."""
    y: Array = x @ linear.weight
    return y if linear.bias is None else y + linear.bias


def normalize(kind: NormKind, x: Array, norm: Norm, epsilon: float) -> Array:
    """Scale the last axis; see `Stack.norm`."""
    if kind == "layer":
        x = x - x.mean(axis=-1, keepdims=True)
    y: Array = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + np.float32(epsilon)) * norm.weight
    return y if norm.bias is None else y + norm.bias


def _normalize(stack: Stack, x: Array, norm: Norm | None) -> Array:
    return x if norm is None else normalize(stack.norm, x, norm, stack.epsilon)


def _attend(
    stack: Stack, attention: Attention, layer: Layer, x: Array, offsets: Sequence[int], distance_bias: Array | None
) -> Array:
    """The heads' results side by side, float32 (tokens, heads * head size)."""
    n_shared = attention.n_heads // attention.n_key_heads
    query = _heads(stack, attention, x, layer.query, layer.query_norm)
    key = _heads(stack, attention, x, layer.key, layer.key_norm).repeat(n_shared, axis=0)
    value = _heads(stack, attention, x, layer.value, layer.value_norm).repeat(n_shared, axis=0)
    texts = [slice(start, end) for start, end in pairwise(offsets)]
    parts = [_attend_text(stack, attention, query[:, t], key[:, t], value[:, t], distance_bias) for t in texts]
    return np.concatenate(parts)


def _attend_text(
    stack: Stack, attention: Attention, query: Array, key: Array, value: Array, distance_bias: Array | None
) -> Array:
    """Of one text, from float32 (heads, tokens, head size) each."""
    if attention.rotary:
        cosines, sines = attention.rotary.angles(query.shape[1])
        query, key = _rotate(query, cosines, sines), _rotate(key, cosines, sines)
    scores = query @ key.transpose(0, 2, 1) * np.float32(attention.scale)
    positions = np.arange(query.shape[1])
    distance = positions[None] - positions[:, None]
    if distance_bias is not None:
        scores = scores + distance_bias[:, distance + stack.max_positions - 1]
    scores = np.where(_sees(attention, distance), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    context = (weights / weights.sum(axis=-1, keepdims=True)) @ value
    return np.ascontiguousarray(context.transpose(1, 0, 2)).reshape(query.shape[1], -1)


def _heads(stack: Stack, attention: Attention, x: Array, linear: Linear, norm: Norm | None) -> Array:
    """Queries, keys or values without positions, float32 (heads, tokens, head size)."""
    heads = multiply(x, linear).reshape(len(x), -1, attention.head_size).transpose(1, 0, 2)
    return _normalize(stack, heads, norm)


def _rotate(heads: Array, cosines: Array, sines: Array) -> Array:
    first, second = np.split(heads, 2, axis=-1)
    return np.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=-1)


def _sees(attention: Attention, distance: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which keys (columns) a query (row) attends to, by their distance."""
    sees = np.ones(distance.shape, bool)
    if attention.causal:
        sees &= distance <= 0
    if attention.window is not None:
        sees &= np.abs(distance) <= attention.window
    return sees


def activate(name: Activation, x: Array) -> Array:
    """An activation, of any shape."""
    match name:
        case "relu":
            return np.maximum(x, 0)
        case "silu":
            y: Array = x / (1 + np.exp(-np.clip(x, -80, None)))
            return y
        case "gelu_tanh":
            inner: Array = np.tanh(np.float32(sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x**3))
        case "gelu":
            inner = _erf(x * np.float32(0.5**0.5))
    return x * (np.float32(0.5) + np.float32(0.5) * inner)


def _erf(x: Array) -> Array:
    """To 1.5e-7: formula 7.1.26 of Abramowitz and Stegun, Handbook of Mathematical Functions."""
    size = np.abs(x)
    t = 1 / (1 + np.float32(0.3275911) * size)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    result: Array = np.copysign(1 - series * np.exp(-(size**2)), x)
    return result
