"""Which engines may share an index."""

import json
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import pytest

from neuralcore.embedding import (
    EmbeddingEngine,
    Fingerprint,
    FingerprintMismatch,
    InputError,
    check_fingerprint,
    quantize_model,
)
from neuralcore.embedding.convert import convert_model
from neuralcore.embedding.store import make_store
from tests import tiny_model
from tests.ready import ready_graph

STORED = Fingerprint(
    model="m", weights="aa11", pooling="mean", normalize=True, query_prefix="q: ", document_prefix="d: ",
    precision="fp32", dimension=384, max_tokens=256,
    tokenizer="ee55", backend="native avx2",
)  # fmt: skip
DECISIVE = {"weights": "bb22", "pooling": "cls", "normalize": False, "query_prefix": "", "document_prefix": "",
            "dimension": 128, "default_prefix": "x: ", "tokenizer": "ff66", "dense": "[]"}  # fmt: skip
HARMLESS = {"model": "other name", "precision": "int8", "max_tokens": 128, "backend": "native avx512vnni"}


def test_same_fingerprint_passes_through_json():
    check_fingerprint(STORED.to_json(), STORED, strict=True)
    assert Fingerprint.from_json(STORED.to_json()) == STORED


@pytest.mark.parametrize("field", DECISIVE)
def test_what_changes_the_space_is_refused(field):
    with pytest.raises(FingerprintMismatch, match=field) as caught:
        check_fingerprint(STORED, replace(STORED, **{field: DECISIVE[field]}))
    assert caught.value.differences == {field: (getattr(STORED, field), DECISIVE[field])}


@pytest.mark.parametrize("field", HARMLESS)
def test_what_keeps_the_space_is_refused_only_if_strict(field):
    other = replace(STORED, **{field: HARMLESS[field]})
    check_fingerprint(STORED, other)
    with pytest.raises(FingerprintMismatch, match=field):
        check_fingerprint(STORED, other, strict=True)


def test_space_changes_with_what_is_refused_and_with_nothing_else():
    """The digest is what Chroma's collections are known by: written down, so that no version changes it unseen."""
    told = {"dimension": 384, "document_prefix": "d: ", "normalize": True, "pooling": "mean", "query_prefix": "q: "}
    assert STORED.space == sha256(json.dumps({**told, "tokenizer": "ee55", "weights": "aa11"}).encode()).hexdigest()
    assert {replace(STORED, **{field: HARMLESS[field]}).space for field in HARMLESS} == {STORED.space}
    assert len({replace(STORED, **{field: DECISIVE[field]}).space for field in DECISIVE}) == len(DECISIVE)


def test_mismatch_says_whether_the_space_is_another():
    for field, value in {**DECISIVE, **HARMLESS}.items():
        with pytest.raises(FingerprintMismatch) as caught:
            check_fingerprint(STORED, replace(STORED, **{field: value}), strict=True)
        assert caught.value.same_space is (field in HARMLESS)
        assert ("another space" in str(caught.value)) is (field in DECISIVE)


@pytest.mark.parametrize("name", ["tokenizer", "backend"])
def test_fingerprint_of_an_earlier_version_says_nothing_of_what_it_did_not_note_and_passes(name):
    told = {key: value for key, value in asdict(STORED).items() if key != name}
    check_fingerprint(json.dumps(told), STORED, strict=True)


@pytest.mark.parametrize("settings", [{"do_lower_case": False}, {"truncation_side": "left"}])
def test_engines_of_one_model_with_other_settings_of_its_tokenizer_are_told_apart(tiny_folder, tmp_path, settings):
    def fingerprint():
        with EmbeddingEngine.from_pretrained(tiny_folder, cache_dir=tmp_path / "cache") as engine:
            return engine.fingerprint

    before = fingerprint()
    (tiny_folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **settings}))
    with pytest.raises(FingerprintMismatch, match="tokenizer"):
        check_fingerprint(before, fingerprint())


def test_every_field_is_decided():
    assert set(asdict(STORED)) == {*DECISIVE, *HARMLESS}


@pytest.mark.parametrize("text", ["", "no json", "[]", "{}", json.dumps({**asdict(STORED), "extra": 1})])
def test_what_is_no_fingerprint_is_said_so(text):
    with pytest.raises(InputError, match="not a fingerprint"):
        check_fingerprint(text, STORED)


def test_engines_of_one_model_agree_and_of_another_do_not(tiny_folder, tmp_path):
    cache = tmp_path / "cache"
    with EmbeddingEngine.from_pretrained(tiny_folder, cache_dir=cache) as engine:
        own = engine.fingerprint
    with EmbeddingEngine.from_pretrained(tiny_folder, cache_dir=cache, max_tokens=16, precision="fp16") as engine:
        check_fingerprint(own, engine.fingerprint)
        assert engine.fingerprint.precision == engine.precision == "fp16"
    with EmbeddingEngine.from_pretrained(tiny_folder, cache_dir=cache, dimensions=8) as engine:
        shorter = engine.fingerprint
    with pytest.raises(FingerprintMismatch, match="dimension was 48, is 8"):
        check_fingerprint(own, shorter)
    assert len(own.weights) == 64
    assert own.precision == "fp32"


