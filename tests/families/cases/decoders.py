"""What is built of norms before sublayers: ModernBERT, LLaMA's relatives and Gemma 3."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from tests.families import Case
from tests.families.checkpoints import Draw, DrawTensors
from tests.families.tokenizers import SIZE

_WEAK = 0.7
"""Scale of products: without norms behind sublayers, what they add grows with each layer."""


def _config(model_type: str, hidden: int, wide: int, n_heads: int, n_layers: int = 4, **others: Any) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "vocab_size": SIZE,
        "hidden_size": hidden,
        "intermediate_size": wide,
        "num_hidden_layers": n_layers,
        "num_attention_heads": n_heads,
        "max_position_embeddings": 64,
        **others,
    }


def draw_modernbert(draw: Draw, *, config: Mapping[str, Any]) -> None:
    """The names of ModernBERT; the first layer has no norm before its attention."""
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    attention, network, norm = (config.get(f"{part}_bias", False) for part in ("attention", "mlp", "norm"))
    draw.table("embeddings.tok_embeddings", SIZE, hidden)
    draw.norm("embeddings.norm", hidden, bias=norm)
    for number in range(config["num_hidden_layers"]):
        layer = f"layers.{number}"
        if number:
            draw.norm(f"{layer}.attn_norm", hidden, bias=norm)
        draw.linear(f"{layer}.attn.Wqkv", hidden, 3 * hidden, bias=attention)
        draw.linear(f"{layer}.attn.Wo", hidden, hidden, bias=attention, scale=_WEAK)
        draw.norm(f"{layer}.mlp_norm", hidden, bias=norm)
        draw.linear(f"{layer}.mlp.Wi", hidden, 2 * wide, bias=network)
        draw.linear(f"{layer}.mlp.Wo", wide, hidden, bias=network, scale=_WEAK)
    draw.norm("final_norm", hidden, bias=norm)


def draw_decoder(draw: Draw, *, config: Mapping[str, Any], is_gemma: bool = False) -> None:
    """The names of LLaMA, Qwen and Gemma."""
    hidden, wide, n_heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    n_keys, size = config.get("num_key_value_heads", n_heads), config.get("head_dim", hidden // n_heads)
    kind, mean = config["model_type"], 0.0 if is_gemma else 1.0
    bias, wide_bias = config.get("attention_bias", False), config.get("mlp_bias", False)
    draw.table("embed_tokens", SIZE, hidden, scale=0.1 if is_gemma else 0.7)
    for number in range(config["num_hidden_layers"]):
        layer = f"layers.{number}"
        for part, n_out in (("q", n_heads), ("k", n_keys), ("v", n_keys)):
            draw.linear(f"{layer}.self_attn.{part}_proj", hidden, n_out * size, bias=bias or kind == "qwen2")
        draw.linear(f"{layer}.self_attn.o_proj", n_heads * size, hidden, bias=bias, scale=_WEAK)
        if is_gemma or kind == "qwen3":
            draw.norm(f"{layer}.self_attn.q_norm", size, bias=False, mean=mean)
            draw.norm(f"{layer}.self_attn.k_norm", size, bias=False, mean=mean)
        for part, n_in, n_out in (("gate", hidden, wide), ("up", hidden, wide), ("down", wide, hidden)):
            draw.linear(f"{layer}.mlp.{part}_proj", n_in, n_out, bias=wide_bias, scale=_WEAK)
        norms = ["input", "post_attention"] + (["pre_feedforward", "post_feedforward"] if is_gemma else [])
        for part in norms:
            draw.norm(f"{layer}.{part}_layernorm", hidden, bias=False, mean=mean)
    draw.norm("norm", hidden, bias=False, mean=mean)


def draw_head(draw: Draw, *, size: int) -> None:
    """What a language model has besides."""
    draw.linear("lm_head", size, SIZE, bias=False)


def _modernbert(name: str, config: dict[str, Any], **others: Any) -> Case:
    draw: DrawTensors = partial(draw_modernbert, config=config)
    is_native = not name.endswith("_odd")
    return Case(name=name, config=config, draw=draw, tokenizer="byte_level_cls", is_native=is_native, **others)


def _decoder(name: str, config: dict[str, Any], *, tokenizer: str = "byte_level_end", **others: Any) -> Case:
    draw: DrawTensors = partial(draw_decoder, config=config, is_gemma=config["model_type"] == "gemma3_text")
    is_native = not name.endswith("_odd")
    return Case(name=name, config=config, draw=draw, tokenizer=tokenizer, is_native=is_native, **others)


_OLD_ANGLES = {"rope_theta": 1_000_000, "rope_scaling": None}
_TWO_ANGLES = {
    "full_attention": {"rope_type": "default", "rope_theta": 50_000.0},
    "sliding_attention": {"rope_type": "default"},
}

CASES = [
    _modernbert(
        "modernbert_odd",
        _config("modernbert", 36, 60, 3, pad_token_id=3, local_attention=8, global_attn_every_n_layers=2,
                global_rope_theta=160000.0, local_rope_theta=500.0, position_embedding_type="absolute"),
        pooling="cls",
        normalize=False,
        prefix="model.",
        unread=partial(draw_head, size=36),
    ),
    _modernbert(
        "modernbert",
        _config("modernbert", 64, 96, 4, pad_token_id=3, local_attention=13, attention_bias=True, mlp_bias=True,
                norm_bias=True, rope_parameters=_TWO_ANGLES, hidden_activation="gelu_pytorch_tanh",
                layer_types=["sliding_attention", "full_attention", "full_attention", "sliding_attention"]),
    ),
    _decoder(
        "qwen3_odd",
        _config("qwen3", 36, 60, 6, num_key_value_heads=3, head_dim=10, attention_bias=True, sliding_window=None,
                use_sliding_window=False, **_OLD_ANGLES),
        pooling="lasttoken",
        normalize=False,
    ),
    _decoder(
        "qwen3",
        _config("qwen3", 64, 96, 4, num_key_value_heads=2, head_dim=32, **_OLD_ANGLES),
        pooling="lasttoken",
        prefix="model.",
        unread=partial(draw_head, size=64),
    ),
    _decoder(
        "qwen3_both_ways",
        _config("qwen3", 64, 96, 4, num_key_value_heads=1, head_dim=16, is_causal=False, use_sliding_window=True,
                sliding_window=5, max_window_layers=2),
    ),
    _decoder(
        "qwen2_windows_odd",
        _config("qwen2", 36, 60, 3, num_key_value_heads=1, use_sliding_window=True, sliding_window=6,
                layer_types=["full_attention", "sliding_attention"] * 2),
        pooling="lasttoken",
    ),
    _decoder("qwen2", _config("qwen2", 64, 96, 4, num_key_value_heads=2, attention_bias=False, **_OLD_ANGLES)),
    _decoder(
        "llama_odd",
        _config("llama", 36, 60, 3, mlp_bias=True, attention_bias=True, head_dim=10, hidden_act="gelu"),
        normalize=False,
    ),
    _decoder(
        "llama",
        _config("llama", 64, 96, 4, num_key_value_heads=2, rope_parameters={"rope_type": "default", "rope_theta": 5e5}),
        pooling="lasttoken",
        prefix="model.",
        unread=partial(draw_head, size=64),
    ),
    _decoder(
        "eurobert_odd",
        _config("eurobert", 36, 60, 3, num_key_value_heads=1, rms_norm_eps=1e-3, rope_theta=250000, pad_token_id=0),
        normalize=False,
    ),
    _decoder(
        "eurobert",
        _config("eurobert", 64, 96, 4, attention_bias=True, mlp_bias=True, head_dim=32, pad_token_id=0),
        prefix="model.",
    ),
    _decoder(
        "gemma3_odd",
        _config("gemma3_text", 36, 60, 3, num_key_value_heads=1, head_dim=10, query_pre_attn_scalar=24,
                sliding_window=9, use_bidirectional_attention=True, _sliding_window_pattern=6, n_layers=6,
                rope_theta=1_000_000.0, rope_local_base_freq=10_000.0, rope_scaling=None),
        tokenizer="byte_fallback",
        dense=((48, "torch.nn.modules.linear.Identity"), (20, "torch.nn.modules.activation.Tanh")),
        normalize=False,
    ),
    _decoder(
        "gemma3",
        _config("gemma3_text", 64, 96, 4, num_key_value_heads=2, head_dim=32, query_pre_attn_scalar=32,
                sliding_window=8, use_bidirectional_attention=True, rope_parameters=_TWO_ANGLES,
                layer_types=["sliding_attention", "full_attention"] * 2),
        tokenizer="byte_fallback",
    ),
    _decoder(
        "gemma3_causal",
        _config("gemma3_text", 64, 96, 4, num_key_value_heads=1, head_dim=16, query_pre_attn_scalar=16,
                sliding_window=6, sliding_window_pattern=2, n_layers=2, attention_bias=True,
                final_logit_softcapping=30.0),
        tokenizer="byte_fallback",
        pooling="lasttoken",
        prefix="model.",
        unread=partial(draw_head, size=64),
    ),
]  # fmt: skip
