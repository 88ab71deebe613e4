import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralcore.embedding import EmbeddingEngine, ModelConfig, ModelCorrupt, PoolingStrategy, UnsupportedModel
from neuralcore.embedding.documents import Document
from neuralcore.embedding.families.positions import count_positions
from neuralcore.embedding.store.folder import ModelFolder, write_config
from neuralcore.embedding.store.manifest import FOLDER_VERSION
from tests import tiny_model
from tests.altered_folders import steps

OLD_FALSE = {
    f"pooling_mode_{name}": False for name in ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
}


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({**OLD_FALSE, "pooling_mode_cls_token": True}, PoolingStrategy.CLS),
        ({**OLD_FALSE, "pooling_mode_mean_tokens": True}, PoolingStrategy.MEAN),
        ({**OLD_FALSE, "pooling_mode_max_tokens": True}, PoolingStrategy.MAX),
        ({**OLD_FALSE, "pooling_mode_lasttoken": True}, PoolingStrategy.LAST_TOKEN),
        ({**OLD_FALSE, "pooling_mode_mean_sqrt_len_tokens": True}, PoolingStrategy.MEAN_SQRT_LEN),
        ({**OLD_FALSE, "pooling_mode_weightedmean_tokens": True}, PoolingStrategy.WEIGHTED_MEAN),
        ({"embedding_dimension": 48, "pooling_mode": "cls"}, PoolingStrategy.CLS),
        ({"embedding_dimension": 48, "pooling_mode": ["mean"]}, PoolingStrategy.MEAN),
        ({"embedding_dimension": 48, "pooling_mode": "lasttoken", "include_prompt": True}, PoolingStrategy.LAST_TOKEN),
        (OLD_FALSE, PoolingStrategy.MEAN),
    ],
)
def test_pooling_is_read_in_old_and_new_notation(tmp_path, pooling, expected):
    assert ModelFolder(tiny_model.write(tmp_path, pooling=pooling)).config().pooling is expected


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode": []},
        {"pooling_mode": "median"},
        {"pooling_mode": ["cls", "median"]},
        {"pooling_mode": "mean", "include_prompt": False},
    ],
)
def test_pooling_that_is_not_run_here_is_refused(tmp_path, pooling):
    with pytest.raises(UnsupportedModel, match="pooling"):
        ModelFolder(tiny_model.write(tmp_path, pooling=pooling)).config()


def test_step_that_is_not_run_here_is_refused(tmp_path):
    folder = tiny_model.write(tmp_path, modules=("Transformer", "Pooling", "LayerNorm", "Normalize"))
    with pytest.raises(UnsupportedModel, match="LayerNorm"):
        ModelFolder(folder).config()


def test_module_types_match_on_their_last_part(tmp_path):
    folder = tiny_model.write(tmp_path)
    new = [f"sentence_transformers.{name}" for name in ("base.x.Transformer", "y.Pooling", "z.normalize.Normalize")]
    steps = [{"idx": i, "path": p, "type": t} for i, (p, t) in enumerate(zip(("", "1_Pooling", ""), new, strict=True))]
    (folder / "modules.json").write_text(json.dumps(steps))
    assert ModelFolder(folder).config().normalize


def test_no_normalize_step_means_no_normalisation(tmp_path):
    folder = tiny_model.write(tmp_path, modules=("Transformer", "Pooling"))
    assert not ModelFolder(folder).config().normalize


def test_bare_encoder_is_pooled_by_mean_and_not_normalised(tmp_path):
    folder = tiny_model.write(tmp_path)
    for name in ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json"):
        (folder / name).unlink()
    config = ModelFolder(folder, "bare").config()
    assert (config.pooling, config.normalize, config.dimension) == (PoolingStrategy.MEAN, False, 48)
    assert config.max_tokens == 48  # model_max_length of the tokenizer, below the 64 positions


def test_limit_without_any_setting_is_the_number_of_positions(tmp_path):
    folder = tiny_model.write(tmp_path)
    (folder / "sentence_bert_config.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 1e30}))
    assert ModelFolder(folder).config().max_tokens == 64


def test_positions_of_mpnet_begin_after_the_pad_tokens(tmp_path):
    folder = tiny_model.write(tmp_path)
    architecture = {"model_type": "mpnet", "max_position_embeddings": 514, "hidden_size": 48}
    (folder / "config.json").write_text(json.dumps(architecture))
    assert ModelFolder(folder).max_positions == 512


def test_nomic_stops_at_its_trained_length_but_can_go_further(tmp_path):
    folder = tiny_model.write(tmp_path)
    architecture = {"model_type": "nomic_bert", "n_embd": 48, "n_positions": 8192, "max_trained_positions": 2048}
    (folder / "config.json").write_text(json.dumps(architecture))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 8192}))
    assert (ModelFolder(folder).config().max_tokens, ModelFolder(folder).max_positions) == (2048, 8192)


