"""What precision a model has, by what is in it."""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path

import onnx
from onnx import TensorProto

from ..errors import ModelCorrupt, UnsupportedModel
from ..types import Precision

_DYNAMIC = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QAttention"}
_INTEGER = {
    "DequantizeLinear", "MatMulInteger", "MatMulIntegerToFloat", "QLinearMatMul", "QGemm", "QOrderedMatMul"
}  # fmt: skip
_NARROW = {"MatMulNBits", "MatMulBnb4", "GatherBlockQuantized"}
_NARROW_TYPES = {TensorProto.INT4, TensorProto.UINT4}


def detect(path: Path) -> Precision:
    """See `detect_quantization`. Weights are not read, only their types."""
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:
        raise ModelCorrupt(str(path), expected="an ONNX model", actual=str(error).partition("\n")[0]) from error
    kinds = {node.op_type for node in graph.node}
    weights = _weights(graph)
    if kinds & _NARROW or weights.keys() & _NARROW_TYPES:
        raise UnsupportedModel(str(path), "its weights have 4 bits, which is not one of the known precisions")
    if kinds & _DYNAMIC:
        return Precision.DYNAMIC_INT8
    if kinds & _INTEGER:
        return Precision.INT8
    return Precision.FP16 if weights[TensorProto.FLOAT16] > weights[TensorProto.FLOAT] else Precision.FP32


def _weights(graph: onnx.GraphProto) -> Counter[int]:
    """Numbers in the constants, by their type."""
    constants = [attribute.t for node in graph.node if node.op_type == "Constant" for attribute in node.attribute]
    counts: Counter[int] = Counter()
    for tensor in (*graph.initializer, *constants):
        counts[tensor.data_type] += prod(tensor.dims)
    return counts
