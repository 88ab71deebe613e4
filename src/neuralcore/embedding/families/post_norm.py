"""What BERT's relatives share: sizes, and layers with a LayerNorm behind each addition, under various names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from ..documents import Document
from .architecture import read_activation, read_epsilon, read_heads, read_layers, read_size
from .checkpoint import Checkpoint
from .reading import read_linear, read_norm
from .stack import Activation, Attention, Embeddings, Layer, Linear, Norms, Stack

BERT_DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "layer_norm_eps": 1e-12,
}


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a BERT."""

    hidden: int
    wide: int
    n_layers: int
    n_heads: int
    n_words: int
    n_positions: int
    epsilon: float
    activation: Activation

    @classmethod
    def of(cls, config: Document) -> Self:
        """Read them.

        Raises:
            ModelCorrupt: a value that cannot be one.
            UnsupportedModel: an activation that is not known here.
        """
        hidden, n_heads = read_heads(config, "hidden_size", "num_attention_heads")
        return cls(
            hidden=hidden,
            wide=read_size(config, "intermediate_size"),
            n_layers=read_layers(config, "num_hidden_layers"),
            n_heads=n_heads,
            n_words=read_size(config, "vocab_size"),
            n_positions=read_size(config, "max_position_embeddings"),
            epsilon=read_epsilon(config, "layer_norm_eps"),
            activation=read_activation(config, "hidden_act"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What the parts of a layer are called. `layer` takes its number; all others stand behind it."""

    layer: str = "encoder.layer.{}"
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    out: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    output_norm: str = "output.LayerNorm"


def read_bert_embeddings(checkpoint: Checkpoint, shape: Shape, n_segments: int, width: int) -> Embeddings:
    """BERT's tables, of any width, and the norm behind them."""
    words = checkpoint.read("embeddings.word_embeddings.weight", shape=(shape.n_words, width))
    positions = checkpoint.read("embeddings.position_embeddings.weight", shape=(shape.n_positions, width))
    segments = checkpoint.read("embeddings.token_type_embeddings.weight", shape=(n_segments, width))
    return Embeddings(
        words=words,
        positions=positions + segments[0],  # one text is one segment, always of type 0
        norm=read_norm(checkpoint, "embeddings.LayerNorm", size=width),
    )


def post_norm_stack(
    checkpoint: Checkpoint,
    shape: Shape,
    names: Names,
    read_embeddings: Callable[[], Embeddings],
    *,
    pad_position: int | None = None,
    embedding_size: int | None = None,
) -> Stack:
    """The whole encoder, given how its embeddings are read."""
    hidden, wide = shape.hidden, shape.wide

    def read_layer(number: int) -> Layer:
        prefix = names.layer.format(number)

        def linear(name: str, n_in: int, n_out: int) -> Linear:
            return read_linear(checkpoint, f"{prefix}.{name}", n_in=n_in, n_out=n_out)

        def after(name: str) -> Norms:
            return Norms(after=read_norm(checkpoint, f"{prefix}.{name}", size=hidden))

        return Layer(
            query=linear(names.query, hidden, hidden),
            key=linear(names.key, hidden, hidden),
            value=linear(names.value, hidden, hidden),
            out=linear(names.out, hidden, hidden),
            attention_norms=after(names.attention_norm),
            up=linear(names.up, hidden, wide),
            down=linear(names.down, wide, hidden),
            feed_forward_norms=after(names.output_norm),
        )

    head_size = hidden // shape.n_heads
    attention = Attention.usual(shape.n_heads, head_size)
    return Stack(
        hidden=hidden,
        wide=wide,
        max_positions=shape.n_positions,
        epsilon=shape.epsilon,
        activation=shape.activation,
        attentions=(attention,) * shape.n_layers,
        read_embeddings=read_embeddings,
        read_layer=read_layer,
        pad_position=pad_position,
        embedding_size=embedding_size,
    )