def test_old_layout_with_its_encoder_in_a_folder_of_its_own(tmp_path):
    folder = tiny_model.write(tmp_path)
    encoder = folder / "0_Transformer"
    encoder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "sentence_bert_config.json"):
        (folder / name).rename(encoder / name)
    steps = json.loads((folder / "modules.json").read_text())
    steps[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(steps))
    model = ModelFolder(folder)
    assert (model.config().max_tokens, model.config().dimension) == (32, 48)
    assert model.safetensors_path == encoder / "model.safetensors"
    assert model.tokenizer_path == encoder / "tokenizer.json"


@pytest.mark.parametrize(
    ("prompts", "default", "query", "document"),
    [
        ({}, None, "", ""),
        ({"query": "q: ", "document": "d: "}, None, "q: ", "d: "),
        ({"query": "q: ", "passage": "p: "}, None, "q: ", ""),  # encode_document finds the empty "document" first
        ({"all": "x: "}, "all", "", ""),
        ({"query": "q: ", "all": "x: "}, "all", "q: ", ""),
        ({"query": "", "document": "d: "}, "document", "", "d: "),
    ],
)
def test_prompts_become_prefixes(tmp_path, prompts, default, query, document):
    folder = tiny_model.write(tmp_path)
    settings = {"prompts": prompts, "default_prompt_name": default}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    config = ModelFolder(folder).config()
    assert (config.query_prefix, config.document_prefix) == (query, document)
    assert config.prefix(None) == (document if default is None else prompts[default])


def test_json_that_is_cut_short_is_named(tmp_path):
    folder = tiny_model.write(tmp_path)
    (folder / "modules.json").write_text('[{"idx": 0,')
    with pytest.raises(ModelCorrupt, match=r"modules\.json"):
        ModelFolder(folder).config()


@pytest.mark.parametrize("name", ["truncate_dim", "default_prompt", "pooling_max", "limit_of_the_tokenizer"])
def test_what_is_written_is_read_again(tmp_path, name):
    altered = next(folder for folder in steps.FOLDERS if folder.name == name)
    folder = altered.write(tmp_path / "a")
    config = ModelFolder(folder, "a").config()
    write_config(config, folder)
    assert ModelFolder(folder, "a").config() == config


PROMPTS = st.dictionaries(st.text(min_size=1).filter(lambda name: name not in {"query", "document"}), st.text())


@given(
    st.builds(
        ModelConfig,
        name=st.just("a"),
        dimension=st.integers(1, 48),
        max_tokens=st.integers(3, tiny_model.N_POSITIONS),
        pooling=st.sampled_from([mode for mode in PoolingStrategy if mode != PoolingStrategy.MEAN_WITH_ATTENTION]),
        normalize=st.booleans(),
        query_prefix=st.text(),
        document_prefix=st.text(),
        prompts=PROMPTS,
        lowercase=st.booleans(),
    ),
    st.data(),
)
def test_any_configuration_is_read_as_it_was_written(tmp_path_factory, config, data):
    default = data.draw(st.sampled_from([None, "query", "document", *config.prompts]))
    kept = data.draw(st.none() | st.integers(1, max(1, config.dimension - 1))) if config.dimension > 1 else None
    config = replace(config, default_prompt=default, kept_dimensions=kept)
    folder = tmp_path_factory.getbasetemp() / "round"
    if not folder.exists():
        tiny_model.write(folder)
    write_config(config, folder)
    assert ModelFolder(folder, "a").config() == config


# Rows of the position table, the pad token's id, and the longest text that transformers takes: see the full test.
@pytest.mark.parametrize(
    ("architecture", "longest"),
    [
        ({"model_type": "bert", "pad_token_id": 0}, 20),
        ({"model_type": "roberta"}, 18),
        ({"model_type": "roberta", "pad_token_id": 3}, 16),
        ({"model_type": "roberta", "pad_token_id": 0}, 19),
        ({"model_type": "roberta-prelayernorm"}, 18),
        ({"model_type": "xlm-roberta"}, 18),
        ({"model_type": "xlm-roberta-xl", "pad_token_id": 1}, 18),
        ({"model_type": "camembert"}, 18),
        ({"model_type": "data2vec-text"}, 18),
        ({"model_type": "luke"}, 18),
        ({"model_type": "xmod"}, 18),
        ({"model_type": "ibert"}, 18),
        ({"model_type": "esm", "pad_token_id": 2}, 17),
        ({"model_type": "longformer", "pad_token_id": 1}, 18),
        ({"model_type": "mpnet"}, 18),
        ({"model_type": "mpnet", "pad_token_id": 5}, 18),
        ({"model_type": "electra", "pad_token_id": 3}, 20),
        ({"model_type": "nystromformer", "pad_token_id": 1}, 20),
    ],
    ids=lambda value: f"{value['model_type']} {value.get('pad_token_id', '')}" if isinstance(value, dict) else None,
)
def test_positions_are_counted_as_the_family_does(architecture, longest):
    assert count_positions(Document(Path("config.json"), {"max_position_embeddings": 20, **architecture})) == longest


