import json

import pytest

from neuralcore.embedding import ModelCorrupt, PoolingStrategy, UnsupportedModel
from neuralcore.embedding.models.folder import ModelFolder
from tests import tiny_model

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
        ({"embedding_dimension": 48, "pooling_mode": "cls"}, PoolingStrategy.CLS),
        ({"embedding_dimension": 48, "pooling_mode": ["mean"]}, PoolingStrategy.MEAN),
        ({"embedding_dimension": 48, "pooling_mode": "lasttoken", "include_prompt": True}, PoolingStrategy.LAST_TOKEN),
    ],
)
def test_pooling_is_read_in_old_and_new_notation(tmp_path, pooling, expected):
    assert ModelFolder(tiny_model.write(tmp_path, pooling=pooling)).config().pooling is expected


@pytest.mark.parametrize(
    "pooling",
    [
        {**OLD_FALSE, "pooling_mode_mean_sqrt_len_tokens": True},
        {**OLD_FALSE, "pooling_mode_weightedmean_tokens": True},
        {**OLD_FALSE, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
        {"pooling_mode": ["cls", "mean"]},
        {"pooling_mode": "weightedmean"},
        OLD_FALSE,
        {"pooling_mode": "mean", "include_prompt": False},
    ],
)
def test_pooling_that_is_not_run_here_is_refused(tmp_path, pooling):
    with pytest.raises(UnsupportedModel, match="pooling"):
        ModelFolder(tiny_model.write(tmp_path, pooling=pooling)).config()


def test_step_that_is_not_run_here_is_refused(tmp_path):
    folder = tiny_model.write(tmp_path, modules=("Transformer", "Pooling", "Dense", "Normalize"))
    with pytest.raises(UnsupportedModel, match="Dense"):
        ModelFolder(folder).config()


def test_module_types_match_on_their_last_part(tmp_path):
    folder = tiny_model.write(tmp_path)
    new = "sentence_transformers.base.modules.transformer.Transformer", "a.b.Pooling", "x.y.normalize.Normalize"
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
        ({"query": "q: ", "passage": "p: "}, None, "q: ", "p: "),
        ({"all": "x: "}, "all", "x: ", "x: "),
        ({"query": "q: ", "all": "x: "}, "all", "q: ", "x: "),
        ({"query": ""}, None, "", ""),
    ],
)
def test_prompts_become_prefixes(tmp_path, prompts, default, query, document):
    folder = tiny_model.write(tmp_path)
    settings = {"prompts": prompts, "default_prompt_name": default}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    config = ModelFolder(folder).config()
    assert (config.query_prefix, config.document_prefix) == (query, document)


def test_json_that_is_cut_short_is_named(tmp_path):
    folder = tiny_model.write(tmp_path)
    (folder / "modules.json").write_text('[{"idx": 0,')
    with pytest.raises(ModelCorrupt, match=r"modules\.json"):
        ModelFolder(folder).config()
