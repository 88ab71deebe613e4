"""Graphs in forms that other exporters write: each is quantized rightly, or refused for the right reason."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from neuralcore.embedding import EmbeddingEngine, ModelConfig, Precision, UnsupportedModel, detect_quantization
from neuralcore.embedding.backends.onnx.quantize import quantize_model
from neuralcore.embedding.backends.onnx.session import OnnxSession
from neuralcore.embedding.providers import GpuOptions
from tests import tiny_model

OTHERS = ("fp16", "int8", "dynamic-int8")
IDS = np.array([[2, 9, 30, 3], [2, 50, 3, 0]])
FEEDS = {"input_ids": IDS, "attention_mask": (IDS != 0).astype(np.int64)}
OUTPUT = "last_hidden_state"
SIZE = 32


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tiny_model.tokenizer().save(str(path))
    return path


def constants() -> dict[str, np.ndarray]:
    random = np.random.default_rng(4)
    sizes = {"table": (120, SIZE), "first": (SIZE, SIZE), "bias": (SIZE,), "second": (SIZE, SIZE)}
    return {name: random.normal(size=size).astype(np.float32) / 5 for name, size in sizes.items()}


def plain_nodes() -> list[onnx.NodeProto]:
    return [
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node("MatMul", ["x", "first"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["y"]),
        helper.make_node("MatMul", ["y", "second"], ["z"]),
        helper.make_node("Tanh", ["z"], [OUTPUT]),
    ]


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    *,
    tensors: dict[str, np.ndarray] | None = None,
    inputs: Sequence[onnx.ValueInfoProto] = (),
    functions: Sequence[onnx.FunctionProto] = (),
    opset: int = 17,
    ir_version: int = 8,
) -> Path:
    infos = [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"]) for name in FEEDS]
    output = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["b", "s", SIZE])
    values = constants() if tensors is None else tensors
    initializers = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "g", [*infos, *inputs], [output], initializers)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(f.domain, 1) for f in functions[:1])]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, functions=functions)
    onnx.save(model, path)
    return path


def run(path: Path) -> np.ndarray:
    return OnnxSession(path, device="cpu", n_threads=1, gpu=GpuOptions()).run(OUTPUT, FEEDS)


def quantize(source: Path, precision: str, tokenizer: Path) -> Path:
    target = source.with_name(f"{precision}.onnx")
    quantize_model(source, target, precision, tokenizer_path=tokenizer)
    return target


def assert_quantized(source: Path, precision: str, tokenizer: Path, *, products: int = 2) -> None:
    """It is near its source, and so many products were changed."""
    target = quantize(source, precision, tokenizer)
    assert detect_quantization(target) is Precision(precision)
    np.testing.assert_allclose(run(target), run(source), atol=0.1, rtol=0)  # random tokens reach beyond their ranges
    model = onnx.load(target)
    changed = {TensorProto.FLOAT16, TensorProto.INT8}
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    names = [name for node in model.graph.node if node.op_type.startswith("MatMul") for name in node.input]
    weights = [name for name in names if kinds.get(name) in changed and "zero" not in name]
    assert len(weights) == products


def with_constant_nodes(path: Path) -> Path:
    held = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
        for name, value in constants().items()
    ]
    return save(path, [*held, *plain_nodes()], tensors={})


def with_weights_as_inputs(path: Path) -> Path:
    values = constants().items()
    listed = [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in values]
    return save(path, plain_nodes(), inputs=listed, ir_version=3, opset=11)


def with_shared_weights(path: Path) -> Path:
    """As torch's older exporter writes two equal tensors: one under another name."""
    values = constants()
    del values["second"]
    return save(path, [helper.make_node("Identity", ["first"], ["second"]), *plain_nodes()], tensors=values)


def with_functions(path: Path) -> Path:
    """As torch.onnx may write modules: as functions of the file, which are given their weights."""
    inner = helper.make_node("MatMul", ["a", "b"], ["c"])
    linear = helper.make_function("local", "Linear", ["a", "b"], ["c"], [inner], [helper.make_opsetid("", 17)])
    nodes = plain_nodes()
    for node in nodes:
        if node.op_type == "MatMul":
            node.op_type, node.domain = "Linear", "local"
    return save(path, nodes, functions=[linear])


