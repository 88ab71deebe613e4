"""MPNet (arXiv:2004.09297): all-mpnet-base-v2. BERT with relative position biases, and no segments."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from ....documents import Document
from ....families.architecture import Shape
from ....families.checkpoint import Array, Checkpoint
from .graph import GraphWriter
from .layers import activation, add_and_norm, attention, dense, int32_mask, layer_norm, sequence_length

_MAX_DISTANCE = 128  # of relative positions, fixed in the reference implementation
PAD_POSITION = 1  # positions of tokens begin after it; also the pad token's id, which config.json does not always say


def write_encoder(graph: GraphWriter, checkpoint: Checkpoint, architecture: Document) -> str:
    """Write the encoder; returns the name of its last hidden state."""
    shape = Shape.of(architecture)
    x, mask = _embed(graph, checkpoint, shape), int32_mask(graph)
    bias = _relative_bias(graph, checkpoint, shape)
    for number in range(shape.n_layers):
        x = _layer(graph, checkpoint, shape, f"encoder.layer.{number}", x, mask, bias)
    return x


def _embed(graph: GraphWriter, checkpoint: Checkpoint, shape: Shape) -> str:
    size = shape.size
    words = checkpoint.read("embeddings.word_embeddings.weight", shape=(shape.n_words, size))
    positions = checkpoint.read("embeddings.position_embeddings.weight", shape=(shape.n_positions, size))
    word = graph.node("Gather", graph.tensor("words", words), "input_ids")
    position = graph.node("Gather", graph.tensor("positions", positions), _position_ids(graph))
    summed = graph.node("Add", word, position)
    return layer_norm(graph, checkpoint, summed, ("embeddings.LayerNorm",), size, shape.epsilon)


def _position_ids(graph: GraphWriter) -> str:
    """Tokens count up from 2; a pad token, even one typed in a text, has position 1 and is not counted."""
    is_pad = graph.node("Equal", "input_ids", graph.ints(PAD_POSITION))
    counts = graph.node("Cast", graph.node("Not", is_pad), to=TensorProto.INT64)
    running = graph.node("Mul", graph.node("CumSum", counts, graph.scalar(1)), counts)
    return graph.node("Add", running, graph.ints(PAD_POSITION))


def _relative_bias(graph: GraphWriter, checkpoint: Checkpoint, shape: Shape) -> str:
    """The bias of every pair of positions, (1, heads, sequence, sequence), from a table over their distance."""
    n_positions = shape.n_positions
    biases = checkpoint.read("encoder.relative_attention_bias.weight", shape=(shape.n_buckets, shape.n_heads))
    by_distance = graph.tensor("bias_by_distance", bias_by_distance(biases, n_positions))
    positions = graph.node("Range", graph.scalar(0), graph.node("Squeeze", sequence_length(graph)), graph.scalar(1))
    key, query = (graph.node("Unsqueeze", positions, graph.ints(axis)) for axis in (0, 1))
    distance = graph.node("Add", graph.node("Sub", key, query), graph.ints(n_positions - 1))
    pairs = graph.node("Gather", by_distance, distance, axis=1)
    return graph.node("Unsqueeze", pairs, graph.ints(0))


def bias_by_distance(biases: Array, n_positions: int) -> Array:
    """The biases as a table over the distance key - query, from 1 - n_positions to n_positions - 1.

    Args:
        biases: float32 (buckets, heads).
        n_positions: the longest sequence.

    Returns:
        float32 (heads, 2 n_positions - 1).
    """
    distance = np.arange(1 - n_positions, n_positions)
    return biases[_bucket(distance, len(biases))].T


def _bucket(distance: NDArray[np.int64], n_buckets: int) -> NDArray[np.int64]:
    """T5's buckets (arXiv:1910.10683, 2.1): half for each direction; half of those exact, the rest logarithmic."""
    half = n_buckets // 2
    exact = half // 2
    size = np.abs(distance)
    # float32, like the reference: where the logarithm meets a bucket's edge, precision decides the side.
    ratio = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact))
    ratio = ratio / np.float32(math.log(_MAX_DISTANCE / exact)) * np.float32(half - exact)
    far = np.minimum(exact + ratio.astype(np.int64), half - 1)
    return np.where(distance > 0, half, 0) + np.where(size < exact, size, far)


def _layer(graph: GraphWriter, checkpoint: Checkpoint, shape: Shape, name: str, x: str, mask: str, bias: str) -> str:
    size, wide, epsilon = shape.size, shape.wide, shape.epsilon
    attended = _attention(graph, checkpoint, shape, f"{name}.attention.attn", x, mask, bias)
    projected = dense(graph, checkpoint, attended, f"{name}.attention.attn.o", size, size)
    x = add_and_norm(graph, checkpoint, projected, x, (f"{name}.attention.LayerNorm",), size, epsilon)
    inner = dense(graph, checkpoint, x, f"{name}.intermediate.dense", size, wide)
    inner = activation(graph, inner, shape.activation)
    projected = dense(graph, checkpoint, inner, f"{name}.output.dense", wide, size)
    return add_and_norm(graph, checkpoint, projected, x, (f"{name}.output.LayerNorm",), size, epsilon)


def _attention(
    graph: GraphWriter, checkpoint: Checkpoint, shape: Shape, name: str, x: str, mask: str, bias: str
) -> str:
    size = shape.size
    parts = [dense(graph, checkpoint, x, f"{name}.{part}", size, size) for part in "qkv"]
    return attention(graph, parts, mask, shape.n_heads, bias)
