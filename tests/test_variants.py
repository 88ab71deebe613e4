"""A model in another precision: made once, compared with fp32, kept or refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from benchmarks.texts import raw_sentences, real_paragraphs

from neuralcore.embedding import EmbeddingEngine, InputError, Precision, ProviderUnavailable, VerificationFailed
from neuralcore.embedding.backends.onnx.quantize.model import Model
from neuralcore.embedding.convert import convert_model
from neuralcore.embedding.precision import graphs
from neuralcore.embedding.precision.agreement import BOUNDS, failures
from neuralcore.embedding.precision.graphs import compare_files, ensure_graph
from neuralcore.embedding.store import make_store
from tests import tiny_model


@pytest.fixture(autouse=True)
def _onnx_runtime(monkeypatch):
    """INT8 of the native kernels has tests of its own (test_native.py)."""
    monkeypatch.setenv("NEURALCORE_ISA", "none")


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def makings(monkeypatch) -> list[str]:
    """The precisions that were made, not found."""
    made, quantize = [], graphs.quantize_model

    def count(source, path, precision, **options):
        made.append(str(precision))
        return quantize(source, path, precision, **options)

    monkeypatch.setattr(graphs, "quantize_model", count)
    return made


def load(folder: Path, cache: Path, precision: str) -> EmbeddingEngine:
    return EmbeddingEngine.from_pretrained(folder, precision=precision, cache_dir=cache)


@pytest.mark.parametrize("precision", ["fp16", "int8", "dynamic-int8"])
def test_precision_is_made_once_and_then_loaded(tiny_folder, cache, makings, precision):
    with load(tiny_folder, cache, precision) as engine:
        first = engine.embed("the cat sat")
        assert engine.precision is Precision(precision)
    with load(tiny_folder, cache, precision) as engine:
        np.testing.assert_array_equal(engine.embed("the cat sat"), first)
    assert makings == [precision]


def test_cached_variant_is_loaded_without_onnx(tiny_folder, cache):
    load(tiny_folder, cache, "int8").close()
    code = (
        "import sys; from neuralcore.embedding import EmbeddingEngine as E; "
        "E.from_pretrained(sys.argv[1], precision='int8', cache_dir=sys.argv[2]); assert 'onnx' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, tiny_folder, cache], check=True, timeout=60)


def test_what_was_measured_is_kept_in_the_manifest(tiny_folder, cache):
    load(tiny_folder, cache, "int8").close()
    (path,) = cache.glob("models/*/*/int8/manifest.json")
    manifest = json.loads(path.read_bytes())
    assert manifest["precision"] == "int8"
    assert BOUNDS[Precision.INT8].mean_cosine < manifest["measured"]["mean_cosine"] <= 1.0000001
    assert manifest["source"]["made_from"].keys() == {"tokenizer"}
    assert manifest["source"]["sha256"].keys() == {"model.safetensors"}


def test_changed_source_makes_the_variant_anew(tiny_folder, cache, makings):
    with load(tiny_folder, cache, "int8") as engine:
        before = engine.embed("the cat sat")
    tiny_model.write(tiny_folder, seed=8)
    with load(tiny_folder, cache, "int8") as engine:
        assert np.abs(engine.embed("the cat sat") - before).max() > 0.01
    assert makings == ["int8", "int8"]


def test_damaged_variant_is_made_anew(tiny_folder, cache, makings):
    load(tiny_folder, cache, "int8").close()
    (data,) = cache.glob("models/*/*/int8/model.onnx.data")
    data.write_bytes(data.read_bytes()[:100])
    with load(tiny_folder, cache, "int8") as engine:
        assert np.isfinite(engine.embed("a")).all()
    assert makings == ["int8", "int8"]


def test_variant_too_far_from_fp32_is_refused_and_nothing_is_kept(tiny_folder, cache, monkeypatch):
    quantize = graphs.quantize_model

    def quantize_and_damage(source, path, precision, **options):
        quantize(source, path, precision, **options)
        scale_one_layer(path, path)

    monkeypatch.setattr(graphs, "quantize_model", quantize_and_damage)
    with pytest.raises(VerificationFailed, match="too far from its reference"):
        load(tiny_folder, cache, "fp16")
    assert not list(cache.glob("models/*/*/fp16"))
    assert not list(cache.rglob(".partial-*"))


def scale_one_layer(path: Path, output: Path, *, by: float = 1.5) -> None:
    """Damage: the weights of one product, times a factor."""
    model = Model(path)
    name = next(name for name in model.tensors if name.startswith("layers.1.up.weight"))
    values = model.array(name)
    del model.tensors[name]
    model.add_tensor(name, (values * by).astype(values.dtype))
    model.save(output)


@pytest.mark.parametrize("layer", ["0.query", "3.down", "5.up"])
def test_real_model_with_one_scaled_layer_fails(minilm_cache, tmp_path, layer):
    store = make_store(minilm_cache)
    source = store.ensure("all-MiniLM-L6-v2")
    graph = ensure_graph(store, source).model_path
    model = Model(graph)
    name = f"layers.{layer}.weight"
    values = model.array(name)
    del model.tensors[name]
    model.add_tensor(name, values * np.float32(1.5))
    model.save(tmp_path / "damaged.onnx")
    agreement = compare_files(graph, tmp_path / "damaged.onnx", source.tokenizer_path, source.config)
    for precision in (Precision.FP32, Precision.FP16, Precision.INT8):
        assert failures(agreement, BOUNDS[precision]), precision


def test_folder_with_only_an_onnx_file_has_variants_too(tiny_folder, cache, makings, tmp_path):
    with load(tiny_folder, cache, "fp32") as engine:
        graph = engine._model_path
        expected = engine.embed("the cat sat")
    folder = tmp_path / "found"
    tiny_folder.rename(folder)
    (folder / "model.safetensors").unlink()
    model = onnx.load(graph)
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="tensors.bin")
    for _ in range(2):
        with load(folder, cache, "int8") as engine:
            assert engine.embed("the cat sat") @ expected > 0.99
    assert makings == ["int8"]
    weights = folder / "tensors.bin"
    load(folder, cache, "fp16").close()
    os.utime(weights, (1, 1))  # as after a change of the weights only
    load(folder, cache, "int8").close()
    assert makings == ["int8", "fp16", "int8"]
    kept = [path.parent.name for path in cache.glob(f"models/folder--{folder.name}-*/*/*/manifest.json")]
    assert kept == ["int8"]  # what was made from the old weights is gone


def test_converted_folder_follows_its_configuration_and_is_int8_when_asked(tiny_folder, cache, makings, tmp_path):
    fp32, int8 = tmp_path / "fp32", tmp_path / "int8"
    store = make_store(cache, offline=True)
    convert_model(tiny_folder, fp32, store=store)
    load(fp32, cache, "int8").close()
    pooling = json.loads((fp32 / "1_Pooling/config.json").read_bytes())
    pooling["pooling_mode"] = "cls"
    (fp32 / "1_Pooling/config.json").write_text(json.dumps(pooling))
    with load(fp32, cache, "int8") as engine:
        assert engine.config.pooling == "cls"
    assert makings == ["int8", "int8"]
    convert_model(tiny_folder, int8, store=store, precision="int8")
    makings.clear()
    with load(int8, cache, "int8") as engine:
        assert engine.precision is Precision.INT8
    assert not makings


def test_wrong_precision_and_device_are_refused(tiny_folder, cache):
    with pytest.raises(InputError, match="precision must be one of"):
        load(tiny_folder, cache, "int4")
    with pytest.raises(ProviderUnavailable, match="computed on CPU"):
        EmbeddingEngine.from_pretrained(tiny_folder, precision="int8", device="cuda", cache_dir=cache)
    with EmbeddingEngine.from_pretrained(tiny_folder, precision="int8", device="auto", cache_dir=cache) as engine:
        assert engine.device == "cpu"


def test_engine_pickles_with_its_precision(tiny_folder, cache):
    import pickle

    with load(tiny_folder, cache, "int8") as engine:
        copy = pickle.loads(pickle.dumps(engine))
        np.testing.assert_array_equal(copy.embed("the cat"), engine.embed("the cat"))
        assert copy.precision is Precision.INT8


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Texts of the documentation of Python; calibration has seen none of them."""
    return raw_sentences(400) + real_paragraphs(100)


