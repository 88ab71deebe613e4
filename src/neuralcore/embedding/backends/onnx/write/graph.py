"""Writes an ONNX file node by node, its weights straight to a data file, so that a model is never whole in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ....config import ModelConfig
from ..weights import WeightsFile

MICROSOFT = "com.microsoft"
DEFAULT_OPSET = 20
OPSETS = range(18, 22)
"""The versions of ONNX's operators in which what is written here means the same."""

_IR_VERSION = 10  # read by every ONNX Runtime since 1.18


class GraphWriter:
    """An ONNX graph under construction.

    Args:
        path: the .onnx file; its data goes to `<path>.data`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._weights = WeightsFile(path)
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: dict[str, onnx.TensorProto] = {}
        self._outputs: list[onnx.ValueInfoProto] = []
        self._about: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._weights.__exit__(kind, error, tb)

    def tensor(self, name: str, values: NDArray[Any]) -> str:
        """Add a constant, and return its name. A name that is there already is not added again."""
        if name not in self._tensors:
            self._tensors[name] = self._weights.add(name, values)
        return name

    def scalar(self, value: int) -> str:
        """Add a 0-D int64 constant."""
        return self.tensor(f"scalar_{value}", np.array(value, np.int64))

    def ints(self, *values: int) -> str:
        """Add a 1-D int64 constant."""
        return self.tensor(f"ints_{'_'.join(map(str, values))}", np.array(values, np.int64))

    def floats(self, *values: float) -> str:
        """Add a 1-D float32 constant."""
        return self.tensor(f"floats_{'_'.join(map(repr, values))}", np.array(values, np.float32))

    def node(self, op: str, *inputs: str, domain: str = "", output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output, and return the output's name."""
        return self.nodes(op, *inputs, domain=domain, outputs=[output or f"v{len(self._nodes)}"], **attributes)[0]

    def nodes(
        self, op: str, *inputs: str, outputs: Sequence[str], domain: str = "", **attributes: Any
    ) -> Sequence[str]:
        """Add a node with several outputs, and return their names."""
        name = f"{op}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, outputs, name=name, domain=domain, **attributes))
        return outputs

    def sequence_length(self) -> str:
        """The padded length, int64 (1,)."""
        return self.node("Slice", self.node("Shape", "input_ids"), self.ints(1), self.ints(2))

    def dense(self, x: str, name: str, weight: NDArray[np.float32], bias: NDArray[np.float32] | None) -> str:
        """X @ weight + bias, with weight (in, out)."""
        y = self.node("MatMul", x, self.tensor(f"{name}.weight", weight))
        return y if bias is None else self.node("Add", y, self.tensor(f"{name}.bias", bias))

    def layer_norm(
        self, x: str, name: str, weight: NDArray[np.float32], bias: NDArray[np.float32], epsilon: float
    ) -> str:
        """LayerNorm over the last axis."""
        scale, shift = self.tensor(f"{name}.weight", weight), self.tensor(f"{name}.bias", bias)
        return self.node("LayerNormalization", x, scale, shift, axis=-1, epsilon=epsilon)

    def note(self, about: Mapping[str, str]) -> None:
        """Let the graph's metadata say something."""
        self._about |= about

    def output(self, name: str, shape: Sequence[str | int]) -> None:
        """Declare a float32 output of the graph."""
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def save(self, config: ModelConfig, *, version: int, opset: int) -> None:
        """Check and write the .onnx file; nothing is written of a graph that is not valid."""
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
            for name in ("input_ids", "attention_mask")
        ]
        graph = helper.make_graph(self._nodes, config.name, inputs, self._outputs, list(self._tensors.values()))
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="neuralcore.embedding"
        )
        about = {"pooling": config.pooling_name, "normalize": str(config.normalize), "graph_version": str(version)}
        about |= {"dense": config.dense_text} if config.dense else {}
        helper.set_model_props(model, self._about | about)
        self._weights.close()
        self._path.write_bytes(model.SerializeToString())
        onnx.checker.check_model(str(self._path))
