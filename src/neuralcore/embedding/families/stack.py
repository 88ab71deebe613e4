"""An encoder's weights as arrays, whatever its family and the names in its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from .checkpoint import Array


@dataclass(slots=True, eq=False)
class Linear:
    """x @ weight + bias.

    Args:
        weight: float32 (in, out).
        bias: float32 (out,).
    """

    weight: Array
    bias: Array


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """LayerNorm: float32 (hidden,) each."""

    weight: Array
    bias: Array


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer: attention, then feed-forward, each added to its input and normalised.

    Args:
        qkv: queries, keys and values side by side; queries scaled by 1 / sqrt(head size).
        out: of attention.
        up: into the feed-forward network.
        gate: of SwiGLU, beside `up`; None for other activations.
        down: out of the feed-forward network.
        attention_norm: after attention.
        output_norm: after the feed-forward network.
    """

    qkv: Linear
    out: Linear
    up: Linear
    gate: Linear | None
    down: Linear
    attention_norm: Norm
    output_norm: Norm


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """A whole encoder.

    Args:
        words: float32 (vocabulary, hidden).
        positions: float32 (positions, hidden), the embedding of token type 0 added; None for none.
        pad_position: None where positions count from 0; else they count from the one after it, and tokens of this id
            have this position and are not counted (MPNet).
        distance_bias: float32 (heads, 2 positions - 1), added to scores by key - query; None for none.
        angles: cosines and sines, each float32 (positions, head size / 2), of rotary positions; None for none.
        embedding_norm: after the embeddings.
        layers: from the first.
        n_heads: attention heads.
        max_positions: longest text in tokens.
        epsilon: of every LayerNorm.
        activation: "gelu", "gelu_tanh", "relu" or "swiglu".
    """

    words: Array
    positions: Array | None
    pad_position: int | None
    distance_bias: Array | None
    angles: tuple[Array, Array] | None
    embedding_norm: Norm
    layers: list[Layer]
    n_heads: int
    max_positions: int
    epsilon: float
    activation: str

    @property
    def hidden(self) -> int:
        """Components of a token's vector."""
        return int(self.words.shape[1])
