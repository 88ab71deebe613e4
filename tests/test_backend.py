"""`backend=`: what was named runs, or an error says why not; what was not named is chosen."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from neuralcore.embedding import EmbeddingEngine, InputError, ProviderUnavailable, UnsupportedModel
from neuralcore.embedding.backends.native.kernels import absence, choose_isa
from neuralcore.embedding.distributed.recipe import EngineRecipe
from neuralcore.embedding.store import make_store
from tests.altered_folders import static
from tests.families import modules
from tests.ready import ready_graph

needs_kernels = pytest.mark.skipif(bool(absence()), reason=absence())
ODD = next(case for case in modules()["bert_like"] if case.name == "bert_odd")
TEXTS = ["the cat sat", "a dog ran under the tree", ""]


@pytest.fixture
def load(tiny_folder, tmp_path):
    return lambda **options: EmbeddingEngine.from_pretrained(tiny_folder, cache_dir=tmp_path / "cache", **options)


def made(tmp_path) -> set[str]:
    return {path.parent.name for path in (tmp_path / "cache/models").rglob("manifest.json")}


def test_unknown_name_is_refused(load):
    with pytest.raises(InputError, match="backend must be one of auto, onnxruntime, native, not 'torch'"):
        load(backend="torch")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "dynamic-int8"])
def test_onnx_runtime_runs_what_it_is_named_for(load, tmp_path, precision):
    with load(backend="onnxruntime", precision=precision) as engine:
        assert (engine.backend, engine.precision) == ("onnxruntime cpu", precision)
        assert engine.embed_batch(TEXTS).shape == (3, 48)
    assert made(tmp_path) == {"source", "fp32", precision}


@needs_kernels
def test_kernels_run_what_they_are_named_for(load):
    with load(backend="native", precision="int8") as engine:
        assert engine.backend == f"native {choose_isa()}"
        copy = pickle.loads(pickle.dumps(engine))
        np.testing.assert_array_equal(copy.embed_batch(TEXTS), engine.embed_batch(TEXTS))
        assert copy.backend == engine.backend


def test_recipe_of_a_worker_names_it(tiny_folder, tmp_path):
    recipe = EngineRecipe(model=tiny_folder, precision="int8", backend="onnxruntime", cache_dir=tmp_path / "cache")
    with pickle.loads(pickle.dumps(recipe)).load(threads=1) as engine:
        assert engine.backend == "onnxruntime cpu"


@needs_kernels
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_kernels_on_a_gpu_are_refused(load, device, precision):
    with pytest.raises(ProviderUnavailable, match=r"run on the CPU|computed on CPU"):
        load(backend="native", device=device, precision=precision)


def test_dynamic_quantization_by_the_kernels_is_refused(load):
    with pytest.raises(ProviderUnavailable, match="backend 'native' is not available: precision='dynamic-int8'"):
        load(backend="native", precision="dynamic-int8")


def test_kernels_that_are_switched_off_are_refused(load, monkeypatch):
    monkeypatch.setenv("NEURALCORE_ISA", "none")
    with pytest.raises(ProviderUnavailable, match="switched off by NEURALCORE_ISA=none") as caught:
        load(backend="native", precision="int8")
    assert (caught.value.kind, caught.value.requested, caught.value.available) == ("backend", "native", ["onnxruntime"])


@needs_kernels
def test_part_that_the_kernels_do_not_know_is_the_reason(tmp_path):
    folder = ODD.write(tmp_path / "odd")
    with pytest.raises(UnsupportedModel, match="do not know hidden states of size 36"):
        EmbeddingEngine.from_pretrained(folder, backend="native", precision="int8", cache_dir=tmp_path / "cache")


@needs_kernels
def test_onnx_file_that_was_found_is_not_for_the_kernels(tiny_folder, tmp_path):
    graph = ready_graph(make_store(tmp_path / "other"), tiny_folder)
    for path in graph.folder.glob("model.onnx*"):
        path.rename(tiny_folder / path.name)
    (tiny_folder / "model.safetensors").unlink()
    with pytest.raises(UnsupportedModel, match=r"run checkpoints, and this is .*model\.onnx"):
        EmbeddingEngine.from_pretrained(tiny_folder, backend="native", cache_dir=tmp_path / "cache")
    with EmbeddingEngine.from_pretrained(tiny_folder, cache_dir=tmp_path / "cache") as engine:
        assert engine.backend == "onnxruntime cpu"


@pytest.mark.parametrize("backend", ["native", "onnxruntime"])
def test_table_is_run_by_neither(tmp_path, backend):
    folder = static.static(tmp_path / "table")
    with pytest.raises(UnsupportedModel, match="it is a table of vectors"):
        EmbeddingEngine.from_pretrained(folder, backend=backend, cache_dir=tmp_path / "cache")


@needs_kernels
def test_cached_native_model_is_loaded_without_onnx_runtime_or_what_only_making_needs(load, tiny_folder, tmp_path):
    load(precision="int8").close()
    code = (
        "import sys; from neuralcore.embedding import EmbeddingEngine as E; "
        "engine = E.from_pretrained(sys.argv[1], precision='int8', cache_dir=sys.argv[2]); engine.embed('a'); "
        "names = [name.removeprefix('neuralcore.embedding.') for name in sys.modules]; "
        "print({'onnxruntime', 'onnx', 'rich', 'filelock', 'backends.native.pack', 'families.forward', "
        "'precision.graphs', 'precision.packing', 'backends.onnx.write'} & set(names))"
    )
    command = [sys.executable, "-c", code, tiny_folder, tmp_path / "cache"]
    assert subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout == "set()\n"
