"""Whatever config.json says that would change a vector and is not done here is refused by its key."""

import re
from dataclasses import fields, replace

import pytest

from neuralcore.embedding import EmbeddingError, ModelCorrupt, UnsupportedModel
from neuralcore.embedding.documents import Document
from neuralcore.embedding.families import read_stack
from neuralcore.embedding.families.checkpoint import Checkpoint
from tests.families import modules
from tests.families.checkpoints import save

CASES = {case.name: case for cases in modules().values() for case in cases}
OF_FAMILIES = {case.config["model_type"]: case for case in CASES.values()}
ROPE = {"rope_type": "linear", "factor": 2.0}


def reader(case, folder):
    """Reads what a case's encoder is, if its config.json says something else besides."""
    save(folder, case.tensors)
    checkpoint = Checkpoint(folder / "model.safetensors")
    return lambda **others: read_stack(Document(folder / "config.json", {**case.config, **others}), checkpoint)


@pytest.mark.parametrize(
    ("name", "others", "error", "told"),
    [
        ("xlm_roberta", {"position_embedding_type": "relative_key"}, UnsupportedModel, "position_embedding_type"),
        ("xlm_roberta", {"position_embedding_type": "rotary"}, UnsupportedModel, "position_embedding_type"),
        ("roberta", {"is_decoder": True}, UnsupportedModel, "is_decoder"),
        ("camembert", {"add_cross_attention": True}, UnsupportedModel, "add_cross_attention"),
        ("qwen2", {"per_layer_config": {"0": {"rms_norm_eps": 0.5}}}, UnsupportedModel, "per_layer_config"),
        ("bert_unigram", {"is_causal": True}, UnsupportedModel, "is_causal"),
        ("roberta", {"is_causal": True}, UnsupportedModel, "is_causal"),
        ("distilbert", {"is_causal": True}, UnsupportedModel, "is_causal"),
        ("electra", {"is_causal": True}, UnsupportedModel, "is_causal"),
        ("gte", {"is_causal": True}, UnsupportedModel, "is_causal"),
        ("jina_v3", {"is_causal": True}, UnsupportedModel, "is_causal"),
        ("roberta", {"pad_token_id": None}, ModelCorrupt, "pad_token_id"),
        ("roberta", {"pad_token_id": 400}, ModelCorrupt, "pad_token_id"),
        ("roberta", {"pad_token_id": -1}, ModelCorrupt, "pad_token_id"),
        ("roberta", {"hidden_act": "quick_gelu"}, UnsupportedModel, "hidden_act"),
        ("distilbert", {"activation": "quick_gelu"}, UnsupportedModel, "activation"),
        ("distilbert", {"hidden_size": 32}, UnsupportedModel, "hidden_size"),
        ("distilbert", {"num_hidden_layers": 1}, UnsupportedModel, "num_hidden_layers"),
        ("distilbert", {"n_heads": 5}, ModelCorrupt, "n_heads"),
        ("electra", {"position_embedding_type": "relative_key_query"}, UnsupportedModel, "position_embedding_type"),
        ("electra", {"is_decoder": True}, UnsupportedModel, "is_decoder"),
        ("electra", {"add_cross_attention": True}, UnsupportedModel, "add_cross_attention"),
        ("electra", {"hidden_act": "quick_gelu"}, UnsupportedModel, "hidden_act"),
        ("electra", {"num_attention_heads": 5}, ModelCorrupt, "num_attention_heads"),
        ("electra", {"embedding_size": None}, ModelCorrupt, "embedding_size"),
        ("electra", {"embedding_size": 32}, ModelCorrupt, "word_embeddings"),
        ("electra_narrow", {"embedding_size": 36}, ModelCorrupt, "word_embeddings"),
        ("gte", {"rope_scaling": {"type": "ntk", "factor": 2.0}}, UnsupportedModel, "rope_type"),
        ("gte", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, UnsupportedModel, "rope_type"),
        ("gte", {"rope_parameters": {**ROPE, "factor": None}}, ModelCorrupt, "rope_parameters.factor"),
        ("gte", {"rope_parameters": {**ROPE, "partial_rotary_factor": 0.5}}, UnsupportedModel, "partial_rotary_factor"),
        ("gte", {"partial_rotary_factor": 0.5}, UnsupportedModel, "partial_rotary_factor"),
        ("gte", {"head_dim": 8}, UnsupportedModel, "head_dim"),
        ("gte", {"num_attention_heads": 64}, ModelCorrupt, "head_dim"),
        ("gte", {"max_position_embeddings": 2**30}, ModelCorrupt, "max_position_embeddings"),
        ("new_ntk", {"rope_scaling": {"type": "linear", "factor": 2.0}}, UnsupportedModel, "type"),
        ("new_ntk", {"rope_scaling": {"factor": 2.0}}, UnsupportedModel, "type"),
        ("new_ntk", {"rope_scaling": {"type": "ntk"}}, ModelCorrupt, "rope_scaling.factor"),
        ("new_ntk", {"rope_scaling": {"type": "ntk", "factor": 2.0, "mixed_b": 0.625}}, UnsupportedModel, "mixed_b"),
        ("new_ntk", {"rope_scaling": "ntk"}, ModelCorrupt, "rope_scaling"),
        ("new_ntk", {"rope_parameters": ROPE}, UnsupportedModel, "rope_parameters"),
        ("new_ntk", {"rope_theta": 0}, ModelCorrupt, "rope_theta"),
        ("new_ntk", {"logn_attention_scale": True}, UnsupportedModel, "logn_attention_scale"),
        ("new_ntk", {"layer_norm_type": "rms_norm"}, UnsupportedModel, "layer_norm_type"),
        ("new_ntk", {"position_embedding_type": "absolute"}, UnsupportedModel, "position_embedding_type"),
        ("jina_v3", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, UnsupportedModel, "rope_type"),
        ("jina_v3", {"head_dim": 8}, UnsupportedModel, "head_dim"),
        ("jina_v3", {"type_vocab_size": 2}, ModelCorrupt, "token_type"),
    ],
)
def test_what_is_not_done_here_is_refused_by_its_key(tmp_path, name, others, error, told):
    read = reader(CASES[name], tmp_path)
    with pytest.raises(error, match=told):
        read(**others).read_embeddings()


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("roberta", {"hidden_act": "quick_gelu"}),
        ("gte", {"head_dim": 8}),
        ("qwen3", {"rope_parameters": {"full_attention": {}}}),
        ("modernbert", {"rope_scaling": {"rope_type": "yarn"}}),
        ("llama", {"rope_scaling": {"rope_type": "yarn"}}),
    ],
)
def test_what_is_refused_is_told_with_its_file(tmp_path, name, others):
    with pytest.raises(UnsupportedModel, match=re.escape(f"model '{tmp_path / 'config.json'}': its config.json has")):
        reader(CASES[name], tmp_path)(**others)


