"""Conversion to a folder that loads by itself, and that is whole or absent."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from neuralcore.embedding import (
    EmbeddingEngine,
    InputError,
    ModelConfig,
    ModelCorrupt,
    PoolingStrategy,
    UnsupportedModel,
    VerificationFailed,
)
from neuralcore.embedding import convert as convert_module
from neuralcore.embedding.backends.onnx.export import TorchEncoder
from neuralcore.embedding.convert import convert_model
from neuralcore.embedding.precision import conversion_check
from neuralcore.embedding.store import make_store, staging_beside
from neuralcore.embedding.store.folder import ModelFolder, write_config
from neuralcore.embedding.verify import _checkpoint
from tests import tensor_files

TEXTS = ["the cat sat on the mat", "a big red dog", "", "tree " * 50]


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "cache", offline=True)


@pytest.fixture(autouse=True)
def _without_torch(monkeypatch):
    """Even where PyTorch is installed: these tests are of what needs none."""
    monkeypatch.setattr(convert_module, "torch_is_installed", lambda: False)


def vectors(folder: Path, cache: Path) -> np.ndarray:
    with EmbeddingEngine.from_pretrained(folder, cache_dir=cache, offline=True, backend="onnxruntime") as engine:
        return engine.embed_batch(TEXTS)


def test_converted_folder_loads_without_the_checkpoint_and_equals_it(tiny_folder, store, tmp_path):
    output = tmp_path / "converted"
    manifest = convert_model(tiny_folder, output, store=store)
    assert manifest.source["exporter"] == "builtin"
    assert manifest.measured["padding_shift"] < 1e-5
    assert not list(output.rglob("*.safetensors"))
    np.testing.assert_array_equal(vectors(output, tmp_path / "a"), vectors(tiny_folder, tmp_path / "b"))
    written = json.loads((output / "manifest.json").read_bytes())
    assert written["files"].keys() == {"model", "weights", "tokenizer"}


def test_checkpoint_in_several_files_is_converted_to_a_folder_without_them(tiny_folder, store, tmp_path):
    expected = vectors(tiny_folder, tmp_path / "a")
    tensors = load_file(tiny_folder / "model.safetensors")
    (tiny_folder / "model.safetensors").unlink()
    tensor_files.save_shards(tiny_folder, tensors)
    convert_model(tiny_folder, tmp_path / "out", store=store)
    assert not list((tmp_path / "out").rglob("*safetensors*"))
    np.testing.assert_array_equal(vectors(tmp_path / "out", tmp_path / "b"), expected)


def test_index_that_leads_out_of_the_folder_is_refused_before_transformers_sees_it(tiny_folder, tmp_path):
    (tiny_folder / "model.safetensors").rename(tmp_path / "secret.safetensors")
    index = {"weight_map": {"embeddings.LayerNorm.weight": "../secret.safetensors"}}
    (tiny_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for attempt in (lambda: TorchEncoder(tiny_folder), lambda: _checkpoint(tiny_folder, None, make_store(tmp_path))):
        with pytest.raises(ModelCorrupt, match="in the model's folder"):
            attempt()


@pytest.mark.parametrize("opset", [18, 21])
def test_opset_is_as_asked_for(tiny_folder, store, tmp_path, opset):
    import onnx

    convert_model(tiny_folder, tmp_path / "out", store=store, opset=opset)
    model = onnx.load(tmp_path / "out/onnx/model.onnx", load_external_data=False)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == opset


def test_opset_that_cannot_be_written_is_refused(tiny_folder, store, tmp_path):
    with pytest.raises(InputError, match="opset 18 to 21, not 11"):
        convert_model(tiny_folder, tmp_path / "out", store=store, opset=11)
    assert not (tmp_path / "out").exists()


def test_int8_folder_is_compared_with_fp32(tiny_folder, store, tmp_path):
    manifest = convert_model(tiny_folder, tmp_path / "out", store=store, precision="int8")
    assert manifest.measured["mean_cosine"] > 0.995
    with EmbeddingEngine.from_pretrained(tmp_path / "out", cache_dir=tmp_path / "cache") as engine:
        assert engine.precision == "int8"  # by its graph: nobody asked for it
        cosines = (engine.embed_batch(TEXTS) * vectors(tiny_folder, tmp_path / "b")).sum(axis=1)
    assert cosines.min() > 0.99
    assert sorted(path.name for path in (tmp_path / "out/onnx").iterdir()) == ["model.onnx", "model.onnx.data"]


def test_folder_that_exists_is_never_touched(tiny_folder, store, tmp_path):
    output = tmp_path / "mine"
    output.mkdir()
    (output / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="exists already"):
        convert_model(tiny_folder, output, store=store)
    assert (output / "thesis.txt").read_text() == "years of work"


def nothing_is_left(tmp_path: Path) -> bool:
    return not (tmp_path / "out").exists() and not list(tmp_path.glob(".partial-*"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OSError(28, "No space left on device")])
def test_interrupted_conversion_leaves_nothing(tiny_folder, store, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(convert_module, "check_conversion", fail)
    with pytest.raises(error if isinstance(error, type) else OSError):
        convert_model(tiny_folder, tmp_path / "out", store=store)
    assert nothing_is_left(tmp_path)


def test_folders_above_a_conversion_that_failed_do_not_stay(tiny_folder, store, tmp_path, monkeypatch):
    monkeypatch.setattr(conversion_check, "_padding_shift", lambda *_: 0.01)
    (tmp_path / "mine").mkdir()
    for output in ("x/y/z", "mine/y/z"):
        with pytest.raises(VerificationFailed):
            convert_model(tiny_folder, tmp_path / output, store=store)
    assert not (tmp_path / "x").exists()
    assert not list((tmp_path / "mine").iterdir())


def test_folders_above_a_conversion_are_made(tiny_folder, store, tmp_path):
    convert_model(tiny_folder, tmp_path / "x/y/z", store=store)
    assert [path.name for path in (tmp_path / "x/y").iterdir()] == ["z"]


KILLED = """
import os, signal, sys
from neuralcore.embedding import convert
from neuralcore.embedding.store import make_store

