"""Other precisions: what is written, how exact it is, and what is refused."""

import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto

from neuralcore.embedding import (
    EmbeddingEngine,
    InputError,
    ModelConfig,
    ModelCorrupt,
    Precision,
    UnsupportedModel,
    detect_quantization,
    quantize_model,
)
from neuralcore.embedding.backends.onnx.quantize import int8
from neuralcore.embedding.backends.onnx.quantize.activations import Calibration
from neuralcore.embedding.backends.onnx.quantize.integers import (
    EvenQuantization,
    Quantization,
    RowQuantization,
    find_quantization,
    quantize_columns,
)
from neuralcore.embedding.backends.onnx.quantize.model import Model
from neuralcore.embedding.backends.onnx.write import write_onnx
from neuralcore.embedding.precision.graphs import compare_files
from neuralcore.embedding.samples import calibration_texts, verification_texts
from neuralcore.embedding.store import make_store
from neuralcore.embedding.types import TokenBatch
from tests.checkpoints import HIDDEN, MAKERS
from tests.random_stacks import LIKE, Features, random_stack
from tests.ready import ready_graph
from tests.stacks import stack_of

OTHERS = ("fp16", "int8", "dynamic-int8")
TEXTS = ["the cat sat on the mat", "a big red dog ran", "", "not a tree", "blue " * 60, "x"]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """An fp32 model with its tokenizer beside it."""
    from tests import tiny_model

    folder = tiny_model.write(tmp_path_factory.mktemp("source") / "tiny")
    store = make_store(tmp_path_factory.mktemp("cache"))
    graph = ready_graph(store, folder)
    shutil.copy(store.ensure(folder).tokenizer_path, graph.folder)
    return graph.model_path


@pytest.fixture(scope="module")
def made(source, tmp_path_factory) -> dict[str, Path]:
    """The model in every precision, under names that lie."""
    folder = tmp_path_factory.mktemp("made")
    names = {"fp16": "model_int8.onnx", "int8": "model_fp32.onnx", "dynamic-int8": "model_fp16.onnx"}
    for precision, name in names.items():
        tokenizer = source.parent / "tokenizer.json"
        quantize_model(source, folder / name, precision, tokenizer_path=tokenizer, max_tokens=32)
    shutil.copyfile(source, folder / "quantized.onnx")
    return {precision: folder / name for precision, name in names.items()} | {"fp32": folder / "quantized.onnx"}


def open_engine(path: Path, source: Path) -> EmbeddingEngine:
    config = ModelConfig(name="tiny", dimension=48, max_tokens=32)
    return EmbeddingEngine(path, source.parent / "tokenizer.json", config)


@pytest.mark.parametrize("precision", ["fp32", *OTHERS])
def test_precision_is_read_from_the_graph_not_from_the_name(made, precision):
    assert detect_quantization(made[precision]) is Precision(precision)


@pytest.mark.parametrize(("precision", "lowest"), [("fp16", 0.9999), ("int8", 0.99), ("dynamic-int8", 0.95)])
def test_vectors_stay_near_those_of_fp32(made, source, precision, lowest):
    with open_engine(source, source) as fp32, open_engine(made[precision], source) as other:
        cosines = (fp32.embed_batch(TEXTS) * other.embed_batch(TEXTS)).sum(axis=1)
    assert cosines.min() > lowest


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_text_alone_and_in_any_batch_has_the_same_vector(made, source, precision):
    with open_engine(made[precision], source) as engine:
        together = engine.embed_batch(TEXTS)
        alone = np.stack([engine.embed(text) for text in TEXTS])
        backwards = engine.embed_batch(TEXTS[::-1])[::-1]
    np.testing.assert_allclose(together, alone, atol=2e-3 if precision == "fp16" else 1e-6, rtol=0)
    np.testing.assert_allclose(together, backwards, atol=2e-3 if precision == "fp16" else 1e-6, rtol=0)


