"""Small random checkpoints of every family, the same on every machine, made without PyTorch.

`RandomState` and its legacy distributions are frozen by NumPy, so golden values stay valid.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

HIDDEN, WIDE, N_HEADS, N_LAYERS, VOCABULARY = 48, 96, 3, 3, 120
MPNET_PAD_ID = 1

Tensors = dict[str, NDArray[np.float32]]
Batch = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class RandomCheckpoint:
    """`architecture` is what its config.json says; `reference` is the same in transformers' own words."""

    architecture: dict[str, Any]
    tensors: Tensors
    reference: dict[str, Any]

    def without(self, tensor: str) -> "RandomCheckpoint":
        """The same with one tensor missing."""
        kept = {name: values for name, values in self.tensors.items() if name != tensor}
        return replace(self, tensors=kept)

    def but(self, **architecture: Any) -> "RandomCheckpoint":
        """The same with other values in its config.json."""
        return replace(self, architecture={**self.architecture, **architecture})

    def save(self, folder: Path, *, reference: bool = False) -> Path:
        """Write config.json and model.safetensors; returns the latter's path."""
        config = self.reference if reference else self.architecture
        (folder / "config.json").write_text(json.dumps(config))
        path = folder / "model.safetensors"
        save_file(self.tensors, path)
        return path


class _Draw:
    def __init__(self, seed: int) -> None:
        self._random = np.random.RandomState(seed)
        self.tensors: Tensors = {}

    def normal(self, name: str, *shape: int, scale: float, mean: float = 0.0) -> None:
        self.tensors[name] = self._random.normal(mean, scale, shape).astype(np.float32)

    def linear(self, name: str, n_out: int, n_in: int, *, scale: float = 0.2, bias: bool = True) -> None:
        self.normal(f"{name}.weight", n_out, n_in, scale=scale)
        if bias:
            self.normal(f"{name}.bias", n_out, scale=0.1)

    def norm(self, name: str) -> None:
        self.normal(f"{name}.weight", HIDDEN, scale=0.1, mean=1.0)
        self.normal(f"{name}.bias", HIDDEN, scale=0.1)


def bert(seed: int, *, n_positions: int = 64, activation: str = "gelu") -> RandomCheckpoint:
    """Like all-MiniLM-L6-v2, bge and e5."""
    architecture = {
        **_bert_like("bert", n_positions, activation),
        "type_vocab_size": 2,
        "position_embedding_type": "absolute",
        "pad_token_id": 0,
    }
    draw = _Draw(seed)
    for name, rows in (("word", VOCABULARY), ("position", n_positions), ("token_type", 2)):
        draw.normal(f"embeddings.{name}_embeddings.weight", rows, HIDDEN, scale=0.5)
    draw.norm("embeddings.LayerNorm")
    for number in range(N_LAYERS):
        layer = f"encoder.layer.{number}"
        for part in ("query", "key", "value"):
            draw.linear(f"{layer}.attention.self.{part}", HIDDEN, HIDDEN)
        draw.linear(f"{layer}.attention.output.dense", HIDDEN, HIDDEN)
        draw.norm(f"{layer}.attention.output.LayerNorm")
        _feed_forward(draw, layer)
    return RandomCheckpoint(architecture, draw.tensors, architecture)


def mpnet(seed: int, *, n_positions: int = 200) -> RandomCheckpoint:
    """Like all-mpnet-base-v2; long enough for the farthest bucket of relative positions."""
    architecture = {
        **_bert_like("mpnet", n_positions, "gelu"),
        "relative_attention_num_buckets": 32,
        "pad_token_id": MPNET_PAD_ID,
    }
    draw = _Draw(seed)
    for name, rows in (("word", VOCABULARY), ("position", n_positions)):
        draw.normal(f"embeddings.{name}_embeddings.weight", rows, HIDDEN, scale=0.5)
    draw.norm("embeddings.LayerNorm")
    draw.normal("encoder.relative_attention_bias.weight", 32, N_HEADS, scale=1.0)
    for number in range(N_LAYERS):
        layer = f"encoder.layer.{number}"
        for part in "qkvo":
            draw.linear(f"{layer}.attention.attn.{part}", HIDDEN, HIDDEN)
        draw.norm(f"{layer}.attention.LayerNorm")
        _feed_forward(draw, layer)
    return RandomCheckpoint(architecture, draw.tensors, architecture)


