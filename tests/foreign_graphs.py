"""Graphs of others. Their token vectors are the inputs themselves, so that vectors can be written down by hand."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_foreign(
    path,
    *,
    inputs=("input_ids", "attention_mask"),
    dtype=TensorProto.INT64,
    op="Identity",
    outputs=("last_hidden_state",),
    n_components=None,
) -> None:
    """One component for each input, `op` of it; pooled outputs are the maximum over all tokens, padding too."""
    nodes = []
    for name in inputs:
        nodes.append(helper.make_node("Cast", [name], [f"{name}_float"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Unsqueeze", [f"{name}_float", "two"], [f"{name}_3d"]))
    nodes.append(helper.make_node("Concat", [f"{name}_3d" for name in inputs], ["plain"], axis=2))
    nodes.append(helper.make_node(op, ["plain"], ["tokens"]))
    nodes.append(helper.make_node("ReduceMax", ["tokens", "one"], ["text"], keepdims=0))
    infos = []
    for output in outputs:
        is_text = output in {"sentence_embedding", "pooler_output"}
        nodes.append(helper.make_node("Identity", ["text" if is_text else "tokens"], [output]))
        shape = ["b", n_components] if is_text else ["b", "s", n_components]
        infos.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, shape))
    graph_inputs = [helper.make_tensor_value_info(name, dtype, ["b", "s"]) for name in inputs]
    constants = [numpy_helper.from_array(np.array([value]), name) for name, value in (("one", 1), ("two", 2))]
    save(path, helper.make_graph(nodes, "foreign", graph_inputs, infos, constants))


def write_hungry(path, *, bytes_per_token: int) -> None:
    """Token vectors are their id four times over, cut from a far larger tensor."""
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["float", "two"], ["narrow"]),
        helper.make_node("Expand", ["narrow", "shape"], ["wide"]),
        helper.make_node("Slice", ["wide", "zero", "four", "two"], ["last_hidden_state"]),
    ]
    values = {"zero": [0], "two": [2], "four": [4], "shape": [1, 1, bytes_per_token // 4]}
    constants = [numpy_helper.from_array(np.array(value), name) for name, value in values.items()]
    names = ("input_ids", "attention_mask")
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"]) for name in names]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["b", "s", 4])
    save(path, helper.make_graph(nodes, "hungry", inputs, [output], constants))


def save(path, graph) -> None:
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
