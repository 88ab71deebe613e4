"""ModernBERT (arXiv:2412.13663): gte-modernbert-base, modernbert-embed, granite-embedding-*-r2.

Norms before the sublayers, GeGLU, and a window in most layers, which has rotary angles of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..documents import Document
from .architecture import read_activation, read_epsilon, read_heads, read_layers, read_size, require, require_head_size
from .checkpoint import Checkpoint
from .reading import read_linear, read_norm, split
from .rotary import FULL, SLIDING, read_positions, read_rotary, read_windowed
from .stack import Attention, Embeddings, End, Layer, Linear, Norm, Norms, Stack


def defaults(_: Document) -> Mapping[str, Any]:
    """Of `ModernBertConfig`."""
    return {
        "vocab_size": 50368,
        "hidden_size": 768,
        "intermediate_size": 1152,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "hidden_activation": "gelu",
        "max_position_embeddings": 8192,
        "norm_eps": 1e-5,
        "pad_token_id": 50283,
        "local_attention": 128,
        "global_attn_every_n_layers": 3,
    }


def read_stack(config: Document, checkpoint: Checkpoint) -> Stack:
    """See `families.read_stack`."""
    require(config, is_causal=False, rope_scaling=None)
    hidden, n_heads = read_heads(config, "hidden_size", "num_attention_heads")
    wide, n_words = read_size(config, "intermediate_size"), read_size(config, "vocab_size")
    attention_bias, mlp_bias, norm_bias = (config.flag(f"{part}_bias", False) for part in ("attention", "mlp", "norm"))

    def norm(name: str) -> Norm:
        return read_norm(checkpoint, name, size=hidden, bias=norm_bias)

    def read_layer(number: int) -> Layer:
        def linear(name: str, n_in: int, n_out: int, *, bias: bool) -> Linear:
            return read_linear(checkpoint, f"layers.{number}.{name}", n_in=n_in, n_out=n_out, bias=bias)

        packed = linear("attn.Wqkv", hidden, 3 * hidden, bias=attention_bias)
        query, key, value = split(packed, hidden, hidden, hidden)
        gate, up = split(linear("mlp.Wi", hidden, 2 * wide, bias=mlp_bias), wide, wide)
        return Layer(
            query=query,
            key=key,
            value=value,
            out=linear("attn.Wo", hidden, hidden, bias=attention_bias),
            # The embeddings have a norm already, so the first layer has none here.
            attention_norms=Norms(before=norm(f"layers.{number}.attn_norm") if number else None),
            up=up,
            gate=gate,
            down=linear("mlp.Wo", wide, hidden, bias=mlp_bias),
            feed_forward_norms=Norms(before=norm(f"layers.{number}.mlp_norm")),
        )

    def read_embeddings() -> Embeddings:
        words = checkpoint.read("embeddings.tok_embeddings.weight", shape=(n_words, hidden))
        return Embeddings(words=words, norm=norm("embeddings.norm"))

    return Stack(
        hidden=hidden,
        wide=wide,
        max_positions=read_positions(config),
        epsilon=read_epsilon(config, "norm_eps"),
        activation=read_activation(config, "hidden_activation"),
        gated=True,
        attentions=_attentions(config, n_heads, hidden // n_heads),
        read_embeddings=read_embeddings,
        read_layer=read_layer,
        read_end=lambda: End(norm=norm("final_norm")),
    )


def _attentions(config: Document, n_heads: int, head_size: int) -> tuple[Attention, ...]:
    """Of each layer: every few layers all tokens, in the others a window."""
    require_head_size(config, head_size)
    # `sliding_window` is what a config.json may say in place of half of `local_attention`.
    window = config.integer("sliding_window", read_size(config, "local_attention") // 2)
    period = read_size(config, "global_attn_every_n_layers")
    windowed = read_windowed(config, read_layers(config, "num_hidden_layers"), lambda number: number % period > 0)
    rope = config.section("rope_parameters")
    of_all = read_rotary(config, rope.section(FULL), "global_rope_theta", 160_000.0, head_size)
    of_window = read_rotary(config, rope.section(SLIDING), "local_rope_theta", 10_000.0, head_size)
    return tuple(
        Attention(
            n_heads=n_heads,
            n_key_heads=n_heads,
            head_size=head_size,
            scale=head_size**-0.5,
            rotary=of_window if own else of_all,
            window=window if own else None,
        )
        for own in windowed
    )
