"""Graphs of random encoders compute what families/stack.py says: all of its features, alone and combined."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from neuralcore.embedding.backends.onnx.encoder import OnnxEncoder
from neuralcore.embedding.backends.onnx.session import OnnxSession
from neuralcore.embedding.backends.onnx.write import write_onnx
from neuralcore.embedding.config import ModelConfig
from neuralcore.embedding.families.forward import run
from neuralcore.embedding.providers import GpuOptions
from tests.exact_stack import exact_states
from tests.random_stacks import LIKE, WORDS, Features, random_stack
from tests.tokens import token_batch

CLOSE, SHIFT = 5e-6, 1e-6  # of values of order one: to the exact result, and by padding
LENGTHS = (1, 7, 3, 12)

features = some.builds(
    Features,
    hidden=some.sampled_from([20, 24]),
    n_heads=some.sampled_from([3, 6]),
    n_key_heads=some.sampled_from([1, 3]),
    head_size=some.sampled_from([4, 8, 10]),
    norm=some.sampled_from(["layer", "rms"]),
    places=some.sampled_from([("after",), ("before",), ("before", "inner"), ("inner",), ("before", "inner", "after")]),
    first_norm=some.booleans(),
    norm_biases=some.booleans(),
    head_norms=some.sampled_from(["", "qk", "qkv"]),
    end_norm=some.booleans(),
    biases=some.booleans(),
    activation=some.sampled_from(["gelu", "gelu_tanh", "relu", "silu"]),
    gated=some.booleans(),
    positions=some.booleans(),
    pad_position=some.sampled_from([None, 0, 1]),
    distance_bias=some.booleans(),
    thetas=some.sampled_from([(), (1000.0,), (1e6, 10_000.0)]),
    windows=some.sampled_from([(None, None), (1, None, 0), (2, 2), (None, 5)]),
    causal=some.booleans(),
    word_scale=some.sampled_from([1.0, 4.5]),
    embedding_size=some.sampled_from([None, 14]),
    size=some.sampled_from([None, 9]),
)


def sample_texts(seed: int) -> list[np.ndarray]:
    """Token ids, those of padding among them."""
    random = np.random.RandomState(seed)
    return [random.randint(0, WORDS, length) for length in LENGTHS]


def configuration(stack, **values) -> ModelConfig:
    dimension = stack.size or stack.hidden
    return ModelConfig(**{"name": "random", "dimension": dimension, "max_tokens": 12, "normalize": False, **values})


def open_session(stack, folder, **options) -> OnnxSession:
    path = folder / "model.onnx"
    write_onnx(stack, configuration(stack), path, **options)
    return OnnxSession(path, device="cpu", n_threads=1, gpu=GpuOptions())


def states(session, texts, *, seed=0) -> list[np.ndarray]:
    """Token vectors of texts in one batch, padded with anything."""
    width = max(map(len, texts))
    mask = (np.arange(width) < np.array(list(map(len, texts)))[:, None]).astype(np.int64)
    ids = np.random.RandomState(seed).randint(0, WORDS, mask.shape)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
    found = session.run("last_hidden_state", session.feeds(ids, mask))
    assert np.isfinite(found).all()
    return [row[: len(text)] for row, text in zip(found, texts, strict=True)]


def assert_close(found, expected, *, within):
    size = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, atol=within * size, rtol=0)


def check(stack, folder, seed, **options):
    texts = sample_texts(seed)
    session = open_session(stack, folder, **options)
    together, backwards = states(session, texts, seed=1), states(session, texts[::-1], seed=2)[::-1]
    for text, row, other in zip(texts, together, backwards, strict=True):
        expected, (alone,) = exact_states(stack, text), states(session, [text])
        assert_close(alone, expected, within=CLOSE)
        assert_close(run(stack, text.astype(np.int32)), expected, within=CLOSE)
        assert_close(row, alone, within=SHIFT)
        assert_close(other, alone, within=SHIFT)


@given(features, some.integers(0, 1 << 31))
@settings(max_examples=40)
def test_graph_of_any_features_computes_the_exact_vectors(tmp_path_factory, some_features, seed):
    check(random_stack(seed, some_features), tmp_path_factory.mktemp("graph"), seed)


@pytest.mark.parametrize("opset", [18, 19, 20, 21])
@pytest.mark.parametrize("name", LIKE)
def test_graph_like_a_familys_computes_the_exact_vectors_in_every_opset(name, opset, tmp_path):
    check(random_stack(5, LIKE[name]), tmp_path, 5, opset=opset)


@pytest.mark.parametrize(("name", "n_norms"), [("qwen3", 3 * 4 + 1), ("gemma3", 3 * 7 + 1)])
def test_every_rms_norm_is_one_operator_when_it_runs(name, n_norms, tmp_path):
    write_onnx(random_stack(1, LIKE[name]), configuration(random_stack(1, LIKE[name])), tmp_path / "model.onnx")
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4  # a warning says that the file is of this machine only
    ort.InferenceSession(tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert sum("SimplifiedLayerNormalization" in kind for kind in kinds) == n_norms
    assert not {"Pow", "Sqrt", "ReduceMean"} & set(kinds)


@pytest.mark.parametrize("name", LIKE)
def test_encoder_of_such_a_graph_pools_each_text_as_if_alone(name, tmp_path):
    stack = random_stack(2, LIKE[name])
    config = configuration(stack, pooling="mean")
    write_onnx(stack, config, tmp_path / "model.onnx")
    texts = sample_texts(2)
    found = OnnxEncoder(tmp_path / "model.onnx", config, pad_id=3, threads=2).encode(token_batch(texts))
    for vector, text in zip(found, texts, strict=True):
        assert_close(vector, exact_states(stack, text).mean(axis=0), within=CLOSE)
