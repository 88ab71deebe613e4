"""Other ways to write attention, to measure beside the one that is built. They replace `attention` of the builder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
from onnx import TensorProto

from neuralcore.embedding.backends.onnx import write as build
from neuralcore.embedding.backends.onnx.write.graph import MICROSOFT, GraphWriter
from neuralcore.embedding.backends.onnx.write.layers import MASKED
from neuralcore.embedding.families.checkpoint import Checkpoint

Attention = Callable[[GraphWriter, Checkpoint, Mapping[str, Any], str, str, str, str], str]

_PARTS = {"bert": ("query", "key", "value"), "mpnet": ("q", "k", "v")}
FAMILIES = tuple(_PARTS)
"""Each `model_type` whose attention is known here."""


@contextmanager
def attention_as(form: Attention | None, family: str) -> Iterator[None]:
    """Build models of a family with another attention, for a while; None leaves it as it is."""
    module = import_module(f"{build.__name__}.{family}")
    built = module._attention

    def other(
        graph: GraphWriter, checkpoint: Checkpoint, architecture: Mapping[str, Any], name: str, x: str, mask: str,
        bias: str = "",
    ) -> str:  # fmt: skip
        assert form is not None
        return form(graph, checkpoint, architecture, name, x, mask, bias)

    setattr(module, "_attention", other if form else built)  # noqa: B010 - mypy knows the function that stands there
    try:
        yield
    finally:
        setattr(module, "_attention", built)  # noqa: B010


def one_operator(
    graph: GraphWriter, checkpoint: Checkpoint, architecture: Mapping[str, Any], name: str, x: str, mask: str, bias: str
) -> str:
    """One operator for the projections, too."""
    size, n_heads = architecture["hidden_size"], architecture["num_attention_heads"]
    names = [f"{name}.{part}" for part in _PARTS[architecture["model_type"]]]
    weight = np.concatenate([checkpoint.read(f"{part}.weight", shape=(size, size)).T for part in names], axis=1)
    added = np.concatenate([checkpoint.read(f"{part}.bias", shape=(size,)) for part in names])
    tensors = graph.tensor(f"{name}.weight", weight), graph.tensor(f"{name}.bias", added)
    inputs = [x, *tensors, mask, "", bias] if bias else [x, *tensors, mask]
    return graph.node("Attention", *inputs, domain=MICROSOFT, num_heads=n_heads, mask_filter_value=MASKED)


def plain_operators(
    graph: GraphWriter, checkpoint: Checkpoint, architecture: Mapping[str, Any], name: str, x: str, mask: str, bias: str
) -> str:
    """Products, additions and Softmax, with as few additions as can be.

    The keys' bias adds the same to all scores of a query, and softmax takes it away again: it is left out.
    """
    n_heads = architecture["num_attention_heads"]
    scale = np.float32((architecture["hidden_size"] // n_heads) ** -0.5)

    def heads(part: str, perm: Sequence[int], scale: np.float32, *, biased: bool) -> str:
        size = architecture["hidden_size"]
        weight = checkpoint.read(f"{name}.{part}.weight", shape=(size, size)).T * scale
        added = checkpoint.read(f"{name}.{part}.bias", shape=(size,)) * scale if biased else None
        split = graph.node("Reshape", graph.dense(x, f"{name}.{part}", weight, added), graph.ints(0, 0, n_heads, -1))
        return graph.node("Transpose", split, perm=perm)

    names = _PARTS[architecture["model_type"]]
    query = heads(names[0], (0, 2, 1, 3), scale, biased=True)
    key = heads(names[1], (0, 2, 3, 1), np.float32(1), biased=False)
    value = heads(names[2], (0, 2, 1, 3), np.float32(1), biased=True)
    scores = graph.node("Add", graph.node("MatMul", query, key), _added_mask(graph, mask))
    scores = graph.node("Add", scores, bias) if bias else scores
    attended = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), value)
    together = graph.node("Transpose", attended, perm=[0, 2, 1, 3])
    return graph.node("Reshape", together, graph.ints(0, 0, -1))


def _added_mask(graph: GraphWriter, mask: str) -> str:
    """0 for real tokens, the lowest float for padding: (batch, 1, 1, sequence). ONNX Runtime merges equal copies."""
    floats = graph.node("Cast", mask, to=TensorProto.FLOAT)
    padding = graph.node("Mul", graph.node("Sub", graph.floats(1.0), floats), graph.floats(MASKED))
    return graph.node("Unsqueeze", padding, graph.ints(1, 2))


ATTENTION: dict[str, Attention | None] = {
    "as built": None,
    "one operator": one_operator,
    "plain operators": plain_operators,
}