def nomic_hub(seed: int) -> RandomCheckpoint:
    """Like nomic-embed-text-v1.5, in the names of its repository on the Hub."""
    architecture = {
        "model_type": "nomic_bert",
        "activation_function": "swiglu",
        "causal": False,
        "layer_norm_epsilon": 1e-12,
        "max_trained_positions": 2048,
        "mlp_fc1_bias": False,
        "mlp_fc2_bias": False,
        "n_embd": HIDDEN,
        "n_head": N_HEADS,
        "n_inner": WIDE,
        "n_layer": N_LAYERS,
        "n_positions": 8192,
        "parallel_block": False,
        "prenorm": False,
        "qkv_proj_bias": False,
        "rotary_emb_base": 1000,
        "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False,
        "rotary_emb_scale_base": None,
        "rotary_scaling_factor": None,
        "type_vocab_size": 2,
        "use_rms_norm": False,
        "vocab_size": VOCABULARY,
    }
    draw = _Draw(seed)
    draw.normal("embeddings.word_embeddings.weight", VOCABULARY, HIDDEN, scale=0.5)
    draw.normal("embeddings.token_type_embeddings.weight", 2, HIDDEN, scale=0.5)
    draw.norm("emb_ln")
    for number in range(N_LAYERS):
        layer = f"encoder.layers.{number}"
        draw.linear(f"{layer}.attn.Wqkv", 3 * HIDDEN, HIDDEN, bias=False)
        draw.linear(f"{layer}.attn.out_proj", HIDDEN, HIDDEN, bias=False)
        draw.linear(f"{layer}.mlp.fc11", WIDE, HIDDEN, bias=False)
        draw.linear(f"{layer}.mlp.fc12", WIDE, HIDDEN, bias=False)
        draw.linear(f"{layer}.mlp.fc2", HIDDEN, WIDE, bias=False)
        draw.norm(f"{layer}.norm1")
        draw.norm(f"{layer}.norm2")
    return RandomCheckpoint(architecture, draw.tensors, _nomic_in_transformers())


def nomic_transformers(seed: int) -> RandomCheckpoint:
    """Like nomic-embed-text-v1.5, in the names of transformers 5; another rotary base."""
    architecture = {**_nomic_in_transformers(), "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}}
    draw = _Draw(seed)
    draw.normal("embeddings.word_embeddings.weight", VOCABULARY, HIDDEN, scale=0.5)
    draw.normal("embeddings.token_type_embeddings.weight", 2, HIDDEN, scale=0.5)
    draw.norm("embeddings.LayerNorm")
    for number in range(N_LAYERS):
        layer = f"layers.{number}"
        for part in "qkvo":
            draw.linear(f"{layer}.self_attn.{part}_proj", HIDDEN, HIDDEN, bias=False)
        draw.linear(f"{layer}.mlp.gate_proj", WIDE, HIDDEN, bias=False)
        draw.linear(f"{layer}.mlp.up_proj", WIDE, HIDDEN, bias=False)
        draw.linear(f"{layer}.mlp.down_proj", HIDDEN, WIDE, bias=False)
        draw.norm(f"{layer}.post_attention_layernorm")
        draw.norm(f"{layer}.post_mlp_layernorm")
    return RandomCheckpoint(architecture, draw.tensors, architecture)


MAKERS: dict[str, Callable[[int], RandomCheckpoint]] = {
    "bert": bert,
    "bert_gelu_new": partial(bert, activation="gelu_new"),
    "mpnet": mpnet,
    "nomic_hub": nomic_hub,
    "nomic_transformers": nomic_transformers,
}
SEEDS = {"bert": 11, "bert_gelu_new": 15, "mpnet": 12, "nomic_hub": 13, "nomic_transformers": 14}
"""Seeds of the checkpoints whose hidden states lie in golden/graphs.npz."""

_LONGEST = {"bert": 64, "bert_gelu_new": 64, "mpnet": 198, "nomic_hub": 150, "nomic_transformers": 150}


def batches(name: str, *, seed: int = 5) -> dict[str, Batch]:
    """Token ids and masks, int64 (n, longest): one token, one text, a ragged batch, and the longest texts."""
    longest = _LONGEST[name]
    shapes = {"one_token": [1], "one_text": [7], "ragged": [5, 2, 3], "longest": [longest, longest // 2]}
    random = np.random.RandomState(seed)
    return {shape: _batch(random, lengths, name) for shape, lengths in shapes.items()}


def _batch(random: np.random.RandomState, lengths: list[int], name: str) -> Batch:
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    pad_id = MPNET_PAD_ID if name == "mpnet" else 0
    ids = np.where(mask, random.randint(2, VOCABULARY, mask.shape), pad_id).astype(np.int64)
    if len(lengths) == 3:  # a pad token typed in a text is a real token
        ids[0, 2] = pad_id
    return ids, mask


def _bert_like(model_type: str, n_positions: int, activation: str) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "num_hidden_layers": N_LAYERS,
        "num_attention_heads": N_HEADS,
        "intermediate_size": WIDE,
        "hidden_act": activation,
        "max_position_embeddings": n_positions,
        "layer_norm_eps": 1e-12,
    }


def _nomic_in_transformers() -> dict[str, Any]:
    return {
        **_bert_like("nomic_bert", 2048, "silu"),
        "type_vocab_size": 2,
        "pad_token_id": 0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
    }


def _feed_forward(draw: _Draw, layer: str) -> None:
    draw.linear(f"{layer}.intermediate.dense", WIDE, HIDDEN)
    draw.linear(f"{layer}.output.dense", HIDDEN, WIDE)
    draw.norm(f"{layer}.output.LayerNorm")
