"""Pieces that the encoder families share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from ....errors import UnsupportedModel
from ....families.checkpoint import Checkpoint
from .graph import MICROSOFT, GraphWriter

# Added to the scores of padding, as transformers does: after softmax its weight is exactly zero.
MASKED = float(np.finfo(np.float32).min)


def activation(graph: GraphWriter, x: str, name: str) -> str:
    """The activation that a config.json names.

    Raises:
        UnsupportedModel: not one of those known here.
    """
    match name:
        case "gelu":
            return graph.node("Gelu", x, domain=MICROSOFT)
        case "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast":
            return graph.node("FastGelu", x, domain=MICROSOFT)
        case "relu":
            return graph.node("Relu", x)
        case "silu" | "swish":
            return graph.node("Mul", x, graph.node("Sigmoid", x))
    raise UnsupportedModel(name, "no such activation is known to the builder")


def int32_mask(graph: GraphWriter) -> str:
    """The attention mask as ONNX Runtime's attention operators take it: int32 (batch, sequence)."""
    return graph.node("Cast", "attention_mask", to=TensorProto.INT32)


def sequence_length(graph: GraphWriter) -> str:
    """The padded length, int64 (1,)."""
    shape = graph.node("Shape", "input_ids")
    return graph.node("Slice", shape, graph.ints(1), graph.ints(2))


def dense(graph: GraphWriter, checkpoint: Checkpoint, x: str, name: str, n_in: int, n_out: int) -> str:
    """A Linear of the checkpoint, which keeps its weight as (out, in)."""
    weight = checkpoint.read(f"{name}.weight", shape=(n_out, n_in))
    return graph.dense(x, name, weight.T, checkpoint.read(f"{name}.bias", shape=(n_out,)))


def attention(graph: GraphWriter, parts: Sequence[str], mask: str, n_heads: int, bias: str = "") -> str:
    """Attention over query, key and value, each (batch, sequence, hidden).

    The projections are products of their own, so that they can be quantized like all others; the operator that holds
    them, `Attention`, is no faster (benchmarks/graphs.py).

    Args:
        graph: the graph so far.
        parts: names of query, key and value.
        mask: int32 (batch, sequence), 1 for real tokens.
        n_heads: attention heads.
        bias: added to the scores, (1, heads, sequence, sequence).
    """
    inputs = [*parts, "", mask, bias] if bias else [*parts, "", mask]
    return graph.node("MultiHeadAttention", *inputs, domain=MICROSOFT, num_heads=n_heads, mask_filter_value=MASKED)


def layer_norm(
    graph: GraphWriter, checkpoint: Checkpoint, x: str, names: tuple[str, ...], size: int, epsilon: float
) -> str:
    """A LayerNorm of the checkpoint, under one of its names."""
    parts = ([f"{name}.{part}" for name in names] for part in ("weight", "bias"))
    weight, bias = (checkpoint.read(*part, shape=(size,)) for part in parts)
    return graph.layer_norm(x, names[0], weight, bias, epsilon)


def add_and_norm(
    graph: GraphWriter,
    checkpoint: Checkpoint,
    x: str,
    residual: str,
    names: tuple[str, ...],
    size: int,
    epsilon: float,
) -> str:
    """LayerNorm(x + residual), as two operators: the fused SkipLayerNormalization is slower on CPU."""
    return layer_norm(graph, checkpoint, graph.node("Add", x, residual), names, size, epsilon)