def test_overflow_prone_operators_stay_fp32(made):
    graph = onnx.load(made["fp16"]).graph
    halves = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    for node in graph.node:
        if node.op_type in {"LayerNormalization", "Softmax", "ReduceL2", "Div", "ReduceSum"}:
            assert not halves & set(node.input), node.op_type
    products = [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in halves]
    assert len(products) == 3 * 6  # layers, and Q, K, V, output and two of the feed-forward in each
    mask = [attribute.f for node in graph.node for attribute in node.attribute if attribute.name == "mask_filter_value"]
    assert all(abs(value) < np.finfo(np.float16).max for value in mask)


def test_files_shrink_as_their_numbers_do(made, source):
    size = source.with_name(source.name + ".data").stat().st_size
    assert made["fp16"].with_name(made["fp16"].name + ".data").stat().st_size < 0.55 * size
    assert made["int8"].with_name(made["int8"].name + ".data").stat().st_size < 0.5 * size


@pytest.mark.parametrize(("precision", "lowest"), [("fp16", 0.9999), ("int8", 0.98)])
@pytest.mark.parametrize("family", MAKERS)
def test_every_family_can_be_quantized(source, tmp_path, family, precision, lowest):
    """Relative positions, rotary ones and SwiGLU, too; random weights are harder to quantize than trained ones."""
    checkpoint = MAKERS[family](11)
    config = ModelConfig(name=family, dimension=HIDDEN, max_tokens=32)
    write_onnx(stack_of(checkpoint.save(tmp_path), checkpoint.architecture), config, tmp_path / "fp32.onnx")
    tokenizer = source.parent / "tokenizer.json"
    quantize_model(tmp_path / "fp32.onnx", tmp_path / "other.onnx", precision, tokenizer_path=tokenizer, max_tokens=32)
    agreement = compare_files(tmp_path / "fp32.onnx", tmp_path / "other.onnx", tokenizer, config)
    assert agreement.min_cosine > lowest
    assert agreement.batch_shift < 2e-3


@pytest.mark.parametrize("precision", OTHERS)
def test_what_is_quantized_already_is_refused(made, tmp_path, precision):
    with pytest.raises(UnsupportedModel, match=f"it is {precision} already"):
        quantize_model(made[precision], tmp_path / "again.onnx", "int8")
    assert not list(tmp_path.iterdir())


def test_types_that_exporters_note_do_not_outlive_their_change(source, tmp_path):
    for file in source.parent.glob("model.onnx*"):
        shutil.copy(file, tmp_path)
    noted = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    products = [node.output[0] for node in noted.graph.node if node.op_type == "MatMul"]
    notes = [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in products]
    noted.graph.value_info.extend(notes)
    onnx.save(noted, tmp_path / "model.onnx")
    tokenizer = source.parent / "tokenizer.json"
    quantize_model(tmp_path / "model.onnx", tmp_path / "half.onnx", "fp16", tokenizer_path=tokenizer, max_tokens=32)
    with open_engine(tmp_path / "half.onnx", source) as engine:
        assert np.isfinite(engine.embed("the cat")).all()


def test_bf16_is_no_graphs(source, tmp_path):
    with pytest.raises(UnsupportedModel, match="bf16 is computed by the native kernels"):
        quantize_model(source, tmp_path / "out.onnx", "bf16")


def test_fp32_is_a_copy(source, tmp_path):
    quantize_model(source, tmp_path / "copy.onnx", "fp32")
    with open_engine(source, source) as own, open_engine(tmp_path / "copy.onnx", source) as copy:
        np.testing.assert_array_equal(own.embed_batch(TEXTS), copy.embed_batch(TEXTS))


