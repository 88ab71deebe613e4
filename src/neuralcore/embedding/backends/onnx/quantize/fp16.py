"""FP16: weights of half the size, and what is computed from them in half precision where that is safe.

Products, their biases and activations, and attention (whose kernels sum in fp32) are fp16. Norms, softmax written out,
masks, pooling and sums of residuals stay fp32: they overflow or lose too much. So does whatever came near the
largest half on texts: a GPU computes in halves, and would overflow. A CPU without fp16 arithmetic gets casts from ONNX
Runtime and computes in fp32, so it cannot show that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np
import onnx
from onnx import TensorProto

from .activations import Calibration
from .model import Model, node

# Which inputs of an operator are the numbers it computes with; it is half if they all are, or are constants.
_NUMBERS: dict[str, tuple[int, ...]] = {
    "MatMul": (0, 1), "MultiHeadAttention": (0, 1, 2, 3, 5), "RotaryEmbedding": (0, 2, 3),
    "Add": (0, 1), "Mul": (0, 1), "Gelu": (0,), "FastGelu": (0,), "Relu": (0,), "Sigmoid": (0,),
    "Reshape": (0,), "Transpose": (0,), "Split": (0,), "Squeeze": (0,), "Unsqueeze": (0,),
}  # fmt: skip
_FROM_CONSTANT = {"MatMul"}  # half even where the other input is not: it is cast
_CAST = {"MultiHeadAttention"}  # half whatever comes in: heads that come from a norm, and a bias, are cast
_BIAS = 5  # of MultiHeadAttention: it may be so low that no half is, where a token is not to be seen
_MASKED = -30_000.0  # a half can hold it, and its exponential is zero
_UNSEEN = -15_000.0  # so is this one's, and a half can hold both together and a score
_LARGEST = float(np.finfo(np.float16).max)  # 65,504
# Unseen texts reach further than those of the calibration: 1.5 times at most in 500 texts for any value of
# all-MiniLM-L6-v2, 1.4 times for all-mpnet-base-v2 (benchmarks/activations.py). Four leaves as much again for stranger
# ones and for partial sums; the largest value there is 1,247, so it costs these models nothing.
_MARGIN = 4.0


def convert(model: Model, calibration: Calibration) -> None:
    """Convert a model in place.

    Args:
        model: fp32.
        calibration: texts, to see how large its values become.

    Raises:
        UnsupportedModel: it has no product to convert.
    """
    model.require_products()
    largest = find_largest(model, calibration)
    plan = _Plan(model, {name for name, size in largest.items() if not size <= _LARGEST / _MARGIN})  # NaN is too large
    writer = _Writer(model, plan)
    for old in model.nodes:
        writer.add(old)
    model.nodes = writer.nodes


def find_largest(model: Model, calibration: Calibration) -> Mapping[str, float]:
    """The largest size of every value that would be a half if all could be, scores of attention included."""
    plan = _Plan(model, frozenset())
    attentions = [old for old in model.nodes if old in plan and old.op_type == "MultiHeadAttention"]
    added = [new for attention in attentions for new in _scores(model, attention)]
    biases = dict.fromkeys(attention.input[_BIAS] for attention in attentions if len(attention.input) > _BIAS)
    computed = [name for name in biases if name not in model.tensors]
    added += [_soften(model, name) for name in computed]
    return calibration.largest(model, [*plan.values(), *map(_softened, computed)], added)


class _Plan:
    """Which nodes compute in halves."""

    def __init__(self, model: Model, too_large: Set[str]) -> None:
        self._model, self._too_large = model, too_large
        self._fixed = model.fixed
        self._tables = {id(lookup) for lookup in model.lookups()}
        self._half: set[str] = set()
        self._nodes: set[int] = set()
        for old in model.nodes:
            if self._allows(old) and (id(old) in self._tables or self._is_fed_halves(old)):
                self._nodes.add(id(old))
                self._half.update(old.output)

    def __contains__(self, old: onnx.NodeProto) -> bool:
        return id(old) in self._nodes

    def numbers(self, old: onnx.NodeProto) -> list[int]:
        """Which of a node's inputs it computes with."""
        indices: Sequence[int] = (0,) if id(old) in self._tables else _NUMBERS.get(old.op_type, ())
        indices = range(len(old.input)) if old.op_type == "Concat" else indices
        return [index for index in indices if index < len(old.input) and old.input[index]]

    def values(self) -> list[str]:
        """Every value that is not constant and would be a half, scores of attention included."""
        found: dict[str, None] = {}
        for old in self._model.nodes:
            if old in self:
                found |= dict.fromkeys(self._values(old))
        return [name for name in found if name not in self._model.tensors]

    def _values(self, old: onnx.NodeProto) -> list[str]:
        scores = [_scores_of(old)] if old.op_type == "MultiHeadAttention" else []
        names = [old.input[index] for index in self.numbers(old)]
        if bias := self.bias(old):
            names[-1] = _softened(bias)
        return [*names, *old.output, *scores]

    def bias(self, old: onnx.NodeProto) -> str:
        """What is added to the scores of attention, where it has to be softened; empty for nothing."""
        if old.op_type != "MultiHeadAttention" or len(old.input) <= _BIAS:
            return ""
        name: str = old.input[_BIAS]
        return name if name in self._too_large and name not in self._model.tensors else ""

    def _allows(self, old: onnx.NodeProto) -> bool:
        """Whether types may change, and a half can hold all numbers."""
        if old.op_type == "MultiHeadAttention" and sum(map(bool, old.input[:3])) < 3:
            return False  # query, key and value in one tensor: how large their products are cannot be seen
        if old.op_type == "Add" and not set(old.input) & self._model.tensors.keys():
            return False  # a sum of residuals
        if self._fixed & set(old.output) or self._too_large & set(self._values(old)):
            return False
        constants = [old.input[index] for index in self.numbers(old) if old.input[index] in self._model.tensors]
        return all(map(self._holds, constants))

    def _is_fed_halves(self, old: onnx.NodeProto) -> bool:
        if old.op_type in _CAST:
            return True
        names = [old.input[index] for index in self.numbers(old)]
        if old.op_type in _FROM_CONSTANT and names[-1] in self._model.tensors:
            return True
        computed = [name for name in names if name not in self._model.tensors]
        return bool(computed) and self._half.issuperset(computed)

    def _holds(self, name: str) -> bool:
        """Whether a half can hold a constant of floats."""
        if self._model.tensors[name].data_type != TensorProto.FLOAT:
            return False
        values = self._model.array(name)
        return bool(values.min(initial=0) >= -_LARGEST and values.max(initial=0) <= _LARGEST)


