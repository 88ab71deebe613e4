"""Gemma 3 (arXiv:2503.19786): EmbeddingGemma. LLaMA with norms around sublayers and a window in most layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..documents import Document
from .architecture import read_heads, read_layers, read_size, require
from .checkpoint import Checkpoint
from .decoder import Heads, Parts, decoder_stack
from .rotary import FULL, SLIDING, read_rotary, read_windowed
from .stack import Attention, Stack


def defaults(_: Document) -> Mapping[str, Any]:
    """Of `Gemma3TextConfig`."""
    return {
        "vocab_size": 262_208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-6,
        "pad_token_id": 0,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
    }


def read_stack(config: Document, checkpoint: Checkpoint) -> Stack:
    """See `families.read_stack`."""
    require(config, attn_logit_softcapping=None, rope_scaling=None, is_causal=True)
    hidden, _ = read_heads(config, "hidden_size", "num_attention_heads")
    has_bias = config.flag("attention_bias", False)
    parts = Parts(input_bias=has_bias, out_bias=has_bias, head_norms=True, inner_norms=True, plus_one=True)
    attentions = _attentions(config)
    return decoder_stack(config, checkpoint, parts, attentions, activation="hidden_activation", word_scale=hidden**0.5)


def _attentions(config: Document) -> list[Attention]:
    """Of each layer: every few layers all tokens, in the others a window."""
    heads, rope = Heads.of(config), config.section("rope_parameters")
    of_all = read_rotary(config, rope.section(FULL), "rope_theta", 1e6, heads.head_size)
    of_window = read_rotary(config, rope.section(SLIDING), "rope_local_base_freq", 1e4, heads.head_size)
    causal = not config.flag("use_bidirectional_attention", False)
    # Of one that looks both ways, half lies on each side (0: a token sees itself); else the token itself counts.
    n_tokens = 0 if not causal and config.get("sliding_window") == 0 else read_size(config, "sliding_window")
    far = n_tokens - 1 if causal else n_tokens // 2
    period = read_size(config, "sliding_window_pattern")
    windowed = read_windowed(config, read_layers(config, "num_hidden_layers"), lambda number: (number + 1) % period > 0)
    return [
        Attention(
            n_heads=heads.n_heads,
            n_key_heads=heads.n_key_heads,
            head_size=heads.head_size,
            scale=read_size(config, "query_pre_attn_scalar") ** -0.5,
            rotary=of_window if own else of_all,
            causal=causal,
            window=far if own else None,
        )
        for own in windowed
    ]
