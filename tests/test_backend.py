"""`backend=`: what was named runs, or an error says why not; what was not named is chosen."""

import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from benchmarks.texts import raw_sentences, real_paragraphs

from neuralcore.embedding import (
    EmbeddingEngine,
    FingerprintMismatch,
    InputError,
    Precision,
    ProviderUnavailable,
    UnsupportedModel,
    VerificationFailed,
    check_fingerprint,
)
from neuralcore.embedding.backends.native.kernels import absence, choose_isa
from neuralcore.embedding.backends.native.pack import pack_model
from neuralcore.embedding.distributed.recipe import EngineRecipe
from neuralcore.embedding.precision import packing
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


NATIVE = [precision for precision in ("fp32", "fp16", "bf16", "int8") if choose_isa(Precision(precision))]
LOAD = (
    "import sys; from neuralcore.embedding import EmbeddingEngine as E; "
    "engine = E.from_pretrained(sys.argv[1], precision=sys.argv[3], cache_dir=sys.argv[2]); engine.embed('a'); "
    "print(engine.backend.split()[0], *sorted(name.removeprefix('neuralcore.embedding.') for name in sys.modules))"
)
FOREIGN = {"onnxruntime", "onnx", "precision.graphs", "backends.onnx.write", "backends.onnx.session"}
OF_MAKING = {"rich", "filelock", "backends.native.pack", "families.stack", "families.forward", "precision.packing"}


@needs_kernels
@pytest.mark.parametrize("precision", NATIVE)
def test_native_model_is_made_without_a_graph_and_loaded_without_what_only_making_needs(
    tiny_folder, tmp_path, precision
):
    command = [sys.executable, "-c", LOAD, tiny_folder, tmp_path / "cache", precision]
    for unwanted in (FOREIGN, FOREIGN | OF_MAKING):
        output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split()
        assert output[0] == "native"
        # the folder of a user is looked at whole, to see whether it has changed
        assert not (unwanted - {"families.stack"}) & set(output)
    assert made(tmp_path) == {"source", f"{precision}-native"}
    assert sorted(path.name for path in next((tmp_path / "cache").rglob(f"{precision}-native")).iterdir()) == [
        "manifest.json",
        "model.safetensors",
    ]


@needs_kernels
def test_cached_model_of_a_name_is_loaded_without_its_family(minilm_cache):
    command = [sys.executable, "-c", LOAD, "all-MiniLM-L6-v2", minilm_cache, "fp32"]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split()
    assert output[0] == "native"
    assert not (FOREIGN | OF_MAKING | {"store.folder", "store.sources", "families.architecture"}) & set(output)


@needs_kernels
@pytest.mark.parametrize("precision", NATIVE)
def test_packed_file_says_its_precision(load, tiny_folder, precision):
    with load(precision=precision) as engine:
        assert (engine.precision, engine.backend) == (precision, f"native {choose_isa(Precision(precision))}")
        expected = engine.embed_batch(TEXTS)
        path, config, weights = engine._model_path, engine.config, engine.fingerprint.weights
    with EmbeddingEngine(path, tiny_folder / "tokenizer.json", config) as engine:
        assert (engine.precision, engine.fingerprint.weights) == (precision, weights)
        np.testing.assert_array_equal(engine.embed_batch(TEXTS), expected)


@needs_kernels
@pytest.mark.parametrize("precision", NATIVE)
def test_pack_that_came_out_wrong_is_refused_and_not_kept(load, tmp_path, monkeypatch, precision):
    def damage(stack, path, **options):
        def read(number):
            layer = stack.read_layer(number)
            return replace(layer, up=replace(layer.up, weight=layer.up.weight * np.float32(1.5)))

        pack_model(replace(stack, read_layer=read), path, **options)

    monkeypatch.setattr(packing, "pack_model", damage)
    with pytest.raises(VerificationFailed, match="too far from its reference"):
        load(precision=precision)
    assert made(tmp_path) == {"source"}
    assert not list((tmp_path / "cache").rglob(".partial-*"))


@needs_kernels
def test_both_back_ends_give_one_space_and_vectors_that_are_equal_to_the_last_bits(load):
    with load() as native, load(backend="onnxruntime") as other:
        assert (native.backend, other.backend) == (f"native {choose_isa(Precision.FP32)}", "onnxruntime cpu")
        np.testing.assert_allclose(native.embed_batch(TEXTS), other.embed_batch(TEXTS), atol=1e-6)
        check_fingerprint(native.fingerprint.to_json(), other.fingerprint)
        with pytest.raises(FingerprintMismatch, match="backend"):
            check_fingerprint(native.fingerprint, other.fingerprint, strict=True)


def test_bf16_is_for_the_kernels_of_a_cpu_that_has_it(load, monkeypatch):
    with pytest.raises(ProviderUnavailable, match="computed by the native kernels only"):
        load(backend="onnxruntime", precision="bf16")
    with pytest.raises(ProviderUnavailable, match="computed on CPU"):
        load(device="cuda", precision="bf16")
    monkeypatch.setenv("NEURALCORE_ISA", "none")
    for backend in ("auto", "native"):
        with pytest.raises(ProviderUnavailable, match="NEURALCORE_ISA=none") as caught:
            load(backend=backend, precision="bf16")
        assert (caught.value.kind, caught.value.requested) == ("precision", "bf16")


@pytest.mark.skipif("bf16" not in NATIVE, reason="no AVX512_BF16 here")
def test_bf16_is_nearer_to_fp32_than_the_whole_model_in_bf16_by_pytorch(minilm, minilm_cache):
    texts = raw_sentences(100) + real_paragraphs(20)
    with EmbeddingEngine.from_pretrained("all-MiniLM-L6-v2", precision="bf16", cache_dir=minilm_cache) as engine:
        cosines = (engine.embed_batch(texts) * minilm.embed_batch(texts)).sum(axis=1)
    assert cosines.mean() >= 0.99998
    assert cosines.min() >= 0.99984  # that one's lowest; its mean is 4.6e-5 from 1
