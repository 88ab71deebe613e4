"""GTE (arXiv:2407.19669): gte-*-en-v1.5, gte-multilingual-base, snowflake-arctic-embed-m-v2.0.

BERT with rotary positions and GEGLU, as transformers 5 has it ("gte") and as Alibaba-NLP/new-impl on the Hub does
("new"). Files of both have the same names; those that transformers has in memory are read, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..documents import Document
from .architecture import read_activation, read_epsilon, read_heads, read_layers, read_size, require, require_head_size
from .checkpoint import Checkpoint
from .post_norm import BERT_DEFAULTS
from .reading import Parts, read_norm, read_parts
from .rotary import read_positions, read_rotary
from .stack import Attention, Embeddings, Layer, Rotary, Stack

PREFIXES = ("gte.", "new.")
_CODE = "new"  # the model_type of the code on the Hub


def defaults(config: Document) -> Mapping[str, Any]:
    """Of `GteConfig`, or of `NewConfig` in Alibaba-NLP/new-impl."""
    if config.get("model_type") == _CODE:
        return {**BERT_DEFAULTS, "vocab_size": 30528, "max_position_embeddings": 2048, "type_vocab_size": 1}
    own = {"vocab_size": 250048, "max_position_embeddings": 8192, "type_vocab_size": 1, "pad_token_id": 1}
    return {**BERT_DEFAULTS, **own}


def read_stack(config: Document, checkpoint: Checkpoint) -> Stack:
    """See `families.read_stack`."""
    require(config, position_embedding_type="rope", layer_norm_type="layer_norm", logn_attention_scale=False)
    require(config, is_causal=False)
    hidden, n_heads = read_heads(config, "hidden_size", "num_attention_heads")
    wide, head_size = read_size(config, "intermediate_size"), hidden // n_heads
    require_head_size(config, head_size)
    rotary = _read_rotary(config, head_size)
    attention = Attention.usual(n_heads, head_size, rotary)
    n_words, n_types = read_size(config, "vocab_size"), config.integer("type_vocab_size", 0)

    def read_embeddings() -> Embeddings:
        words = checkpoint.read("embeddings.word_embeddings.weight", shape=(n_words, hidden))
        if n_types:
            types = checkpoint.read("embeddings.token_type_embeddings.weight", shape=(n_types, hidden))
            words += types[0]  # one text is one segment, always of type 0
        return Embeddings(words=words, norm=read_norm(checkpoint, "embeddings.LayerNorm", size=hidden))

    return Stack(
        hidden=hidden,
        wide=wide,
        max_positions=read_positions(config),
        epsilon=read_epsilon(config, "layer_norm_eps"),
        activation=read_activation(config, "hidden_act"),
        gated=True,
        attentions=(attention,) * read_layers(config, "num_hidden_layers"),
        read_embeddings=read_embeddings,
        read_layer=lambda number: _read_layer(checkpoint, number, hidden, wide),
    )


def _read_layer(checkpoint: Checkpoint, number: int, hidden: int, wide: int) -> Layer:
    hub, memory = f"encoder.layer.{number}", f"layers.{number}"

    parts = Parts(checkpoint, (hub, memory))
    heads = [(f"{hub}.attention.{part}_proj", f"{memory}.self_attn.{part}_proj") for part in "qkv"]
    query, key, value = read_parts(checkpoint, f"{hub}.attention.qkv_proj", *heads, n_in=hidden, n_out=hidden)
    inner = [(f"{memory}.mlp.{part}_proj",) for part in ("up", "gate")]
    up, gate = read_parts(checkpoint, f"{hub}.mlp.up_gate_proj", *inner, n_in=hidden, n_out=wide, bias=False)
    return Layer(
        query=query,
        key=key,
        value=value,
        out=parts.linear("attention.o_proj", "self_attn.o_proj", n_in=hidden, n_out=hidden),
        attention_norms=parts.after("attn_ln", "post_attention_layernorm", size=hidden),
        up=up,
        gate=gate,
        down=parts.linear("mlp.down_proj", "mlp.down_proj", n_in=wide, n_out=hidden),
        feed_forward_norms=parts.after("mlp_ln", "post_mlp_layernorm", size=hidden),
    )


def _read_rotary(config: Document, head_size: int) -> Rotary:
    """The code on the Hub knows one kind of scaling, NTK of a fixed factor (its `NTKScalingRotaryEmbedding`)."""
    if config.get("model_type") != _CODE:
        rope = config.section("rope_scaling") or config.section("rope_parameters")
        return read_rotary(config, rope, "rope_theta", 160_000.0, head_size)
    require(config, rope_parameters=None)
    scaling, theta = config.section("rope_scaling"), config.number("rope_theta", 10_000.0, least=1)
    if not scaling:
        return Rotary(theta, head_size)
    require(Document(scaling.path, {"type": None, **scaling}), type="ntk", mixed_b=None)
    factor = scaling.number("factor", None, least=1)
    if factor is None:
        raise scaling.refused("factor", "a number")
    return Rotary(theta * factor, head_size, factor ** (2 / head_size))