def test_wrong_arguments_are_refused_before_anything_is_written(source, tmp_path):
    output = tmp_path / "out.onnx"
    with pytest.raises(InputError, match="precision must be one of fp32, fp16, bf16, int8, dynamic-int8, not 'int4'"):
        quantize_model(source, output, "int4")
    with pytest.raises(InputError, match="calibration needs texts"):
        quantize_model(source, output, "int8", texts=[])
    lonely = tmp_path / "lonely" / "deep"
    lonely.mkdir(parents=True)
    for file in source.parent.glob("model.onnx*"):
        shutil.copy(file, lonely)
    with pytest.raises(UnsupportedModel, match="pass tokenizer_path"):
        quantize_model(lonely / "model.onnx", output, "int8")
    with pytest.raises(ModelCorrupt):
        quantize_model(source.parent / "tokenizer.json", output, "fp16")
    assert not output.exists()


def test_failure_leaves_nothing_behind(source, tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Model, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        quantize_model(source, tmp_path / "out.onnx", "fp16")
    assert not list(tmp_path.iterdir())


def test_observed_copy_lies_beside_the_target_and_is_removed(source, tmp_path, monkeypatch):
    """Not in the temporary folder, which may be small: a full disk and a killed process follow one rule."""
    places, save = [], Model.save

    def note(self, path):
        places.append(path)
        save(self, path)

    monkeypatch.setattr(Model, "save", note)
    quantize_model(
        source, tmp_path / "out.onnx", "int8", tokenizer_path=source.parent / "tokenizer.json", max_tokens=32
    )
    assert [path.name for path in places] == ["observed.onnx", "out.onnx"]
    assert all(path.is_relative_to(tmp_path) for path in places)
    assert {path.name for path in tmp_path.iterdir()} == {"out.onnx", "out.onnx.data"}


@pytest.mark.parametrize(("n_texts", "largest"), [(3, 1026), (1024, 1024), (1025, 1024), (4000, 1024)])
def test_sample_stays_small_whatever_the_number_of_texts(source, tmp_path, n_texts, largest):
    model = Model(source)
    x = model.products()[0].x
    ids = np.tile(np.array([2, 5, 3], np.int32), n_texts)
    tokens = TokenBatch(ids, np.arange(n_texts + 1) * 3, np.full(n_texts, 3))
    sample = Calibration(tokens, tmp_path).observe(model, [x])[x].sample
    assert min(n_texts * 3, 500) <= len(sample) <= largest


def test_users_own_texts_calibrate(source, tmp_path):
    quantize_model(source, tmp_path / "own.onnx", "int8", texts=["the cat", "a dog ran"], max_tokens=32)
    assert detect_quantization(tmp_path / "own.onnx") is Precision.INT8


class TestOtherTools:
    """Files written by ONNX Runtime's own quantizer are recognised, too."""

    pytestmark = pytest.mark.filterwarnings("ignore")

    def test_dynamic(self, source, tmp_path):
        from onnxruntime.quantization import QuantType, quantize_dynamic

        path = tmp_path / "model_fp16.onnx"
        options = {"DefaultTensorType": TensorProto.FLOAT}
        quantize_dynamic(source, path, per_channel=True, weight_type=QuantType.QInt8, extra_options=options)
        assert detect_quantization(path) is Precision.DYNAMIC_INT8

    def test_static(self, source, tmp_path):
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

        class Reader(CalibrationDataReader):
            def __init__(self):
                ids = np.array([[2, 5, 6, 3]])
                self.feeds = iter([{"input_ids": ids, "attention_mask": np.ones_like(ids)}])

            def get_next(self):
                return next(self.feeds, None)

        path = tmp_path / "model.onnx"
        quantize_static(
            source, path, Reader(), quant_format=QuantFormat.QDQ, op_types_to_quantize=["MatMul"],
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
        )  # fmt: skip
        assert detect_quantization(path) is Precision.INT8

    def test_static_with_integer_operators(self, tmp_path):
        inputs = ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "y_scale", "y_zero"]
        graph = onnx.helper.make_graph([onnx.helper.make_node("QLinearMatMul", inputs, ["y"])], "g", [], [])
        path = tmp_path / "model_fp16.onnx"
        onnx.save(onnx.helper.make_model(graph), path)
        assert detect_quantization(path) is Precision.INT8

    def test_four_bits_are_not_mistaken_for_eight(self, tmp_path):
        weight = onnx.helper.make_tensor("w", TensorProto.INT4, [2, 2], [1, 2, 3, 4])
        graph = onnx.helper.make_graph([], "g", [], [], [weight])
        path = tmp_path / "model_int8.onnx"
        onnx.save(onnx.helper.make_model(graph), path)
        with pytest.raises(UnsupportedModel, match="4 bits"):
            detect_quantization(path)


