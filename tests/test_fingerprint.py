"""Which engines may share an index."""

import json
from dataclasses import asdict, replace

import pytest

from neuralcore.embedding import (
    EmbeddingEngine,
    Fingerprint,
    FingerprintMismatch,
    InputError,
    check_fingerprint,
)

STORED = Fingerprint(
    model="m", weights="aa11", pooling="mean", normalize=True, query_prefix="q: ", document_prefix="d: ",
    precision="fp32", dimension=384, max_tokens=256,
)  # fmt: skip
DECISIVE = {"weights": "bb22", "pooling": "cls", "normalize": False, "query_prefix": "", "document_prefix": "",
            "dimension": 128}  # fmt: skip
HARMLESS = {"model": "other name", "precision": "int8", "max_tokens": 128}


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