FORMS = {
    "constant nodes": with_constant_nodes,
    "weights as inputs": with_weights_as_inputs,
    "shared weights": with_shared_weights,
    "functions": with_functions,
}


@pytest.mark.parametrize("precision", OTHERS)
@pytest.mark.parametrize("form", FORMS)
def test_form_of_another_exporter_is_quantized(tmp_path, tokenizer, form, precision):
    assert_quantized(FORMS[form](tmp_path / "model.onnx"), precision, tokenizer)


def with_body(path: Path) -> Path:
    """The last product stands in both branches of an If, which read a value and a constant from outside."""

    def branch(name: str, op: str) -> onnx.GraphProto:
        nodes = [
            helper.make_node("MatMul", ["y", "second"], [f"{name}_z"]),
            helper.make_node(op, [f"{name}_z"], [name]),
        ]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])

    nodes = [
        *plain_nodes()[:3],
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        helper.make_node("ReduceMax", ["shape"], ["longest"], keepdims=0),
        helper.make_node("Cast", ["longest"], ["any"], to=TensorProto.BOOL),
        helper.make_node(
            "If", ["any"], [OUTPUT], then_branch=branch("then", "Tanh"), else_branch=branch("else", "Neg")
        ),
    ]
    return save(path, nodes)


@pytest.mark.parametrize("precision", OTHERS)
def test_body_of_an_if_keeps_what_it_reads(tmp_path, tokenizer, precision):
    assert_quantized(with_body(tmp_path / "model.onnx"), precision, tokenizer, products=1)


@pytest.mark.parametrize("precision", OTHERS)
def test_model_with_products_in_bodies_only_is_refused(tmp_path, tokenizer, precision):
    model = onnx.load(with_body(tmp_path / "model.onnx"))
    product = next(node for node in model.graph.node if node.op_type == "MatMul")
    product.op_type, product.input[1] = "Mul", "bias"
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(UnsupportedModel, match=r"no product .* outside of the bodies of If, Loop and Scan"):
        quantize(tmp_path / "model.onnx", precision, tokenizer)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(("precision", "opset"), [("int8", 9), ("dynamic-int8", 10)])
def test_operators_too_old_are_refused_with_what_to_do(tmp_path, tokenizer, precision, opset):
    source = save(tmp_path / "model.onnx", plain_nodes(), opset=opset)
    expected = f"written in opset {opset}, and {precision} needs {opset + 1} or newer; export it again"
    with pytest.raises(UnsupportedModel, match=expected):
        quantize(source, precision, tokenizer)


@pytest.mark.parametrize(("precision", "opset"), [("fp16", 7), ("int8", 10), ("dynamic-int8", 11)])
def test_oldest_operators_that_are_enough_work(tmp_path, tokenizer, precision, opset):
    assert_quantized(save(tmp_path / "model.onnx", plain_nodes(), opset=opset), precision, tokenizer)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("name", ["pixel_values", "task_id"])
def test_input_that_nobody_knows_is_refused_by_name(tmp_path, tokenizer, precision, name):
    extra = helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"])
    source = save(tmp_path / "model.onnx", plain_nodes(), inputs=[extra])
    with pytest.raises(UnsupportedModel, match=f"{source}.*inputs are .*{name}"):
        quantize(source, precision, tokenizer)


def test_operator_that_onnx_runtime_has_not_is_not_called_damage(tmp_path, tokenizer):
    nodes = plain_nodes()
    nodes[-1] = helper.make_node("Gradient", ["z"], [OUTPUT], domain="ai.onnx.preview.training", xs=["z"], y="z")
    source = save(tmp_path / "model.onnx", nodes)
    model = onnx.load(source)
    model.opset_import.append(helper.make_opsetid("ai.onnx.preview.training", 1))
    onnx.save(model, source)
    with pytest.raises(UnsupportedModel, match="ONNX Runtime cannot run it"):
        EmbeddingEngine(source, tokenizer, ModelConfig(name="x", dimension=SIZE, max_tokens=32))
