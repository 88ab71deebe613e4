"""DistilBERT (arXiv:1910.01108): distiluse-*, msmarco-distilbert-*. BERT under other names, without token types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..documents import Document
from .architecture import read_activation, read_heads, read_layers, read_size, require
from .checkpoint import Checkpoint
from .post_norm import Names, Shape, post_norm_stack
from .reading import read_norm
from .stack import Embeddings, Stack

PREFIXES = ("distilbert.",)

_NAMES = Names(
    layer="transformer.layer.{}",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    out="attention.out_lin",
    attention_norm="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    output_norm="output_layer_norm",
)
# Of every norm, whatever its config.json says.
_EPSILON = 1e-12


def defaults(_: Document) -> Mapping[str, Any]:
    """Of `DistilBertConfig`."""
    return {
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "n_layers": 6,
        "n_heads": 12,
        "dim": 768,
        "hidden_dim": 3072,
        "activation": "gelu",
        "pad_token_id": 0,
    }


def read_stack(config: Document, checkpoint: Checkpoint) -> Stack:
    """See `families.read_stack`."""
    require(config, is_causal=False)
    shape = _read_shape(config)

    def read_embeddings() -> Embeddings:
        hidden, n_positions = shape.hidden, shape.n_positions
        return Embeddings(
            words=checkpoint.read("embeddings.word_embeddings.weight", shape=(shape.n_words, hidden)),
            positions=checkpoint.read("embeddings.position_embeddings.weight", shape=(n_positions, hidden)),
            norm=read_norm(checkpoint, "embeddings.LayerNorm", size=hidden),
        )

    return post_norm_stack(checkpoint, shape, _NAMES, read_embeddings)


def _read_shape(config: Document) -> Shape:
    hidden, n_heads = read_heads(config, "dim", "n_heads")
    n_layers = read_layers(config, "n_layers")
    # Other names of these in transformers, where they would win.
    require(config, hidden_size=hidden, num_attention_heads=n_heads, num_hidden_layers=n_layers)
    return Shape(
        hidden=hidden,
        wide=read_size(config, "hidden_dim"),
        n_layers=n_layers,
        n_heads=n_heads,
        n_words=read_size(config, "vocab_size"),
        n_positions=read_size(config, "max_position_embeddings"),
        epsilon=_EPSILON,
        activation=read_activation(config, "activation"),
    )