finite = st.floats(-1e3, 1e3, width=32)
matrices = arrays(np.float32, st.tuples(st.integers(1, 8), st.integers(1, 6)), elements=finite)


@given(matrices)
def test_column_integers_are_within_half_a_step(weight):
    integers, scale = quantize_columns(weight)
    assert np.abs(integers.astype(int)).max() <= 127
    assert (np.abs(integers * scale.astype(float) - weight) <= scale * 0.501 + 1e-30).all()


class Observed:
    """What `Activations` gives, of values that are all there."""

    def __init__(self, values: np.ndarray) -> None:
        self.sample = values
        self.low, self.high = np.minimum(values.min(0), 0), np.maximum(values.max(0), 0)


@given(st.integers(0, 1000))
def test_two_sided_values_are_smoothed_and_one_sided_ones_scaled_by_token(seed):
    random = np.random.default_rng(seed)
    values = random.normal(size=(40, 12)).astype(np.float32)
    values[:, 3] *= 50  # an outlier
    weight = random.normal(size=(12, 5)).astype(np.float32)
    smoothed = find_quantization(Observed(values), weight)
    assert isinstance(smoothed, Quantization)
    assert error_of(smoothed, values, weight) < 0.03
    one_sided = np.maximum(values, 0)
    by_row = find_quantization(Observed(one_sided), weight)
    assert isinstance(by_row, RowQuantization)
    assert error_of(by_row, one_sided, weight) < 0.03


def test_outlier_of_one_token_does_not_coarsen_the_others():
    values = np.random.default_rng(1).normal(size=(40, 12)).astype(np.float32)
    values[7] *= 1000
    weight = np.random.default_rng(2).normal(size=(12, 5)).astype(np.float32)
    others = np.delete(values, 7, axis=0)
    errors = [error_of(find_quantization(Observed(values), weight, by_token=some), others, weight) for some in (0, 1)]
    assert errors[1] < 0.1
    assert errors[0] > 0.5


@pytest.mark.parametrize("name", ["gte", "modernbert", "qwen3", "gemma3"])
def test_products_of_a_gated_encoder_have_a_scale_for_each_token(tmp_path, source, name):
    """Fixed ranges cut what a gate lets through of other texts. The word table is in 8 bits as well."""
    sizes = {"words": 120, "longest": 32, "hidden": 48, "wide": 96, "head_size": 16}
    stack = random_stack(3, replace(LIKE[name], **sizes))
    config = ModelConfig(name="x", dimension=stack.size or stack.hidden, max_tokens=32)
    write_onnx(stack, config, tmp_path / "model.onnx")
    tokenizer = source.parent / "tokenizer.json"
    quantize_model(tmp_path / "model.onnx", tmp_path / "int8.onnx", "int8", tokenizer_path=tokenizer, max_tokens=32)
    graph = onnx.load(tmp_path / "int8.onnx").graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert not [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in kinds]
    lookups = [node for node in graph.node if node.op_type == "Gather" and node.input[1] == "input_ids"]
    table = max(lookups, key=lambda node: node.output[0].endswith("integers")).input[0]
    assert kinds[table] == TensorProto.INT8
    agreement = compare_files(tmp_path / "model.onnx", tmp_path / "int8.onnx", tokenizer, config)
    assert agreement.min_cosine > 0.99
    assert agreement.batch_shift < 1e-6