def load_minilm(cache: Path, precision: str) -> EmbeddingEngine:
    return EmbeddingEngine.from_pretrained("all-MiniLM-L6-v2", precision=precision, cache_dir=cache, threads=2)


@pytest.mark.parametrize(
    ("precision", "mean", "lowest", "share"),
    [pytest.param("fp16", 0.9999, 0.9999, 0.51, marks=pytest.mark.full), ("int8", 0.997, 0.99, 0.286)],
)
def test_minilm_stays_near_fp32_and_shrinks(minilm, minilm_cache, texts, precision, mean, lowest, share):
    with load_minilm(minilm_cache, precision) as engine:
        cosines = (engine.embed_batch(texts) * minilm.embed_batch(texts)).sum(axis=1)
        data = engine._model_path.with_name("model.onnx.data")
    assert cosines.mean() >= mean
    assert cosines.min() >= lowest
    assert data.stat().st_size <= share * 90_868_376  # the checkpoint: 26 MB for int8


def test_int8_vector_of_minilm_does_not_depend_on_its_batch(minilm_cache, texts):
    with load_minilm(minilm_cache, "int8") as engine:
        together = engine.embed_batch(texts[:100])
        alone = np.stack([engine.embed(text) for text in texts[:100]])
    assert (together * alone).sum(axis=1).min() > 0.9999
