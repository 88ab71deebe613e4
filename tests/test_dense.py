"""Dense steps in graphs and in other precisions, and what the fingerprint says of them."""

import dataclasses
import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file

from neuralcore.embedding import (
    Dense,
    EmbeddingEngine,
    FingerprintMismatch,
    InputError,
    check_fingerprint,
)
from neuralcore.embedding.backends.onnx.write import write_onnx
from neuralcore.embedding.store import make_store
from neuralcore.embedding.store.folder import ModelFolder
from tests.altered_folders import TEXTS, groups
from tests.ready import ready_graph

FOLDERS = {folder.name: folder for folder in groups()["dense"]}


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def onnx_runtime(monkeypatch):
    """INT8 by ONNX Runtime, on any CPU."""
    monkeypatch.setenv("NEURALCORE_ISA", "none")


def cosines(one, other):
    return np.einsum("ij,ij->i", one, other) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


@pytest.mark.usefixtures("onnx_runtime")
@pytest.mark.parametrize(("name", "precision"), [("two_without_bias", "fp16"), ("two_poolings", "int8")])
def test_other_precision_is_near_and_its_dense_steps_are_fp32(tmp_path, cache, name, precision):
    folder = FOLDERS[name].write(tmp_path / "model")
    with EmbeddingEngine.from_pretrained(folder, cache_dir=cache, threads=1) as engine:
        whole, fingerprint = engine.embed_batch(TEXTS), engine.fingerprint
    with EmbeddingEngine.from_pretrained(folder, cache_dir=cache, threads=1, precision=precision) as engine:
        assert engine.backend == "onnxruntime cpu"
        assert cosines(engine.embed_batch(TEXTS), whole).min() > 0.995
        check_fingerprint(fingerprint, engine.fingerprint)
    graph = onnx.load(next(cache.rglob(f"{precision}/model.onnx"))).graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for number, path in enumerate(ModelFolder(folder).dense_paths):
        kept = weights[f"dense.{number}.weight"]
        assert kept.dtype == np.float32
        np.testing.assert_array_equal(kept, load_file(path)["linear.weight"].T)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "residual_of_another_size" else pytest.mark.full)
        for name, folder in FOLDERS.items()
        if folder.refused is None
    ],
)
def test_int8_of_the_usual_back_end_is_near(tmp_path, cache, name):
    """The native kernels where there are some."""
    folder = FOLDERS[name].write(tmp_path / "model")
    with EmbeddingEngine.from_pretrained(folder, cache_dir=cache, threads=1) as engine:
        whole = engine.embed_batch(TEXTS)
    with EmbeddingEngine.from_pretrained(folder, cache_dir=cache, threads=1, precision="int8") as engine:
        own = engine.embed_batch(TEXTS)
        assert cosines(own, whole).min() > 0.995
        if engine.backend.startswith("native"):
            np.testing.assert_array_equal(np.stack([engine.embed(text) for text in TEXTS]), own)


def test_fingerprint_tells_of_the_steps(tmp_path, cache):
    folder = FOLDERS["two_poolings"].write(tmp_path / "model")
    with EmbeddingEngine.from_pretrained(folder, cache_dir=cache) as engine:
        fingerprint = engine.fingerprint
        check_fingerprint(fingerprint.to_json(), engine.fingerprint, strict=True)
    assert fingerprint.pooling == "mean+cls"
    assert json.loads(fingerprint.dense)[0] == {
        "n_in": 96, "n_out": 32, "activation": "tanh", "bias": True, "residual": False, "normalize_input": False,
    }  # fmt: skip


def change_weights(folder):
    path = folder / "2_Dense/model.safetensors"
    save_file({name: values * 2 for name, values in load_file(path).items()}, path)


def change_activation(folder):
    path = folder / "2_Dense/config.json"
    path.write_text(path.read_text().replace("Tanh", "ReLU"))


@pytest.mark.parametrize(("change", "told"), [(change_weights, "weights"), (change_activation, "dense")])
def test_other_step_is_another_space_and_is_made_anew(tmp_path, cache, change, told):
    folder = FOLDERS["tanh_to_fewer"].write(tmp_path / "model")
    with EmbeddingEngine.from_pretrained(folder, cache_dir=cache) as engine:
        before, vectors = engine.fingerprint, engine.embed_batch(TEXTS)
    change(folder)
    with EmbeddingEngine.from_pretrained(folder, cache_dir=cache) as engine:
        assert np.abs(engine.embed_batch(TEXTS) - vectors).max() > 0.1
        with pytest.raises(FingerprintMismatch, match=told):
            check_fingerprint(before, engine.fingerprint)


def test_graph_is_used_for_what_it_says_of_itself_only(tmp_path, cache):
    """A configuration with another activation is not the graph's, and nothing else can run its step."""
    folder = FOLDERS["tanh_to_fewer"].write(tmp_path / "model")
    graph = ready_graph(make_store(cache), folder).model_path
    config = ModelFolder(folder).config()
    with EmbeddingEngine(graph, folder / "tokenizer.json", config) as engine:
        assert engine.embed("cat").shape == (24,)
    other = dataclasses.replace(config, dense=[dataclasses.replace(config.dense[0], activation="relu")])
    with pytest.raises(Exception, match="does not run the Dense steps"):
        EmbeddingEngine(graph, folder / "tokenizer.json", other)


def test_weights_of_other_steps_are_refused(tmp_path):
    model = ModelFolder(FOLDERS["tanh_to_fewer"].write(tmp_path / "model"))
    config = model.config()
    steps = model.dense_steps(config)
    for dense, given in (((), steps), (config.dense, ()), ([Dense(n_in=48, n_out=24, activation="relu")], steps)):
        wrong = dataclasses.replace(config, dense=dense, dimension=24)
        with pytest.raises(InputError, match="not those of the configuration"):
            write_onnx(model.stack(), wrong, tmp_path / "model.onnx", dense=given)
