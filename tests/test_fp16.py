"""FP16 where numbers become too large for it. ONNX's reference evaluator computes in halves, as a GPU does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from neuralcore.embedding import ModelConfig, UnsupportedModel, quantize_model
from neuralcore.embedding.backends.onnx.session import OnnxSession
from neuralcore.embedding.backends.onnx.write import write_onnx
from neuralcore.embedding.providers import GpuOptions
from tests import foreign_graphs, tiny_model
from tests.checkpoints import HIDDEN, bert
from tests.random_stacks import LIKE, random_stack
from tests.stacks import stack_of

FEEDS = {"input_ids": np.array([[2, 9, 30, 3]]), "attention_mask": np.ones((1, 4), np.int64)}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tiny_model.tokenizer().save(str(path))
    return path


def write(path: Path, *, table: float = 1.0, inner: float = 1.0, outer: float = 1.0) -> Path:
    """Token embeddings, two products and a LayerNorm; each constant is random and scaled."""
    random = np.random.default_rng(3)
    constants = {
        "table": random.normal(size=(120, 8)) * table,
        "inner": random.normal(size=(8, 16)) * inner,
        "bias": random.normal(size=16) * inner,
        "outer": random.normal(size=(16, 8)) * outer,
        "gamma": np.ones(8),
        "beta": np.zeros(8),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node("MatMul", ["x", "inner"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["biased"]),
        helper.make_node("Relu", ["biased"], ["active"]),
        helper.make_node("MatMul", ["active", "outer"], ["y"]),
        helper.make_node("LayerNormalization", ["y", "gamma", "beta"], ["last_hidden_state"]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"]) for name in FEEDS]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["b", "s", 8])
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    foreign_graphs.save(path, helper.make_graph(nodes, "g", inputs, [output], tensors))
    return path


def halves(path: Path) -> set[str]:
    graph = onnx.load(path).graph
    return {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}


@pytest.mark.parametrize(
    ("scales", "expected_halves"),
    [
        ({}, {"table", "inner", "bias", "outer"}),
        ({"inner": 20_000.0, "outer": 1e-4}, {"table"}),  # what lies between the products is too large
        ({"inner": 3_000.0, "outer": 1e-3}, {"table"}),  # just held on these texts: no margin for others
        ({"table": 30_000.0, "inner": 1e-3}, {"outer"}),  # what goes in is, and the table cannot be held
        ({"outer": 30_000.0}, {"table", "inner", "bias"}),  # a weight is
    ],
)
def test_what_a_half_cannot_hold_stays_fp32(tmp_path, tokenizer, scales, expected_halves):
    source = write(tmp_path / "model.onnx", **scales)
    quantize_model(source, tmp_path / "half.onnx", "fp16", tokenizer_path=tokenizer)
    expected, found = (
        ReferenceEvaluator(str(path)).run(["last_hidden_state"], FEEDS)[0] for path in (source, tmp_path / "half.onnx")
    )
    np.testing.assert_allclose(found, expected, atol=0.02, rtol=0)
    assert halves(tmp_path / "half.onnx") == {f"{name}.half" for name in expected_halves}


def scaled_bert(folder: Path, scales: dict[str, float]) -> Path:
    checkpoint = bert(11)
    for name, scale in scales.items():
        for part in ("weight", "bias"):
            checkpoint.tensors[f"encoder.layer.1.{name}.{part}"] *= np.float32(scale)
    config = ModelConfig(name="scaled", dimension=HIDDEN, max_tokens=32)
    write_onnx(stack_of(checkpoint.save(folder), checkpoint.architecture), config, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize(
    ("scales", "kept"),
    [
        ({"intermediate.dense": 10_000.0, "output.dense": 1e-4}, {"up", "down"}),
        ({"attention.self.query": 100.0, "attention.self.key": 100.0}, set()),  # only their products are too large
    ],
)
def test_layer_of_an_encoder_that_would_overflow_stays_fp32_and_the_others_shrink(tmp_path, tokenizer, scales, kept):
    source = scaled_bert(tmp_path, scales)
    quantize_model(source, tmp_path / "half.onnx", "fp16", tokenizer_path=tokenizer, max_tokens=32)
    graph = onnx.load(tmp_path / "half.onnx").graph
    names = halves(tmp_path / "half.onnx")
    assert names.isdisjoint({f"layers.1.{name}.weight.half" for name in kept})
    assert {f"layers.0.{name}.weight.half" for name in ("query", "key", "value", "out", "up", "down")} <= names
    attentions = [node for node in graph.node if node.op_type == "MultiHeadAttention"]
    cast = {name for node in graph.node if node.op_type == "Cast" for name in node.output}
    in_fp32 = [set(node.input[:3]) <= cast for node in attentions]
    assert in_fp32 == [False, "attention.self.key" in scales, False]


def test_infinite_activations_stay_fp32(tmp_path, tokenizer):
    source = write(tmp_path / "model.onnx", table=1000.0, inner=6e37)
    quantize_model(source, tmp_path / "half.onnx", "fp16", tokenizer_path=tokenizer)
    assert not {"inner.half", "outer.half"} & halves(tmp_path / "half.onnx")


def test_unknown_activations_are_not_guessed(tmp_path):
    """Without texts, nobody knows what would overflow."""
    source = write(tmp_path / "model.onnx")
    with pytest.raises(UnsupportedModel, match="pass tokenizer_path"):
        quantize_model(source, tmp_path / "half.onnx", "fp16")


def test_attention_over_one_packed_tensor_stays_fp32(tmp_path, tokenizer):
    """As ONNX Runtime's optimizer writes it for GPUs; its kernels there are fp16 only, so it is not run here."""
    from neuralcore.embedding.backends.onnx.quantize.fp16 import _Plan
    from neuralcore.embedding.backends.onnx.quantize.model import Model

    model = Model(write(tmp_path / "model.onnx"))
    for inputs in (["x"], ["x", "", ""], ["x", "x"], ["x", "x", "x"]):
        node = helper.make_node("MultiHeadAttention", inputs, ["attended"], domain="com.microsoft", num_heads=2)
        model.nodes.append(node)
        assert (node in _Plan(model, set())) is (inputs == ["x"] * 3)


