"""BERT (arXiv:1810.04805): all-MiniLM-L6-v2, bge-*-en-v1.5, e5-*-v2."""

from __future__ import annotations

from ....documents import Document
from ....families.architecture import Shape, require
from ....families.checkpoint import Checkpoint
from .graph import GraphWriter
from .layers import (
    activation,
    add_and_norm,
    attention,
    dense,
    int32_mask,
    layer_norm,
    sequence_length,
)


def write_encoder(graph: GraphWriter, checkpoint: Checkpoint, architecture: Document) -> str:
    """Write the encoder; returns the name of its last hidden state."""
    require(architecture, position_embedding_type="absolute", is_decoder=False, add_cross_attention=False)
    shape = Shape.of(architecture)
    x, mask = _embed(graph, checkpoint, shape), int32_mask(graph)
    for number in range(shape.n_layers):
        x = _layer(graph, checkpoint, shape, f"encoder.layer.{number}", x, mask)
    return x


def _embed(graph: GraphWriter, checkpoint: Checkpoint, shape: Shape) -> str:
    size = shape.size
    words = checkpoint.read("embeddings.word_embeddings.weight", shape=(shape.n_words, size))
    positions = checkpoint.read("embeddings.position_embeddings.weight", shape=(shape.n_positions, size))
    # One text is one segment, always of type 0: its embedding is part of every position's.
    positions = (
        positions + checkpoint.read("embeddings.token_type_embeddings.weight", shape=(shape.n_segments, size))[0]
    )
    word = graph.node("Gather", graph.tensor("words", words), "input_ids")
    length = sequence_length(graph)
    position = graph.node("Slice", graph.tensor("positions", positions), graph.ints(0), length, graph.ints(0))
    summed = graph.node("Add", word, position)
    return layer_norm(graph, checkpoint, summed, ("embeddings.LayerNorm",), size, shape.epsilon)


def _layer(graph: GraphWriter, checkpoint: Checkpoint, shape: Shape, name: str, x: str, mask: str) -> str:
    size, wide, epsilon = shape.size, shape.wide, shape.epsilon
    attended = _attention(graph, checkpoint, shape, f"{name}.attention.self", x, mask)
    projected = dense(graph, checkpoint, attended, f"{name}.attention.output.dense", size, size)
    x = add_and_norm(graph, checkpoint, projected, x, (f"{name}.attention.output.LayerNorm",), size, epsilon)
    inner = dense(graph, checkpoint, x, f"{name}.intermediate.dense", size, wide)
    inner = activation(graph, inner, shape.activation)
    projected = dense(graph, checkpoint, inner, f"{name}.output.dense", wide, size)
    return add_and_norm(graph, checkpoint, projected, x, (f"{name}.output.LayerNorm",), size, epsilon)


def _attention(graph: GraphWriter, checkpoint: Checkpoint, shape: Shape, name: str, x: str, mask: str) -> str:
    size = shape.size
    parts = [dense(graph, checkpoint, x, f"{name}.{part}", size, size) for part in ("query", "key", "value")]
    return attention(graph, parts, mask, shape.n_heads)
