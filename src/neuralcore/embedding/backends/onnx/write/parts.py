"""Products and norms of a `Stack` as nodes."""

from __future__ import annotations

import numpy as np

from ....families.stack import Array, Linear, Norm, Stack
from .graph import GraphWriter

# Added to the scores of padding, as transformers does: after softmax its weight is exactly zero.
MASKED = float(np.finfo(np.float32).min)


def dense(graph: GraphWriter, x: str, name: str, linear: Linear) -> str:
    """X @ weight + bias."""
    return graph.dense(x, name, linear.weight, linear.bias)


def norm(graph: GraphWriter, stack: Stack, x: str, name: str, parts: Norm | None) -> str:
    """A norm of the last axis, of the stack's kind; x itself if there is none."""
    if parts is None:
        return x
    if stack.norm == "rms":
        return _rms_norm(graph, x, name, parts.weight, stack.epsilon)
    bias = np.zeros_like(parts.weight) if parts.bias is None else parts.bias
    return graph.layer_norm(x, name, parts.weight, bias, stack.epsilon)


def _rms_norm(graph: GraphWriter, x: str, name: str, weight: Array, epsilon: float) -> str:
    """In the form that ONNX Runtime fuses to one operator: standard ONNX has none before opset 23."""
    square = graph.node("ReduceMean", graph.node("Pow", x, graph.floats(2.0)), graph.ints(-1), keepdims=1)
    root = graph.node("Sqrt", graph.node("Add", square, graph.floats(epsilon)))
    return graph.node("Mul", graph.node("Div", x, root), graph.tensor(f"{name}.weight", weight))
