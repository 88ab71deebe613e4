"""An encoder as data: what every family is read into, and all that a back end knows of one.

    x = embeddings(ids)
    for each layer:
        x = after(x + inner(attention(before(x))))
        x = after(x + inner(feed_forward(before(x))))
    x = projection(norm(x))

Every norm may be absent. What is a size or a kind is plain here; weights are read when they are asked for, one layer at
a time, so that a model is never whole in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from ..config import Dense

Array = NDArray[np.float32]
NormKind = Literal["layer", "rms"]
Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """x @ weight + bias.

    Args:
        weight: float32 (in, out).
        bias: float32 (out,); None for none.
    """

    weight: Array
    bias: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class DenseStep:
    """A Dense step after the encoder, with its weights: activation(linear(x)) + residual.

    Args:
        dense: what it is told.
        linear: its product.
        residual: through which x is added; None where it is not, or as it is (`dense.residual` tells).
    """

    dense: Dense
    linear: Linear
    residual: Linear | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """What scales a vector: by its mean and variance, or by its mean square, as `Stack.norm` says.

    Args:
        weight: float32 (n,); where a family multiplies by 1 + w, this is 1 + w.
        bias: float32 (n,); None for none.
    """

    weight: Array
    bias: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Norms:
    """Where the norms of a sublayer f stand: after(x + inner(f(before(x)))); None does nothing."""

    before: Norm | None = None
    inner: Norm | None = None
    after: Norm | None = None


@dataclass(frozen=True, slots=True)
class Rotary:
    """Rotary positions (arXiv:2104.09864): the halves of a head turned against each other.

    Args:
        theta: base of the frequencies.
        size: of a head, even.
        factor: what frequencies are divided by, so that they reach farther.
    """

    theta: float
    size: int
    factor: float = 1.0

    def angles(self, n_positions: int) -> tuple[Array, Array]:
        """Cosines and sines, each float32 (n_positions, size / 2)."""
        # float32 throughout, like the reference: at position 8,000 the rounding of the frequency shows.
        exponent = np.arange(0, self.size, 2).astype(np.float32) / np.float32(self.size)
        frequencies = (1.0 / np.float32(self.theta) ** exponent / np.float32(self.factor)).astype(np.float32)
        angles = np.arange(n_positions, dtype=np.float32)[:, None] * frequencies
        return np.cos(angles), np.sin(angles)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """What the attention of one layer does.

    Args:
        n_heads: of queries.
        n_key_heads: of keys and values, a divisor of n_heads: query head i reads head i // (n_heads / n_key_heads).
        head_size: components of a head; n_heads of them need not be the hidden size.
        scale: what scores are multiplied by.
        rotary: positions that turn queries and keys, behind their norms; None for none.
        causal: whether a token sees no token behind it.
        window: how far a token sees, in tokens to either side; None for all.
    """

    n_heads: int
    n_key_heads: int
    head_size: int
    scale: float
    rotary: Rotary | None = None
    causal: bool = False
    window: int | None = None

    @classmethod
    def usual(cls, n_heads: int, head_size: int, rotary: Rotary | None = None) -> Self:
        """Every head has keys of its own, scores are divided by the root of a head's size, and every token sees all."""
        return cls(n_heads=n_heads, n_key_heads=n_heads, head_size=head_size, scale=head_size**-0.5, rotary=rotary)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Embeddings:
    """What makes a token's first vector: projection(norm(words[id] * Stack.word_scale + positions[position])).

    Args:
        words: float32 (words, embedding size). The embedding of token type 0 is added here or to the positions.
        positions: float32 (max_positions, embedding size); None for none.
        distance_bias: float32 (heads, 2 max_positions - 1), added to the scores of every layer by key - query, behind
            their scale; None for none.
        norm: after the sum.
        projection: to the hidden size, where the embedding size is another.
    """

    words: Array
    positions: Array | None = None
    distance_bias: Array | None = None
    norm: Norm | None = None
    projection: Linear | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Layer:
    """The weights of one layer.

    Args:
        query: hidden to n_heads * head_size.
        key: hidden to n_key_heads * head_size.
        value: as `key`.
        out: n_heads * head_size to hidden.
        query_norm: of each head's query, (head_size,), before positions; None for none.
        key_norm: of each head's key.
        value_norm: of each head's value.
        attention_norms: around attention.
        up: hidden to wide.
        gate: hidden to wide, where the network is gated: activation(gate) * up; None: activation(up).
        down: wide to hidden.
        feed_forward_norms: around the feed-forward network.
    """

    query: Linear
    key: Linear
    value: Linear
    out: Linear
    query_norm: Norm | None = None
    key_norm: Norm | None = None
    value_norm: Norm | None = None
    attention_norms: Norms = field(default_factory=Norms)
    up: Linear
    gate: Linear | None = None
    down: Linear
    feed_forward_norms: Norms = field(default_factory=Norms)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class End:
    """What follows the last layer: projection(norm(x)); None does nothing."""

    norm: Norm | None = None
    projection: Linear | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Stack:
    """A whole encoder.

    Args:
        hidden: components of a token's vector between layers.
        wide: components inside of the feed-forward network.
        max_positions: rows of the tables of positions, those before the first token's included.
        epsilon: what every norm adds to a variance or a mean square.
        activation: of the feed-forward network, or of its gate.
        attentions: what the attention of each layer does.
        read_embeddings: reads what makes a token's first vector.
        read_layer: reads the weights of a layer, by its number.
        read_end: reads what follows the last layer.
        gated: whether feed-forward networks have a gate.
        norm: "layer": (x - mean) / sqrt(variance + epsilon) * weight + bias; "rms": x / sqrt(mean(x^2) + epsilon) *
            weight.
        pad_position: None where positions count from 0; else they count from the one after it, and tokens of this id
            have this position and are not counted.
        word_scale: what rows of the word table are multiplied by.
        embedding_size: columns of the word table, where they are not the hidden size.
        size: components of a token's last vector, where they are not the hidden size.
    """

    hidden: int
    wide: int
    max_positions: int
    epsilon: float
    activation: Activation
    attentions: tuple[Attention, ...]
    read_embeddings: Callable[[], Embeddings]
    read_layer: Callable[[int], Layer]
    read_end: Callable[[], End] = End
    gated: bool = False
    norm: NormKind = "layer"
    pad_position: int | None = None
    word_scale: float = 1.0
    embedding_size: int | None = None
    size: int | None = None

    @property
    def n_layers(self) -> int:
        """How many layers there are."""
        return len(self.attentions)
