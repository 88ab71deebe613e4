"""LLaMA (arXiv:2302.13971) and what differs from it by a part or two: Qwen3-Embedding, gte-Qwen2, EuroBERT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..documents import Document
from .architecture import read_heads, read_layers, read_size, require
from .checkpoint import Checkpoint
from .decoder import Heads, Parts, decoder_stack
from .rotary import FULL, SLIDING, read_rotary, read_windowed
from .stack import Attention, Stack

_LARGE = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
}
_QWEN = {
    **_LARGE,
    "vocab_size": 151936,
    "intermediate_size": 22016,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "sliding_window": 4096,
    "max_window_layers": 28,
}
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "llama": {**_LARGE, "vocab_size": 32000, "intermediate_size": 11008, "max_position_embeddings": 2048},
    "qwen2": _QWEN,
    "qwen3": {**_QWEN, "head_dim": 128},
    "eurobert": {
        "vocab_size": 128256,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "hidden_act": "silu",
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "pad_token_id": 128001,
    },
}
_WINDOWED = ("qwen2", "qwen3")


def defaults(config: Document) -> Mapping[str, Any]:
    """Of `LlamaConfig`, `Qwen2Config`, `Qwen3Config` and `EuroBertConfig`."""
    return _DEFAULTS[config["model_type"]]


def read_stack(config: Document, checkpoint: Checkpoint) -> Stack:
    """See `families.read_stack`."""
    kind = config["model_type"]
    if kind == "qwen2":
        parts = Parts(input_bias=True)
    elif kind == "qwen3":
        has_bias = config.flag("attention_bias", False)
        parts = Parts(input_bias=has_bias, out_bias=has_bias, head_norms=True)
    else:
        has_bias, wide_bias = config.flag("attention_bias", False), config.flag("mlp_bias", False)
        parts = Parts(input_bias=has_bias, out_bias=has_bias, wide_bias=wide_bias)
    return decoder_stack(config, checkpoint, parts, _attentions(config, kind), activation="hidden_act")


def _attentions(config: Document, kind: str) -> list[Attention]:
    if kind in _WINDOWED:
        usual = max(read_size(config, "hidden_size") // read_size(config, "num_attention_heads"), 1)
    else:
        require(config, sliding_window=None, layer_types=None)
        hidden, n_heads = read_heads(config, "hidden_size", "num_attention_heads")
        usual = hidden // n_heads
    heads = Heads.of(config, head_size=None if kind == "qwen3" else usual)
    rope = config.section("rope_scaling") or config.section("rope_parameters")
    require(rope, **{FULL: None, SLIDING: None})  # angles for each kind of layer
    rotary = read_rotary(config, rope, "rope_theta", 10_000.0, heads.head_size)
    causal = kind != "eurobert" and config.flag("is_causal", True)
    if kind == "eurobert":
        require(config, is_causal=False)
    return [
        Attention(
            n_heads=heads.n_heads,
            n_key_heads=heads.n_key_heads,
            head_size=heads.head_size,
            scale=heads.head_size**-0.5,
            rotary=rotary,
            causal=causal,
            window=window,
        )
        for window in _windows(config, kind, causal=causal)
    ]


def _windows(config: Document, kind: str, *, causal: bool) -> list[int | None]:
    """How far each layer sees."""
    n_layers = read_layers(config, "num_hidden_layers")
    if kind not in _WINDOWED:
        return [None] * n_layers
    is_used = config.flag("use_sliding_window", False)
    n_tokens = config.integer("sliding_window", None, least=1) if is_used else None
    first = config.integer("max_window_layers", 0)
    windowed = read_windowed(config, n_layers, lambda number: n_tokens is not None and number >= first)
    if any(windowed) and n_tokens is None:
        raise config.refused("sliding_window", "a number of tokens, and use_sliding_window true, for its layer_types,")
    # The token itself counts among those of a window that only looks back.
    far = None if n_tokens is None else n_tokens - 1 if causal else n_tokens
    return [far if own else None for own in windowed]
