"""Other ways to write attention, to measure beside the one that is built. They replace `attention` of the builder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from onnx import TensorProto

from neuralcore.embedding.models.build import bert
from neuralcore.embedding.models.build.checkpoint import Checkpoint
from neuralcore.embedding.models.build.graph import MICROSOFT, GraphWriter
from neuralcore.embedding.models.build.layers import MASKED

Attention = Callable[[GraphWriter, Checkpoint, Mapping[str, Any], str, str, str], str]


@contextmanager
def attention_as(form: Attention) -> Iterator[None]:
    """Build BERT with another attention, for a while."""
    built = bert._attention
    setattr(bert, "_attention", form)  # noqa: B010 - mypy knows the function that stands there
    try:
        yield
    finally:
        setattr(bert, "_attention", built)  # noqa: B010


def one_operator(
    graph: GraphWriter, checkpoint: Checkpoint, architecture: Mapping[str, Any], name: str, x: str, mask: str
) -> str:
    """One operator for the projections, too."""
    size, n_heads = architecture["hidden_size"], architecture["num_attention_heads"]
    names = [f"{name}.{part}" for part in ("query", "key", "value")]
    weight = np.concatenate([checkpoint.read(f"{part}.weight", shape=(size, size)).T for part in names], axis=1)
    bias = np.concatenate([checkpoint.read(f"{part}.bias", shape=(size,)) for part in names])
    tensors = graph.tensor(f"{name}.weight", weight), graph.tensor(f"{name}.bias", bias)
    return graph.node("Attention", x, *tensors, mask, domain=MICROSOFT, num_heads=n_heads, mask_filter_value=MASKED)


def plain_operators(
    graph: GraphWriter, checkpoint: Checkpoint, architecture: Mapping[str, Any], name: str, x: str, mask: str
) -> str:
    """Products, additions and Softmax, with as few additions as can be.

    The keys' bias adds the same to all scores of a query, and softmax takes it away again: it is left out.
    """
    n_heads = architecture["num_attention_heads"]
    scale = np.float32((architecture["hidden_size"] // n_heads) ** -0.5)

    def heads(part: str, perm: Sequence[int], scale: np.float32, *, biased: bool) -> str:
        size = architecture["hidden_size"]
        weight = checkpoint.read(f"{name}.{part}.weight", shape=(size, size)).T * scale
        bias = checkpoint.read(f"{name}.{part}.bias", shape=(size,)) * scale if biased else None
        split = graph.node("Reshape", graph.dense(x, f"{name}.{part}", weight, bias), graph.ints(0, 0, n_heads, -1))
        return graph.node("Transpose", split, perm=perm)

    query = heads("query", (0, 2, 1, 3), scale, biased=True)
    key = heads("key", (0, 2, 3, 1), np.float32(1), biased=False)
    value = heads("value", (0, 2, 1, 3), np.float32(1), biased=True)
    scores = graph.node("Add", graph.node("MatMul", query, key), _added_mask(graph, mask))
    attended = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), value)
    together = graph.node("Transpose", attended, perm=[0, 2, 1, 3])
    return graph.node("Reshape", together, graph.ints(0, 0, -1))


def _added_mask(graph: GraphWriter, mask: str) -> str:
    """0 for real tokens, the lowest float for padding: (batch, 1, 1, sequence). ONNX Runtime merges equal copies."""
    floats = graph.node("Cast", mask, to=TensorProto.FLOAT)
    padding = graph.node("Mul", graph.node("Sub", graph.floats(1.0), floats), graph.floats(MASKED))
    return graph.node("Unsqueeze", padding, graph.ints(1, 2))


ATTENTION: dict[str, Attention] = {
    "as built": bert._attention,
    "one operator": one_operator,
    "plain operators": plain_operators,
}
