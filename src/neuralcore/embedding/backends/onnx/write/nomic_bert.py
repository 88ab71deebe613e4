"""NomicBERT (arXiv:2402.01613): nomic-embed-text. BERT with rotary positions and SwiGLU.

Checkpoints come under two sets of names: those of the repository on the Hub (`encoder.layers.0.attn.Wqkv`, `n_embd`)
and those of transformers >= 5 (`layers.0.self_attn.q_proj`, `hidden_size`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from ....documents import Document
from ....families.architecture import complete, read_epsilon, read_heads, read_size, require
from ....families.checkpoint import Array, Checkpoint
from .graph import MICROSOFT, GraphWriter
from .layers import activation, add_and_norm, attention, int32_mask, layer_norm, sequence_length

_MOST_POSITIONS = 1 << 17
_HUB_NAMES = {
    "hidden_size": "n_embd",
    "intermediate_size": "n_inner",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "layer_norm_eps": "layer_norm_epsilon",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes that a config.json gives, by its old or its new names."""

    size: int
    wide: int
    n_layers: int
    n_heads: int
    n_words: int
    n_segments: int
    epsilon: float
    theta: float
    n_positions: int

    @classmethod
    def of(cls, architecture: Document) -> Self:
        """Read them.

        Raises:
            UnsupportedModel: angles that are not built here.
            ModelCorrupt: a value that cannot be one.
        """
        values = complete(architecture)
        names = {new: old if values.get(old) is not None else new for new, old in _HUB_NAMES.items()}
        size, n_heads = read_heads(values, names["hidden_size"], names["num_attention_heads"])
        require({"head_dim": values.get("head_dim") or size // n_heads}, head_dim=size // n_heads)
        if size // n_heads % 2:
            raise values.refused(names["num_attention_heads"], "heads of an even size, whose halves are rotated,")
        return cls(
            size=size,
            n_heads=n_heads,
            wide=read_size(values, names["intermediate_size"]),
            n_layers=read_size(values, names["num_hidden_layers"]),
            n_words=read_size(values, "vocab_size"),
            n_segments=read_size(values, "type_vocab_size", 2),
            epsilon=read_epsilon(values, names["layer_norm_eps"]),
            theta=_theta(values),
            n_positions=_n_positions(values),
        )


def _theta(values: Document) -> float:
    """The base of the angles. transformers 5 reads it from three places, in this order; the fourth is the Hub's own."""
    require(values, rope_scaling=None)
    rope = values.section("rope_parameters")
    require(rope, rope_type="default", partial_rotary_factor=1.0)
    old = values.number("rope_theta", values.number("rotary_emb_base", 1000.0, least=1), least=1)
    return float(rope.number("rope_theta", old, least=1))


def _n_positions(values: Document) -> int:
    keys = ["n_positions", "max_position_embeddings"]
    if values.number("rotary_scaling_factor", None):  # stretches the angles beyond the trained length: not built
        keys = ["max_trained_positions"]
    found = [values.integer(key, 0, least=1, most=_MOST_POSITIONS) for key in keys]
    return max(found) or 2048


def write_encoder(graph: GraphWriter, checkpoint: Checkpoint, architecture: Document) -> str:
    """Write the encoder; returns the name of its last hidden state."""
    require_known(architecture)
    shape = Shape.of(architecture)
    x, mask = _embed(graph, checkpoint, shape), int32_mask(graph)
    positions = graph.node("Range", graph.scalar(0), graph.node("Squeeze", sequence_length(graph)), graph.scalar(1))
    position_ids = graph.node(
        "Expand", graph.node("Unsqueeze", positions, graph.ints(0)), graph.node("Shape", "input_ids")
    )
    for number in range(shape.n_layers):
        x = _layer(graph, checkpoint, shape, number, x, mask, position_ids)
    return x


def require_known(architecture: Document) -> None:
    """Refuse variants that would be computed wrongly.

    Raises:
        UnsupportedModel: one of them.
        ModelCorrupt: a key of the Hub's own class is missing whose default there is another variant.
    """
    if "n_embd" in architecture:
        for key in ("activation_function", "rotary_emb_fraction"):
            if architecture.get(key) is None:
                raise architecture.refused(key, "a value")
    require(architecture, prenorm=False, rotary_emb_fraction=1.0, rotary_emb_interleaved=False, num_experts=0)
    require(architecture, parallel_block=False, causal=False, use_rms_norm=False, rotary_emb_scale_base=None)
    require(architecture, activation_function="swiglu", hidden_act="silu")


def read_words(checkpoint: Checkpoint, shape: Shape) -> Array:
    """The word table, which may be filled up with rows that no word has; the embedding of token type 0 is added.

    Raises:
        ModelCorrupt: fewer rows than words.
    """
    name = "embeddings.word_embeddings.weight"
    words = checkpoint.read(name, shape=(-1, shape.size))
    if len(words) < shape.n_words:
        raise checkpoint.refused(name, f"{shape.n_words} rows or more, by config.json's vocab_size", f"{len(words)}")
    if "embeddings.token_type_embeddings.weight" in checkpoint:
        # One text is one segment, always of type 0: its embedding is part of every word's.
        segments = checkpoint.read("embeddings.token_type_embeddings.weight", shape=(shape.n_segments, shape.size))
        words = words + segments[0]
    return words


def _embed(graph: GraphWriter, checkpoint: Checkpoint, shape: Shape) -> str:
    words = read_words(checkpoint, shape)
    word = graph.node("Gather", graph.tensor("words", words), "input_ids")
    return layer_norm(graph, checkpoint, word, ("emb_ln", "embeddings.LayerNorm"), shape.size, shape.epsilon)


def _layer(
    graph: GraphWriter, checkpoint: Checkpoint, shape: Shape, number: int, x: str, mask: str, position_ids: str
) -> str:
    old, new = f"encoder.layers.{number}", f"layers.{number}"
    attended = _attention(graph, checkpoint, shape, number, x, mask, position_ids)
    norms = (f"{old}.norm1", f"{new}.post_attention_layernorm")
    x = add_and_norm(graph, checkpoint, attended, x, norms, shape.size, shape.epsilon)
    inner = _feed_forward(graph, checkpoint, shape, number, x)
    norms = (f"{old}.norm2", f"{new}.post_mlp_layernorm")
    return add_and_norm(graph, checkpoint, inner, x, norms, shape.size, shape.epsilon)


def _attention(
    graph: GraphWriter, checkpoint: Checkpoint, shape: Shape, number: int, x: str, mask: str, position_ids: str
) -> str:
    old, new = f"encoder.layers.{number}.attn", f"layers.{number}.self_attn"
    projected = graph.dense(x, f"{old}.Wqkv", *read_qkv(checkpoint, old, new, shape.size))
    parts = [f"{old}.{part}" for part in ("query", "key", "value")]
    query, key, value = graph.nodes("Split", projected, outputs=parts, axis=-1, num_outputs=3)
    query, key = (_rotate(graph, shape, part, position_ids) for part in (query, key))
    attended = attention(graph, (query, key, value), mask, shape.n_heads)
    return _dense(graph, checkpoint, attended, f"{old}.out_proj", f"{new}.o_proj", shape.size, shape.size)


def read_qkv(checkpoint: Checkpoint, old: str, new: str, size: int) -> tuple[Array, Array | None]:
    """Weight (hidden, 3 hidden) and bias of query, key and value side by side, under their old or their new names."""
    if f"{old}.Wqkv.weight" in checkpoint:
        bias = checkpoint.read(f"{old}.Wqkv.bias", shape=(3 * size,)) if f"{old}.Wqkv.bias" in checkpoint else None
        return checkpoint.read(f"{old}.Wqkv.weight", shape=(3 * size, size)).T, bias
    names = (f"{new}.{part}_proj.weight" for part in "qkv")
    return np.concatenate([checkpoint.read(name, shape=(size, size)) for name in names]).T, None


def _rotate(graph: GraphWriter, shape: Shape, x: str, position_ids: str) -> str:
    """Rotary positions (arXiv:2104.09864), halves rotated against each other."""
    cosines, sines = angles(shape)
    tables = graph.tensor("cosines", cosines), graph.tensor("sines", sines)
    return graph.node("RotaryEmbedding", x, position_ids, *tables, domain=MICROSOFT, num_heads=shape.n_heads)


def angles(shape: Shape) -> tuple[Array, Array]:
    """Cosines and sines, each float32 (positions, head size / 2)."""
    head_size = shape.size // shape.n_heads
    # float32 throughout, like the reference: at position 8,000 the rounding of the frequency shows.
    exponent = np.arange(0, head_size, 2).astype(np.float32) / np.float32(head_size)
    frequencies = (1.0 / np.float32(shape.theta) ** exponent).astype(np.float32)
    angles = np.arange(shape.n_positions, dtype=np.float32)[:, None] * frequencies
    return np.cos(angles), np.sin(angles)


def _feed_forward(graph: GraphWriter, checkpoint: Checkpoint, shape: Shape, number: int, x: str) -> str:
    """SwiGLU (arXiv:2002.05202): down(up(x) * silu(gate(x)))."""
    old, new = f"encoder.layers.{number}.mlp", f"layers.{number}.mlp"
    up = _dense(graph, checkpoint, x, f"{old}.fc11", f"{new}.up_proj", shape.size, shape.wide)
    gate = _dense(graph, checkpoint, x, f"{old}.fc12", f"{new}.gate_proj", shape.size, shape.wide)
    gated = graph.node("Mul", up, activation(graph, gate, "silu"))
    return _dense(graph, checkpoint, gated, f"{old}.fc2", f"{new}.down_proj", shape.wide, shape.size)


def _dense(graph: GraphWriter, checkpoint: Checkpoint, x: str, old: str, new: str, n_in: int, n_out: int) -> str:
    weight = checkpoint.read(f"{old}.weight", f"{new}.weight", shape=(n_out, n_in)).T
    bias = checkpoint.read(f"{old}.bias", shape=(n_out,)) if f"{old}.bias" in checkpoint else None
    return graph.dense(x, old, weight, bias)
