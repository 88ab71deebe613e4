"""What a model is compared with."""

import shutil
from pathlib import Path

import pytest

from neuralcore.embedding import UnsupportedModel, verify_model
from neuralcore.embedding.convert import convert_model
from neuralcore.embedding.precision.agreement import BOUNDS, failures
from neuralcore.embedding.store import make_store
from tests import tiny_model


@pytest.fixture(autouse=True)
def _without_torch(monkeypatch):
    monkeypatch.setattr("neuralcore.embedding.convert.torch_is_installed", lambda: False)


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def int8_folder(tiny_folder, cache, tmp_path) -> Path:
    """A folder of int8, which `tiny_folder` was converted to."""
    convert_model(tiny_folder, tmp_path / "int8", store=make_store(cache, offline=True), precision="int8")
    return tmp_path / "int8"


@pytest.mark.parametrize("reference", ["fp32", None])
def test_int8_folder_is_compared_with_its_source_not_with_itself(int8_folder, cache, reference):
    agreement = verify_model(int8_folder, reference=reference, cache_dir=cache, offline=True)
    assert 0.99 < agreement.mean_cosine < 0.99999
    assert agreement.precision == "int8"
    assert not failures(agreement, BOUNDS[agreement.precision])


def test_int8_folder_that_was_moved_finds_its_source(int8_folder, cache, tmp_path):
    moved = int8_folder.rename(tmp_path / "moved")
    assert verify_model(moved, reference="fp32", cache_dir=cache, offline=True).mean_cosine < 0.99999


def test_int8_folder_whose_source_is_gone_or_another_says_so(int8_folder, tiny_folder, cache, tmp_path):
    shutil.rmtree(tiny_folder)
    with pytest.raises(UnsupportedModel, match=r"is int8 itself, and .*tiny, .* cannot be loaded .* as the reference"):
        verify_model(int8_folder, reference="fp32", cache_dir=cache, offline=True)
    tiny_model.write(tiny_folder, seed=8)
    with pytest.raises(UnsupportedModel, match="is not any more what it was made from"):
        verify_model(int8_folder, reference="fp32", cache_dir=cache, offline=True)


def test_int8_folder_that_does_not_know_its_source_says_so(int8_folder, tiny_folder, cache):
    (int8_folder / "manifest.json").unlink()
    with pytest.raises(UnsupportedModel, match="does not say what it was made from"):
        verify_model(int8_folder, reference="fp32", cache_dir=cache, offline=True)
    agreement = verify_model(int8_folder, reference=tiny_folder, cache_dir=cache, offline=True)
    assert agreement.mean_cosine < 0.99999


def test_folder_without_checkpoint_cannot_be_compared_with_sentence_transformers(tiny_folder, cache, tmp_path):
    convert_model(tiny_folder, tmp_path / "fp32", store=make_store(cache, offline=True))
    shutil.rmtree(tiny_folder)
    with pytest.raises(UnsupportedModel, match="needs the model's checkpoint"):
        verify_model(tmp_path / "fp32", cache_dir=cache, offline=True)
