"""What precision a model has, by what is in it."""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path

import onnx
from onnx import TensorProto

from ....errors import UnsupportedModel
from ....types import Precision
from ..graph_file import all_graphs, all_tensors, read_graph

_DYNAMIC = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QAttention"}
_INTEGER = {
    "DequantizeLinear", "MatMulInteger", "MatMulIntegerToFloat", "QLinearMatMul", "QGemm", "QOrderedMatMul"
}  # fmt: skip
_NARROW = {"MatMulNBits", "MatMulBnb4", "GatherBlockQuantized"}
_NARROW_TYPES = {TensorProto.INT4, TensorProto.UINT4}


def detect(path: Path) -> Precision:
    """See `detect_quantization`. Weights are not read, only their types."""
    model = read_graph(path)
    kinds = {node.op_type for graph in _parts(model) for node in graph.node}
    weights = _weights(model.graph)
    if kinds & _NARROW or weights.keys() & _NARROW_TYPES:
        raise UnsupportedModel(str(path), "its weights have 4 bits, which is not one of the known precisions")
    if kinds & _DYNAMIC:
        return Precision.DYNAMIC_INT8
    if kinds & _INTEGER:
        return Precision.INT8
    return Precision.FP16 if weights[TensorProto.FLOAT16] > weights[TensorProto.FLOAT] else Precision.FP32


def _parts(model: onnx.ModelProto) -> list[onnx.GraphProto | onnx.FunctionProto]:
    return [*all_graphs(model.graph), *model.functions]


def _weights(graph: onnx.GraphProto) -> Counter[int]:
    """Numbers in the constants, by their type."""
    counts: Counter[int] = Counter()
    for tensor in all_tensors(graph):
        counts[tensor.data_type] += prod(tensor.dims)
    return counts