@pytest.mark.parametrize("rows", [1, "20", 2.5, True, -7, 2**40, [20]])
def test_number_of_positions_that_can_be_none_is_refused(tmp_path, rows):
    folder = tiny_model.write(tmp_path)
    architecture = {"model_type": "roberta", "hidden_size": 48, "max_position_embeddings": rows}
    (folder / "config.json").write_text(json.dumps(architecture))
    with pytest.raises(ModelCorrupt, match="max_position_embeddings"):
        ModelFolder(folder).config()


@pytest.mark.parametrize("family", ["bert", "roberta", "qwen3", "modernbert"])
def test_fewer_positions_than_a_token_between_two_special_ones_takes_are_refused_by_their_key(tmp_path, family):
    folder = tiny_model.write(tmp_path)
    rows = 4 if family == "roberta" else 2
    architecture = {"model_type": family, "hidden_size": 48, "max_position_embeddings": rows}
    (folder / "config.json").write_text(json.dumps(architecture))
    with pytest.raises(ModelCorrupt, match=r"config\.json is damaged: expected 3 positions or more"):
        ModelFolder(folder).config()


def test_thousands_of_steps_are_refused_before_a_file_of_theirs_is_read(tmp_path):
    folder = tiny_model.write(tmp_path)
    entry = {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
    (folder / "modules.json").write_text(json.dumps([entry | {"name": str(number)} for number in range(20_000)]))
    with pytest.raises(UnsupportedModel, match=r"modules\.json lists 20000 steps"):
        ModelFolder(folder).config()


def test_step_that_is_refused_is_told_with_its_file(tmp_path):
    folder = tiny_model.write(tmp_path)
    path = folder / "1_Pooling/config.json"
    path.write_text(json.dumps({"embedding_dimension": 48, "pooling_mode": "mean", "window": 3}))
    with pytest.raises(UnsupportedModel, match=f"told window, .*: see {re.escape(str(path))}"):
        ModelFolder(folder).config()


@pytest.mark.parametrize("rows", [-1, 0, None])
def test_no_number_of_positions_is_no_limit(tmp_path, rows):
    folder = tiny_model.write(tmp_path)
    (folder / "sentence_bert_config.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 700}))
    (folder / "config.json").write_text(json.dumps({"model_type": "xlnet", "max_position_embeddings": rows}))
    assert ModelFolder(folder).config().max_tokens == 700


@pytest.mark.parametrize("path", ["../1_Pooling", "/etc", "a/../../b", "C:\\b", "1_Pooling\0"])
def test_step_in_a_folder_elsewhere_is_refused(tmp_path, path):
    folder = tiny_model.write(tmp_path)
    entries = json.loads((folder / "modules.json").read_text())
    entries[1]["path"] = path
    (folder / "modules.json").write_text(json.dumps(entries))
    with pytest.raises(ModelCorrupt, match=r"inside of the model's folder for \[1\].path"):
        ModelFolder(folder).config()


@pytest.mark.parametrize(
    "entry", [{"path": "x"}, {"type": 3, "path": "x"}, {"type": "sentence_transformers.models.Pooling"}, 7]
)
def test_step_without_class_or_folder_is_refused(tmp_path, entry):
    folder = tiny_model.write(tmp_path)
    entries = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([entries[0], entry]))
    with pytest.raises(ModelCorrupt, match=r"modules\.json"):
        ModelFolder(folder).config()


def test_encoder_whose_folder_is_missing_is_refused(tmp_path):
    folder = tiny_model.write(tmp_path)
    entries = json.loads((folder / "modules.json").read_text())
    entries[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(entries))
    with pytest.raises(ModelCorrupt, match=r"0_Transformer.config\.json"):
        EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache")


def test_configuration_that_an_older_version_read_and_cached_is_read_again(tmp_path):
    folder, cache = tiny_model.write(tmp_path / "tiny", pooling=OLD_FALSE), tmp_path / "cache"
    EmbeddingEngine.from_pretrained(folder, cache_dir=cache).close()
    path = next(cache.rglob("source/manifest.json"))
    manifest = json.loads(path.read_text())
    assert manifest["source"].pop("read_by") == FOLDER_VERSION
    path.write_text(json.dumps({**manifest, "config": {**manifest["config"], "pooling": "cls"}}))
    with EmbeddingEngine.from_pretrained(folder, cache_dir=cache) as engine:
        assert engine.config.pooling is PoolingStrategy.MEAN
