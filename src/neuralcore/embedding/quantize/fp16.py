"""FP16: weights of half the size, and what is computed from them in half precision where that is safe.

Products, their biases and activations, and attention (whose kernels sum in fp32) are fp16. LayerNorm, softmax written
out, masks, pooling and sums of residuals stay fp32: they overflow or lose too much. A CPU without fp16 arithmetic gets
casts from ONNX Runtime and computes in fp32.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from ..errors import UnsupportedModel
from .model import Model, node

# Which inputs of an operator are the numbers it computes with; it is half if they all are, or are constants.
_NUMBERS: dict[str, tuple[int, ...]] = {
    "MatMul": (0, 1), "MultiHeadAttention": (0, 1, 2, 3, 5), "RotaryEmbedding": (0, 2, 3),
    "Add": (0, 1), "Mul": (0, 1), "Gelu": (0,), "FastGelu": (0,), "Relu": (0,), "Sigmoid": (0,),
    "Reshape": (0,), "Transpose": (0,), "Split": (0,), "Squeeze": (0,), "Unsqueeze": (0,),
}  # fmt: skip
_FROM_CONSTANT = {"MatMul"}  # half even where the other input is not: it is cast
_CAST = {"MultiHeadAttention": (5,)}  # a bias that is computed in fp32 is cast
_MASKED = -30_000.0  # a half can hold it, and its exponential is zero


def convert(model: Model) -> None:
    """Convert a model in place.

    Args:
        model: fp32.

    Raises:
        UnsupportedModel: it has no product to convert.
    """
    if not model.products():
        raise UnsupportedModel(model.graph.name, "it has no product with constant fp32 weights to convert")
    conversion = _Conversion(model)
    for old in model.nodes:
        conversion.add(old)
    model.nodes = conversion.nodes


class _Conversion:
    """The new nodes so far, and which of their values are half."""

    def __init__(self, model: Model) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._model = model
        self._half: set[str] = set()
        self._cast: set[str] = set()
        self._outputs = {output.name for output in model.graph.output}
        self._tables = {id(lookup) for lookup in model.lookups()}

    def add(self, old: onnx.NodeProto) -> None:
        if id(old) in self._tables:
            old.input[0] = self._as_half(old.input[0])
            self._half.update(old.output)
        elif self._becomes_half(old):
            for index in self._numbers(old):
                old.input[index] = self._as_half(old.input[index])
            _soften_mask(old)
            self._half.update(old.output)
        else:
            for index, name in enumerate(old.input):
                old.input[index] = self._as_float(name)
        self.nodes.append(old)

    def _becomes_half(self, old: onnx.NodeProto) -> bool:
        names = [old.input[index] for index in self._numbers(old) if index not in _CAST.get(old.op_type, ())]
        if not names or self._outputs & set(old.output):
            return False
        constant = [name in self._model.tensors and self._holds(name) for name in names]
        half = [name in self._half for name in names]
        if old.op_type in _FROM_CONSTANT and constant[-1]:
            return True
        return any(half) and all(a or b for a, b in zip(half, constant, strict=True))

    @staticmethod
    def _numbers(old: onnx.NodeProto) -> list[int]:
        return [index for index in _NUMBERS.get(old.op_type, ()) if index < len(old.input) and old.input[index]]

    def _holds(self, name: str) -> bool:
        """Whether a half can hold a constant of floats."""
        tensor = self._model.tensors[name]
        if tensor.data_type != TensorProto.FLOAT:
            return False
        return bool(np.abs(self._model.array(name)).max(initial=0) < np.finfo(np.float16).max)

    def _as_half(self, name: str) -> str:
        if name in self._half:
            return name
        if name in self._model.tensors:
            return self._model.add_tensor(f"{name}.half", self._model.array(name).astype(np.float16))
        return self._converted(name, f"{name}.half", TensorProto.FLOAT16)

    def _as_float(self, name: str) -> str:
        return self._converted(name, f"{name}.float", TensorProto.FLOAT) if name in self._half else name

    def _converted(self, name: str, new: str, kind: int) -> str:
        if new not in self._cast:
            self.nodes.append(node("Cast", [name], new, to=kind))
            self._cast.add(new)
        return new


def _soften_mask(old: onnx.NodeProto) -> None:
    for attribute in old.attribute:
        if attribute.name == "mask_filter_value":
            attribute.f = max(attribute.f, _MASKED)
