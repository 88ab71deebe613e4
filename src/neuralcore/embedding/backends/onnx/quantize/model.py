"""An ONNX model that is worked on, and the products in it that can be quantized."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, inliner, numpy_helper

from ....errors import ModelCorrupt, UnsupportedModel
from ..graph_file import all_graphs, all_tensors, bodies, read_graph
from ..weights import WeightsFile, check_place, read_array

Array = NDArray[np.float32]

_SEPARATE_CONSTANTS = 4  # IR version from which a constant need not be an input, too


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """X @ weight + bias.

    Args:
        x: name of the input.
        shape: of the weight, (in, out).
        read_weight: reads it, float32: a model's weights are not all in memory.
        bias: float32 (out,).
        output: name of the result.
        nodes: what computes it now.
    """

    x: str
    shape: tuple[int, int]
    read_weight: Callable[[], Array]
    bias: Array | None
    output: str
    nodes: Sequence[onnx.NodeProto]


class Model:
    """An ONNX model in the one form that is worked on, whichever exporter wrote it.

    Its weights stay in the files beside it until they are asked for, one at a time. Calls of functions that the file
    defines are replaced by what they do. Constants are initializers: not inputs with a default, nodes that hold a
    tensor, or other names for one.

    Args:
        path: the .onnx file.

    Raises:
        ModelCorrupt: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        proto = read_graph(path)
        try:
            self.proto = inliner.inline_local_functions(proto) if proto.functions else proto
        except Exception as error:
            raise ModelCorrupt(str(path), expected="an ONNX model", actual=_first_line(error)) from error
        self.path = path
        self.graph = self.proto.graph
        self._find_weights()
        self.nodes = list(self.graph.node)
        self.tensors = {tensor.name: tensor for tensor in self.graph.initializer}
        self._forget_inputs_with_values()
        self._gather_constants()
        self._readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in reads(node):
                self._readers[name].append(node)

    @property
    def fixed(self) -> set[str]:
        """Values whose types must stay: outputs of the graph, and what the body of an If, Loop or Scan reads."""
        return {output.name for output in self.graph.output} | set().union(*map(_captured, self.nodes))

    def inputs(self) -> list[str]:
        """Names of the inputs of a run."""
        return [value.name for value in self.graph.input]

    def array(self, name: str) -> NDArray[Any]:
        """The values of a constant."""
        return read_array(self.tensors[name], self.path)

    def products(self) -> list[Product]:
        """Every MatMul with a constant matrix, with the Add of a constant bias if that is all that reads it."""
        return [self._product(node) for node in self.nodes if self._is_product(node)]

    def require_products(self) -> list[Product]:
        """As `products`, where there must be some.

        Raises:
            UnsupportedModel: there is none.
        """
        if found := self.products():
            return found
        reason = "it has no product with constant fp32 weights outside of the bodies of If, Loop and Scan"
        raise UnsupportedModel(str(self.path), reason)

    def lookups(self) -> list[onnx.NodeProto]:
        """Every Gather of rows of a constant matrix by token id."""
        return [
            node
            for node in self.nodes
            if node.op_type == "Gather"
            and node.input[1] == "input_ids"
            and self._is_matrix(node.input[0])
            and all(attribute.i == 0 for attribute in node.attribute if attribute.name == "axis")
        ]

    def replace(self, old: Sequence[onnx.NodeProto], new: Sequence[onnx.NodeProto]) -> None:
        """Put nodes where others were; the graph stays in topological order."""
        gone = {id(node) for node in old}
        position = next(index for index, node in enumerate(self.nodes) if id(node) in gone)
        rest = [node for node in self.nodes[position:] if id(node) not in gone]
        self.nodes[position:] = [*new, *rest]

    def add_tensor(self, name: str, values: NDArray[Any]) -> str:
        """Add a constant; one of this name that is there already is kept."""
        if name not in self.tensors:
            self.tensors[name] = numpy_helper.from_array(values, name)
        return name

    def reduce_max(self, x: str, output: str) -> list[onnx.NodeProto]:
        """The largest value along the last axis, which stays, of size 1: the way to say so changed with opset 18."""
        if self._opset() < 18:
            return [node("ReduceMax", [x], output, axes=[-1], keepdims=1)]
        return [node("ReduceMax", [x, self.add_tensor("last_axis", np.array([-1]))], output, keepdims=1)]

    def _opset(self) -> int:
        """Version 1 is what a file means that names none."""
        versions = [int(opset.version) for opset in self.proto.opset_import if opset.domain in {"", "ai.onnx"}]
        return versions[0] if versions else 1

    def require_opset(self, oldest: int, precision: str) -> None:
        """Refuse a model whose operators are older than those to be written.

        Raises:
            UnsupportedModel: it is.
        """
        if self._opset() < oldest:
            reason = f"it is written in opset {self._opset()}, and {precision} needs {oldest} or newer; export it again"
            raise UnsupportedModel(str(self.path), f"{reason}, or raise it with onnx.version_converter")

    def allow_domain(self, domain: str) -> None:
        """Let the model use the operators of another domain than ONNX's."""
        if all(opset.domain != domain for opset in self.proto.opset_import):
            self.proto.opset_import.append(helper.make_opsetid(domain, 1))

    def save(self, path: Path) -> None:
        """Write the model, its weights beside it in `<path>.data`. Constants that nothing reads are left out."""
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        del self.graph.value_info[:]  # exporters note types there, which may have changed
        read = {name for node in self.nodes for name in reads(node)} | {out.name for out in self.graph.output}
        written = onnx.ModelProto()
        with WeightsFile(path) as weights:
            del self.graph.initializer[:]
            written.CopyFrom(self.proto)
            kept = [tensor for name, tensor in self.tensors.items() if name in read]
            written.graph.initializer.extend(weights.take(tensor, self.path) for tensor in kept)
        path.write_bytes(written.SerializeToString())

    def _find_weights(self) -> None:
        """See that all are there. Those that nodes hold, and what nodes run, are few, and read at once."""
        n_own = len(self.graph.initializer)  # they come first
        for number, tensor in enumerate(all_tensors(self.graph)):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                check_place(tensor, self.path)
                if number >= n_own:
                    tensor.CopyFrom(numpy_helper.from_array(read_array(tensor, self.path), tensor.name))

    def _forget_inputs_with_values(self) -> None:
        """Exporters once listed every weight as an input, which a weight that is replaced must not remain."""
        inputs = [value for value in self.graph.input if value.name not in self.tensors]
        del self.graph.input[:]
        self.graph.input.extend(inputs)
        self.proto.ir_version = max(self.proto.ir_version, _SEPARATE_CONSTANTS)

    def _gather_constants(self) -> None:
        """Make initializers of Constant nodes, and read a constant under its own name where it has another, too."""
        names: dict[str, str] = {}
        fixed, kept = self.fixed, []
        for node in self.nodes:
            _rename(node.input, names)
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.tensors[node.output[0]] = _named(node.attribute[0].t, node.output[0])
            elif node.op_type == "Identity" and node.input[0] in self.tensors and node.output[0] not in fixed:
                names[node.output[0]] = node.input[0]
            else:
                kept.append(node)
        self.nodes = kept

    def _product(self, node: onnx.NodeProto) -> Product:
        name = node.input[1]
        n_in, n_out = self.tensors[name].dims

        def read_weight() -> Array:
            return self.array(name).astype(np.float32, copy=False)

        readers = self._readers[node.output[0]]
        alone = len(readers) == 1 and node.output[0] not in {output.name for output in self.graph.output}
        if alone and (bias := self._bias(readers[0], node.output[0], n_out)) is not None:
            return Product(node.input[0], (n_in, n_out), read_weight, bias, readers[0].output[0], (node, readers[0]))
        return Product(node.input[0], (n_in, n_out), read_weight, None, node.output[0], (node,))

    def _bias(self, node: onnx.NodeProto, x: str, size: int) -> Array | None:
        other: str = next((name for name in node.input if name != x), "")
        if node.op_type != "Add" or other not in self.tensors or list(self.tensors[other].dims) != [size]:
            return None
        return self.array(other).astype(np.float32)

    def _is_product(self, node: onnx.NodeProto) -> bool:
        return node.op_type == "MatMul" and node.input[0] not in self.tensors and self._is_matrix(node.input[1])

    def _is_matrix(self, name: str) -> bool:
        tensor = self.tensors.get(name)
        floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
        return tensor is not None and len(tensor.dims) == 2 and tensor.data_type in floats


def reads(node: onnx.NodeProto) -> set[str]:
    """Names of all values that a node reads, also inside of what it runs."""
    return {*node.input, *_captured(node)}


def node(op: str, inputs: Sequence[str], output: str, *, domain: str = "", **attributes: Any) -> onnx.NodeProto:
    """A node with one output, named after it."""
    return helper.make_node(op, inputs, [output], name=f"{op}:{output}", domain=domain, **attributes)


def _captured(node: onnx.NodeProto) -> set[str]:
    """Every name in the bodies that a node runs: their own values' among them, which are no names outside."""
    parts = [part for body in bodies(node) for part in all_graphs(body)]
    inner = {name for part in parts for node in part.node for name in node.input}
    return inner | {output.name for part in parts for output in part.output}


def _rename(inputs: Any, names: Mapping[str, str]) -> None:
    for index, name in enumerate(inputs):
        inputs[index] = names.get(name, name)


def _named(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    copy.name = name
    return copy


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
