"""jina-embeddings-v3 (arXiv:2409.10173) as transformers 5 has it: BERT with rotary positions, without adapters.

Names of files and, second, those that transformers has in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..documents import Document
from .architecture import (
    read_activation,
    read_epsilon,
    read_heads,
    read_layers,
    read_size,
    require,
    require_head_size,
)
from .checkpoint import Checkpoint
from .post_norm import BERT_DEFAULTS
from .reading import Parts, read_norm, read_parts
from .rotary import read_positions, read_rotary
from .stack import Attention, Embeddings, Layer, Stack

PREFIXES = ("roberta.",)


def defaults(_: Document) -> Mapping[str, Any]:
    """Of `JinaEmbeddingsV3Config`."""
    sizes = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    words = {"vocab_size": 250002, "type_vocab_size": 1, "pad_token_id": 1}
    return {**BERT_DEFAULTS, **sizes, **words, "max_position_embeddings": 8194, "layer_norm_eps": 1e-5}


def read_stack(config: Document, checkpoint: Checkpoint) -> Stack:
    """See `families.read_stack`."""
    require(config, is_causal=False)
    hidden, n_heads = read_heads(config, "hidden_size", "num_attention_heads")
    wide, head_size = read_size(config, "intermediate_size"), hidden // n_heads
    require_head_size(config, head_size)
    rope = config.section("rope_scaling") or config.section("rope_parameters")
    rotary = read_rotary(config, rope, "rope_theta", 20_000.0, head_size)
    attention = Attention.usual(n_heads, head_size, rotary)
    n_words, n_types = read_size(config, "vocab_size"), read_size(config, "type_vocab_size")

    def read_embeddings() -> Embeddings:
        words = checkpoint.read("embeddings.word_embeddings.weight", shape=(n_words, hidden))
        types = checkpoint.read("embeddings.token_type_embeddings.weight", shape=(n_types, hidden))
        words += types[0]  # one text is one segment, always of type 0
        return Embeddings(words=words, norm=read_norm(checkpoint, "emb_ln", "embeddings.LayerNorm", size=hidden))

    return Stack(
        hidden=hidden,
        wide=wide,
        max_positions=read_positions(config),
        epsilon=read_epsilon(config, "layer_norm_eps"),
        activation=read_activation(config, "hidden_act"),
        attentions=(attention,) * read_layers(config, "num_hidden_layers"),
        read_embeddings=read_embeddings,
        read_layer=lambda number: _read_layer(checkpoint, number, hidden, wide),
    )


def _read_layer(checkpoint: Checkpoint, number: int, hidden: int, wide: int) -> Layer:
    file, memory = f"encoder.layers.{number}", f"layers.{number}"

    parts = Parts(checkpoint, (file, memory))
    heads = [(f"{memory}.self_attn.{part}_proj",) for part in "qkv"]
    query, key, value = read_parts(checkpoint, f"{file}.mixer.Wqkv", *heads, n_in=hidden, n_out=hidden)
    return Layer(
        query=query,
        key=key,
        value=value,
        out=parts.linear("mixer.out_proj", "self_attn.o_proj", n_in=hidden, n_out=hidden),
        attention_norms=parts.after("norm1", "post_attention_layernorm", size=hidden),
        up=parts.linear("mlp.fc1", "mlp.fc1", n_in=hidden, n_out=wide),
        down=parts.linear("mlp.fc2", "mlp.fc2", n_in=wide, n_out=hidden),
        feed_forward_norms=parts.after("norm2", "post_mlp_layernorm", size=hidden),
    )