def types_of(path: Path, names: list[str]) -> dict[str, str]:
    """As ONNX Runtime infers them."""
    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return {output.name: output.type for output in session.get_outputs()}


@pytest.mark.parametrize("name", LIKE)
def test_products_and_attention_are_half_and_norms_and_residuals_fp32(tmp_path, tokenizer, name):
    """Heads under norms, heads that are shared, and windows, too: what is masked there is no half."""
    stack = random_stack(3, replace(LIKE[name], words=120, longest=32))
    config = ModelConfig(name="x", dimension=stack.size or stack.hidden, max_tokens=32, normalize=False)
    source, path = tmp_path / "model.onnx", tmp_path / "half.onnx"
    write_onnx(stack, config, source)
    quantize_model(source, path, "fp16", tokenizer_path=tokenizer, max_tokens=32)
    graph = onnx.load(path).graph
    nodes = {op: [node for node in graph.node if node.op_type == op] for op in ("MatMul", "MultiHeadAttention", "Add")}
    constants = {tensor.name: tensor.data_type for tensor in graph.initializer}
    weights = [node.input[1] for node in nodes["MatMul"] if node.input[1] in constants]
    assert {constants[weight] for weight in weights} == {TensorProto.FLOAT16}
    assert {kind for norm, kind in constants.items() if "norm" in norm or "before" in norm} <= {TensorProto.FLOAT}
    attended = [value for node in nodes["MultiHeadAttention"] for value in [*node.input[:3], *node.input[5:]]]
    assert set(types_of(path, attended).values()) == {"tensor(float16)"}
    sums = [node.output[0] for node in nodes["Add"] if not set(node.input) & constants.keys()]
    assert set(types_of(path, sums).values()) <= {"tensor(float)", "tensor(int64)"}
    expected, found = map(states, (source, path))
    assert np.abs(found - expected).max() < 4e-3 * np.abs(expected).max()


def states(path: Path) -> np.ndarray:
    """Of two texts, the shorter one among padding that sees nothing of it."""
    session = OnnxSession(path, device="cpu", n_threads=1, gpu=GpuOptions())
    mask = np.array([[1] * 20, [1, 1] + [0] * 18])
    found = session.run("last_hidden_state", session.feeds(np.arange(40).reshape(2, 20) + 2, mask))
    assert np.isfinite(found).all()
    return found[mask == 1]
