"""BERT (arXiv:1810.04805): all-MiniLM-L6-v2, bge-*-en-v1.5, e5-*-v2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .checkpoint import Checkpoint
from .graph import GraphWriter
from .layers import (
    activation,
    add_and_norm,
    attention,
    dense,
    int32_mask,
    layer_norm,
    require,
    sequence_length,
)


def write_encoder(graph: GraphWriter, checkpoint: Checkpoint, architecture: Mapping[str, Any]) -> str:
    """Write the encoder; returns the name of its last hidden state."""
    require(architecture, position_embedding_type="absolute", is_decoder=False, add_cross_attention=False)
    x, mask = _embed(graph, checkpoint, architecture), int32_mask(graph)
    for number in range(architecture["num_hidden_layers"]):
        x = _layer(graph, checkpoint, architecture, f"encoder.layer.{number}", x, mask)
    return x


def _embed(graph: GraphWriter, checkpoint: Checkpoint, architecture: Mapping[str, Any]) -> str:
    size, n_positions = architecture["hidden_size"], architecture["max_position_embeddings"]
    words = checkpoint.read("embeddings.word_embeddings.weight", shape=(architecture["vocab_size"], size))
    positions = checkpoint.read("embeddings.position_embeddings.weight", shape=(n_positions, size))
    # One text is one segment, always of type 0: its embedding is part of every position's.
    positions = positions + checkpoint.read("embeddings.token_type_embeddings.weight", shape=(-1, size))[0]
    word = graph.node("Gather", graph.tensor("words", words), "input_ids")
    length = sequence_length(graph)
    position = graph.node("Slice", graph.tensor("positions", positions), graph.ints(0), length, graph.ints(0))
    summed = graph.node("Add", word, position)
    return layer_norm(graph, checkpoint, summed, ("embeddings.LayerNorm",), architecture["layer_norm_eps"])


def _layer(
    graph: GraphWriter, checkpoint: Checkpoint, architecture: Mapping[str, Any], name: str, x: str, mask: str
) -> str:
    size, wide, epsilon = (architecture[key] for key in ("hidden_size", "intermediate_size", "layer_norm_eps"))
    attended = _attention(graph, checkpoint, architecture, f"{name}.attention.self", x, mask)
    projected = dense(graph, checkpoint, attended, f"{name}.attention.output.dense", size, size)
    x = add_and_norm(graph, checkpoint, projected, x, (f"{name}.attention.output.LayerNorm",), epsilon)
    inner = dense(graph, checkpoint, x, f"{name}.intermediate.dense", size, wide)
    inner = activation(graph, inner, architecture.get("hidden_act", "gelu"))
    projected = dense(graph, checkpoint, inner, f"{name}.output.dense", wide, size)
    return add_and_norm(graph, checkpoint, projected, x, (f"{name}.output.LayerNorm",), epsilon)


def _attention(
    graph: GraphWriter, checkpoint: Checkpoint, architecture: Mapping[str, Any], name: str, x: str, mask: str
) -> str:
    size = architecture["hidden_size"]
    parts = [dense(graph, checkpoint, x, f"{name}.{part}", size, size) for part in ("query", "key", "value")]
    return attention(graph, parts, mask, architecture["num_attention_heads"])
