"""Other ways to write attention, to measure beside the one that is written; of models without rotary positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from onnx import TensorProto

from neuralcore.embedding.backends.onnx.write import encoder
from neuralcore.embedding.backends.onnx.write.attention import Scores
from neuralcore.embedding.backends.onnx.write.graph import MICROSOFT, GraphWriter
from neuralcore.embedding.backends.onnx.write.parts import MASKED, dense
from neuralcore.embedding.families.stack import Layer, Linear, Stack

Attention = Callable[[GraphWriter, Stack, int, Layer, str, Scores], str]


@contextmanager
def attention_as(form: Attention | None) -> Iterator[None]:
    """Write models with another attention, for a while; None leaves it as it is."""
    written = encoder.write_attention  # type: ignore[attr-defined]
    setattr(encoder, "write_attention", form or written)  # noqa: B010 - mypy knows the function that stands there
    try:
        yield
    finally:
        setattr(encoder, "write_attention", written)  # noqa: B010


def one_operator(graph: GraphWriter, stack: Stack, number: int, layer: Layer, x: str, scores: Scores) -> str:
    """One operator for the projections, too."""
    name, attention, parts = f"layers.{number}", stack.attentions[number], (layer.query, layer.key, layer.value)
    if attention.rotary:
        raise SystemExit("another form of attention is known for models without rotary positions only")
    weight = np.concatenate([part.weight for part in parts], axis=1)
    added = np.concatenate([part.bias for part in parts if part.bias is not None])
    tensors = graph.tensor(f"{name}.qkv.weight", weight), graph.tensor(f"{name}.qkv.bias", added)
    bias = scores.added(attention.window)
    inputs = [x, *tensors, scores.mask, "", bias] if bias else [x, *tensors, scores.mask]
    attended = graph.node("Attention", *inputs, domain=MICROSOFT, num_heads=attention.n_heads, mask_filter_value=MASKED)
    return dense(graph, attended, f"{name}.out", layer.out)


def plain_operators(graph: GraphWriter, stack: Stack, number: int, layer: Layer, x: str, scores: Scores) -> str:
    """Products, additions and Softmax, with as few additions as can be.

    The keys' bias adds the same to all scores of a query, and softmax takes it away again: it is left out.
    """
    name, attention = f"layers.{number}", stack.attentions[number]
    if attention.rotary:
        raise SystemExit("another form of attention is known for models without rotary positions only")
    scale = np.float32(attention.scale)

    def heads(part: str, linear: Linear, perm: Sequence[int]) -> str:
        projected = graph.dense(x, f"{name}.{part}", linear.weight, linear.bias)
        return graph.node(
            "Transpose", graph.node("Reshape", projected, graph.ints(0, 0, attention.n_heads, -1)), perm=perm
        )

    scaled = None if layer.query.bias is None else layer.query.bias * scale
    query = heads("query", Linear(layer.query.weight * scale, scaled), (0, 2, 1, 3))
    key, value = heads("key", Linear(layer.key.weight), (0, 2, 3, 1)), heads("value", layer.value, (0, 2, 1, 3))
    weights = graph.node("Add", graph.node("MatMul", query, key), _added_mask(graph, scores.mask))
    bias = scores.added(attention.window)
    weights = graph.node("Add", weights, bias) if bias else weights
    attended = graph.node("MatMul", graph.node("Softmax", weights, axis=-1), value)
    together = graph.node("Transpose", attended, perm=[0, 2, 1, 3])
    return dense(graph, graph.node("Reshape", together, graph.ints(0, 0, -1)), f"{name}.out", layer.out)


def _added_mask(graph: GraphWriter, mask: str) -> str:
    """0 for real tokens, the lowest float for padding: (batch, 1, 1, sequence). ONNX Runtime merges equal copies."""
    floats = graph.node("Cast", mask, to=TensorProto.FLOAT)
    padding = graph.node("Mul", graph.node("Sub", graph.floats(1.0), floats), graph.floats(MASKED))
    return graph.node("Unsqueeze", padding, graph.ints(1, 2))


ATTENTION: dict[str, Attention | None] = {
    "as written": None,
    "one operator": one_operator,
    "plain operators": plain_operators,
}
