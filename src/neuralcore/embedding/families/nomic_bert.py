"""NomicBERT (arXiv:2402.01613): nomic-embed-text. BERT with rotary positions and SwiGLU.

Checkpoints come under two sets of names: those of the repository on the Hub (`encoder.layers.0.attn.Wqkv`, `n_embd`)
and those of transformers >= 5 (`layers.0.self_attn.q_proj`, `hidden_size`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..documents import Document
from .architecture import read_epsilon, read_heads, read_layers, read_size, require, require_head_size
from .checkpoint import Checkpoint
from .positions import MOST_ANGLES
from .post_norm import BERT_DEFAULTS
from .reading import Parts, read_norm, read_parts, read_table
from .stack import Attention, Embeddings, Layer, Rotary, Stack

PREFIXES = ("nomic_bert.",)

_HUB_NAMES = {
    "hidden_size": "n_embd",
    "intermediate_size": "n_inner",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "layer_norm_eps": "layer_norm_epsilon",
}


def defaults(config: Document) -> Mapping[str, Any]:
    """Of `NomicBertConfig`. The class of its repository on the Hub, which has other words, has unknown ones."""
    if any(key in config for key in _HUB_NAMES.values()):
        return {}
    sizes = {"vocab_size": 30528, "type_vocab_size": 2, "max_position_embeddings": 2048}
    return {**BERT_DEFAULTS, **sizes, "pad_token_id": 0, "hidden_act": "silu"}


def read_stack(config: Document, checkpoint: Checkpoint) -> Stack:
    """See `families.read_stack`."""
    _require_known(config)
    names = {new: old if config.get(old) is not None else new for new, old in _HUB_NAMES.items()}
    hidden, n_heads = read_heads(config, names["hidden_size"], names["num_attention_heads"])
    wide, head_size = read_size(config, names["intermediate_size"]), hidden // n_heads
    require_head_size(config, head_size)
    if head_size % 2:
        raise config.refused(names["num_attention_heads"], "heads of an even size, whose halves are rotated,")

    def read_layer(number: int) -> Layer:
        hub, memory = f"encoder.layers.{number}", f"layers.{number}"

        parts = Parts(checkpoint, (hub, memory))
        heads = [[f"{memory}.self_attn.{part}_proj"] for part in "qkv"]
        query, key, value = read_parts(checkpoint, f"{hub}.attn.Wqkv", *heads, n_in=hidden, n_out=hidden, bias=None)
        return Layer(
            query=query,
            key=key,
            value=value,
            out=parts.linear("attn.out_proj", "self_attn.o_proj", n_in=hidden, n_out=hidden, bias=None),
            attention_norms=parts.after("norm1", "post_attention_layernorm", size=hidden),
            up=parts.linear("mlp.fc11", "mlp.up_proj", n_in=hidden, n_out=wide, bias=None),
            gate=parts.linear("mlp.fc12", "mlp.gate_proj", n_in=hidden, n_out=wide, bias=None),
            down=parts.linear("mlp.fc2", "mlp.down_proj", n_in=wide, n_out=hidden, bias=None),
            feed_forward_norms=parts.after("norm2", "post_mlp_layernorm", size=hidden),
        )

    n_words, n_types = read_size(config, "vocab_size"), read_size(config, "type_vocab_size", 2)

    def read_embeddings() -> Embeddings:
        words = read_table(checkpoint, "embeddings.word_embeddings.weight", n_rows=n_words, n_columns=hidden)
        if "embeddings.token_type_embeddings.weight" in checkpoint:
            types = checkpoint.read("embeddings.token_type_embeddings.weight", shape=(n_types, hidden))
            words += types[0]  # one text is one segment, always of type 0
        return Embeddings(words=words, norm=read_norm(checkpoint, "emb_ln", "embeddings.LayerNorm", size=hidden))

    attention = Attention.usual(n_heads, head_size, Rotary(_theta(config), head_size))
    return Stack(
        hidden=hidden,
        wide=wide,
        max_positions=_n_positions(config),
        epsilon=read_epsilon(config, names["layer_norm_eps"]),
        activation="silu",
        gated=True,
        attentions=(attention,) * read_layers(config, names["num_hidden_layers"]),
        read_embeddings=read_embeddings,
        read_layer=read_layer,
    )


def _require_known(config: Document) -> None:
    """Refuse variants that would be computed wrongly; the Hub's own class has defaults that are other variants."""
    if "n_embd" in config:
        for key in ("activation_function", "rotary_emb_fraction"):
            if config.get(key) is None:
                raise config.refused(key, "a value")
    require(config, prenorm=False, rotary_emb_fraction=1.0, rotary_emb_interleaved=False, num_experts=0)
    require(config, parallel_block=False, causal=False, is_causal=False, use_rms_norm=False, rotary_emb_scale_base=None)
    require(config, activation_function="swiglu", hidden_act="silu")


def _theta(config: Document) -> float:
    """The base of the angles. transformers 5 reads it from three places, in this order; the fourth is the Hub's own."""
    require(config, rope_scaling=None)
    rope = config.section("rope_parameters")
    require(rope, rope_type="default", partial_rotary_factor=1.0)
    old = config.number("rope_theta", config.number("rotary_emb_base", 1000.0, least=1), least=1)
    return float(rope.number("rope_theta", old, least=1))


def _n_positions(config: Document) -> int:
    keys = ["n_positions", "max_position_embeddings"]
    if config.number("rotary_scaling_factor", None):  # stretches the angles beyond the trained length: not built
        keys = ["max_trained_positions"]
    return max(config.integer(key, 0, least=1, most=MOST_ANGLES) for key in keys) or 2048