def test_engine_from_files_knows_its_weights_and_precision(tiny_folder, tmp_path):
    with EmbeddingEngine.from_pretrained(tiny_folder, cache_dir=tmp_path / "cache") as engine:
        path, config = engine._model_path, engine.config
    with EmbeddingEngine(path, tiny_folder / "tokenizer.json", config) as engine:
        assert engine.fingerprint.precision == "fp32"
        assert len(engine.fingerprint.weights) == 64


def weights_of(folder: Path, cache: Path, precision: str = "fp32") -> str:
    with EmbeddingEngine.from_pretrained(folder, cache_dir=cache, precision=precision) as engine:
        return engine.fingerprint.weights


@pytest.fixture
def foreign(tiny_folder, tmp_path) -> Path:
    """A folder with an ONNX file that says nothing of its origin; its weights lie in a file with a name of its own."""
    model = onnx.load(ready_graph(make_store(tmp_path / "built"), tiny_folder).model_path)
    del model.metadata_props[:]
    folder = tiny_folder.rename(tmp_path / "foreign")
    (folder / "model.safetensors").unlink()
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="tensors.bin")
    return folder


def test_weights_in_a_second_file_of_any_name_are_seen(foreign, tmp_path):
    before = weights_of(foreign, tmp_path / "cache")
    assert weights_of(foreign, tmp_path / "cache") == before
    graph, data = (foreign / name for name in ("model.onnx", "tensors.bin"))
    unchanged = graph.read_bytes()
    values = np.frombuffer(data.read_bytes(), np.float32).copy()
    values[100] += 1
    data.write_bytes(values.tobytes())
    assert graph.read_bytes() == unchanged
    assert weights_of(foreign, tmp_path / "cache") != before


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_other_precision_of_a_foreign_graph_is_of_its_space(foreign, tmp_path, precision):
    expected = weights_of(foreign, tmp_path / "cache")
    assert weights_of(foreign, tmp_path / "cache", precision) == expected


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_converted_folder_is_of_its_sources_space(tiny_folder, tmp_path, precision, monkeypatch):
    monkeypatch.setattr("neuralcore.embedding.convert.torch_is_installed", lambda: False)
    store = make_store(tmp_path / "cache", offline=True)
    convert_model(tiny_folder, tmp_path / "converted", store=store, precision=precision)
    expected = weights_of(tiny_folder, tmp_path / "cache")
    assert weights_of(tmp_path / "converted", tmp_path / "cache") == expected
    (tmp_path / "converted").rename(tmp_path / "moved")
    assert weights_of(tmp_path / "moved", tmp_path / "cache") == expected
    tiny_model.write(tmp_path / "other", seed=8)
    assert weights_of(tmp_path / "other", tmp_path / "cache") != expected


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "dynamic-int8"])
def test_quantized_file_is_of_its_sources_space(foreign, tmp_path, precision):
    expected = weights_of(foreign, tmp_path / "cache")
    quantize_model(foreign / "model.onnx", foreign / "onnx/model.onnx", precision, max_tokens=32)
    (foreign / "model.onnx").unlink()
    assert weights_of(foreign, tmp_path / "cache") == expected


def test_claim_of_an_origin_does_not_outlive_its_weights(foreign, tmp_path):
    quantize_model(foreign / "model.onnx", foreign / "onnx/model.onnx", "fp32")
    (foreign / "model.onnx").unlink()
    claimed = weights_of(foreign, tmp_path / "cache")
    path = foreign / "onnx/model.onnx"
    model = onnx.load(path, load_external_data=False)  # a bias that lies in the graph itself
    bias = next(tensor for tensor in model.graph.initializer if tensor.raw_data and tensor.dims == [48])
    bias.raw_data = np.ones(48, np.float32).tobytes()
    onnx.save(model, path)
    edited = weights_of(foreign, tmp_path / "cache")
    data = foreign / "onnx/model.onnx.data"
    data.write_bytes(data.read_bytes()[::-1])
    assert len({claimed, edited, weights_of(foreign, tmp_path / "cache")}) == 3


@pytest.mark.parametrize("location", ["../elsewhere.bin", "/etc/passwd", "missing.bin"])
def test_weights_that_lie_elsewhere_or_nowhere_are_refused(foreign, location):
    from neuralcore.embedding import ModelCorrupt
    from neuralcore.embedding.backends.onnx.graph_file import weights_sha256

    model = onnx.load(foreign / "model.onnx", load_external_data=False)
    for entry in (entry for tensor in model.graph.initializer for entry in tensor.external_data):
        entry.value = location if entry.key == "location" else entry.value
    (foreign / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelCorrupt, match=location):
        weights_sha256(foreign / "model.onnx")