class _Writer:
    """The new nodes so far, and which of their values are half."""

    def __init__(self, model: Model, plan: _Plan) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._model, self._plan = model, plan
        self._half: set[str] = set()
        self._cast: set[str] = set()

    def add(self, old: onnx.NodeProto) -> None:
        if old in self._plan:
            if bias := self._plan.bias(old):
                old.input[_BIAS] = self._as_soft(bias)
            for index in self._plan.numbers(old):
                old.input[index] = self._as_half(old.input[index])
            _soften_mask(old)
            self._half.update(old.output)
        else:
            for index, name in enumerate(old.input):
                old.input[index] = self._as_float(name)
        self.nodes.append(old)

    def _as_half(self, name: str) -> str:
        if name in self._half:
            return name
        if name in self._model.tensors:
            return self._model.add_tensor(f"{name}.half", self._model.array(name).astype(np.float16))
        return self._converted(name, f"{name}.half", TensorProto.FLOAT16)

    def _as_soft(self, name: str) -> str:
        new = _softened(name)
        if new not in self._cast:
            self.nodes.append(_soften(self._model, name))
            self._cast.add(new)
        return new

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


def _softened(bias: str) -> str:
    return f"{bias}.soft"


def _soften(model: Model, bias: str) -> onnx.NodeProto:
    """What computes a bias of scores that a half can hold."""
    lowest = model.add_tensor("lowest_bias", np.array(_UNSEEN, np.float32))
    return node("Max", [bias, lowest], _softened(bias))


def _scores_of(attention: onnx.NodeProto) -> str:
    return f"{attention.output[0]}.scores"


def _scores(model: Model, attention: onnx.NodeProto) -> list[onnx.NodeProto]:
    """What computes the products of queries and keys, which some kernels keep as halves before they scale them."""
    name = _scores_of(attention)
    n_heads = next(attribute.i for attribute in attention.attribute if attribute.name == "num_heads")
    shape = model.add_tensor(f"{name}.shape", np.array([0, 0, n_heads, -1]))
    query, key = (f"{name}.{part}" for part in ("query", "key"))
    return [
        node("Reshape", [attention.input[0], shape], f"{query}.heads"),
        node("Reshape", [attention.input[1], shape], f"{key}.heads"),
        node("Transpose", [f"{query}.heads"], query, perm=[0, 2, 1, 3]),
        node("Transpose", [f"{key}.heads"], key, perm=[0, 2, 3, 1]),
        node("MatMul", [query, key], name),
    ]