convert.torch_is_installed = lambda: False
convert.check_conversion = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
convert.convert_model(sys.argv[1], sys.argv[2], store=make_store(sys.argv[3], offline=True))
"""


def test_leftovers_of_a_killed_conversion_are_removed_by_the_next(tiny_folder, store, tmp_path):
    command = [sys.executable, "-c", KILLED, tiny_folder, tmp_path / "out", store.cache]
    assert subprocess.run(command, timeout=60, check=False).returncode == -signal.SIGKILL
    (left,) = tmp_path.glob(".partial-*")
    assert list(left.rglob("model.onnx"))
    with staging_beside(tmp_path / "out") as others:  # of a process that is alive
        convert_model(tiny_folder, tmp_path / "out", store=store)
        assert list(tmp_path.glob(".partial-*")) == [others]
    assert not list(tmp_path.glob(".partial-*"))


def test_graph_that_differs_from_its_source_is_refused(tiny_folder, store, tmp_path, monkeypatch):
    def other(folder, exporter):
        return lambda ids, mask: np.ones((*ids.shape, 48), np.float32)

    monkeypatch.setattr(convert_module, "_reference", other)
    with pytest.raises(VerificationFailed, match="difference of hidden states"):
        convert_model(tiny_folder, tmp_path / "out", store=store)
    assert nothing_is_left(tmp_path)


def test_graph_whose_vectors_move_with_padding_is_refused(tiny_folder, store, tmp_path, monkeypatch):
    monkeypatch.setattr(conversion_check, "_padding_shift", lambda *_: 0.01)
    with pytest.raises(VerificationFailed, match="shift by padding"):
        convert_model(tiny_folder, tmp_path / "out", store=store)
    assert nothing_is_left(tmp_path)


def test_weights_with_nan_and_pickled_ones_are_refused(tiny_folder, store, tmp_path):
    path = tiny_folder / "model.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values()))[:] = np.nan
    save_file(tensors, path)
    with pytest.raises(ModelCorrupt, match="NaN"):
        convert_model(tiny_folder, tmp_path / "out", store=store)
    path.rename(tiny_folder / "pytorch_model.bin")
    with pytest.raises(UnsupportedModel, match="pickled weights are not opened"):
        convert_model(tiny_folder, tmp_path / "out", store=store)
    assert nothing_is_left(tmp_path)


@pytest.mark.parametrize("pooling", PoolingStrategy)
@pytest.mark.parametrize("normalize", [True, False])
def test_written_configuration_reads_back_as_it_was(tmp_path, pooling, normalize):
    config = ModelConfig(
        name=tmp_path.name, dimension=48, max_tokens=77, pooling=pooling, normalize=normalize, lowercase=True,
        query_prefix="query: ", document_prefix="passage: ", prompts={"clustering": "cluster: "},
    )  # fmt: skip
    write_config(config, tmp_path)
    read = ModelFolder(tmp_path).config()
    same = {PoolingStrategy.MEAN_WITH_ATTENTION: PoolingStrategy.MEAN}
    assert read.pooling == same.get(pooling, pooling)
    for name in ("dimension", "max_tokens", "normalize", "lowercase", "query_prefix", "document_prefix"):
        assert getattr(read, name) == getattr(config, name)
    assert read.prompts["clustering"] == "cluster: "