def error_of(found, values: np.ndarray, weight: np.ndarray) -> float:
    """Relative to the exact product, in float64."""
    exact = values.astype(float) @ weight.astype(float)
    return float(np.linalg.norm(found.product(values, weight) - exact) / np.linalg.norm(exact))


def test_constant_zero_input_is_quantized_to_zero():
    values = np.zeros((4, 3), np.float32)
    found = find_quantization(Observed(values), np.ones((3, 2), np.float32))
    np.testing.assert_array_equal(found.product(values, np.ones((3, 2), np.float32)), 0)


@pytest.mark.parametrize(("one_sided", "by_token"), [(False, False), (True, False), (False, True)])
def test_graph_computes_the_product_that_was_planned(tmp_path, one_sided, by_token):
    """QuantizeLinear, the integer product and what follows, against the formula in numpy."""
    random = np.random.default_rng(5)
    values = random.normal(size=(1, 30, 16)).astype(np.float32)
    values = np.maximum(values, -0.1) if one_sided else values
    weight, bias = random.normal(size=(16, 8)).astype(np.float32), random.normal(size=8).astype(np.float32)
    path = write_product(tmp_path / "product.onnx", weight, bias)
    model = Model(path)
    observed = Observed(values[0])
    int8._quantize_group(model, "x", model.products(), observed, by_token=by_token)
    model.allow_domain("com.microsoft")
    model.save(path)
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    found = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, {"x": values})[0][0]
    planned = find_quantization(observed, weight, by_token=by_token)
    assert isinstance(planned, EvenQuantization) is by_token
    exact = values[0].astype(float) @ weight + bias
    expected = planned.product(values[0], weight)
    expected = expected - (expected - values[0] @ weight).mean(axis=0) + bias
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    assert np.abs(found - exact).max() < 0.15


def write_product(path: Path, weight: np.ndarray, bias: np.ndarray) -> Path:
    helper = onnx.helper
    nodes = [helper.make_node("MatMul", ["x", "w"], ["xw"]), helper.make_node("Add", ["b", "xw"], ["y"])]
    tensors = [onnx.numpy_helper.from_array(weight, "w"), onnx.numpy_helper.from_array(bias, "b")]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "n", weight.shape[0]])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "n", weight.shape[1]])
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_no_text_is_in_both_samples():
    assert not set(calibration_texts()) & set(verification_texts())
    assert min(map(len, (calibration_texts(), verification_texts()))) > 80


def test_vocabulary_is_quantized_without_copies_of_it_in_memory(tmp_path):
    """It is most of a model of many languages: read once, and turned to integers some rows at a time."""
    features = Features(words=300_000, hidden=32, n_heads=1, n_key_heads=1, windows=(None,))
    stack = random_stack(1, features)
    n_bytes = stack.read_embeddings().words.nbytes
    write_onnx(stack, ModelConfig(name="x", dimension=32, max_tokens=12), tmp_path / "model.onnx")
    for precision, most in (("dynamic-int8", 1.7), ("fp32", 0.5)):
        tracemalloc.start()
        quantize_model(tmp_path / "model.onnx", tmp_path / "other.onnx", precision)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < most * n_bytes
    assert (tmp_path / "other.onnx.data").stat().st_size > n_bytes


def test_model_can_be_saved_in_its_own_place(source, tmp_path):
    """Its weights are still in the file that is written."""
    for file in source.parent.glob("model.onnx*"):
        shutil.copy(file, tmp_path)
    Model(tmp_path / "model.onnx").save(tmp_path / "model.onnx")
    with open_engine(source, source) as own, open_engine(tmp_path / "model.onnx", source) as saved:
        np.testing.assert_array_equal(own.embed_batch(TEXTS), saved.embed_batch(TEXTS))
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.onnx.data"}