WRONG = (-3, 2.5, "12", [12], {}, True, 2**40, float("nan"), None)


@pytest.mark.parametrize("kind", OF_FAMILIES)
def test_value_of_another_kind_is_refused_or_has_no_effect(tmp_path, kind):
    case = OF_FAMILIES[kind]
    read = reader(case, tmp_path)
    usual = as_told(read())
    for key, own in case.config.items():
        for value in WRONG:
            if may_be(key, own, value):
                continue
            try:
                stack = read(**{key: value})
            except EmbeddingError:
                continue
            assert value is None or as_told(stack) == usual, (key, value)


def as_told(stack):
    """All of it but weights."""
    return {field.name: getattr(stack, field.name) for field in fields(stack) if not field.name.startswith("read_")}


def may_be(key, own, value):
    """Whether a value is one that another model could have."""
    if isinstance(value, dict | bool):
        return type(value) is type(own)
    return isinstance(value, int | float) and (isinstance(own, float) or "theta" in key)


def test_tensors_under_the_name_of_another_family_are_not_taken_for_its_own(tmp_path):
    case = replace(CASES["roberta"], prefix="bert.")
    with pytest.raises(ModelCorrupt, match=r"expected a tensor embeddings\.word_embeddings\.weight"):
        reader(case, tmp_path)().read_embeddings()


def test_tensors_of_a_model_by_two_names_are_refused(tmp_path):
    case = CASES["roberta"]
    read = reader(
        replace(case, unread=lambda draw: draw.table("roberta.embeddings.word_embeddings", 400, 64)), tmp_path
    )
    with pytest.raises(UnsupportedModel, match="stand for one weight"):
        read().read_embeddings()
