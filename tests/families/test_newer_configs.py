"""Newer families: a key that is not computed is refused by name; a value that cannot be is an error of ours, soon."""

import json

import pytest

from neuralcore.embedding.errors import EmbeddingError
from tests.families.test_families import CASES
from tests.stacks import stack_of

SLIDING = ["sliding_attention"] * 4
REFUSED = [
    ("modernbert", "is_causal", True, "is_causal"),
    ("modernbert", "rope_scaling", {"rope_type": "linear", "factor": 2.0}, "rope_scaling"),
    ("modernbert", "rope_parameters", {"full_attention": {"rope_type": "yarn", "factor": 2.0}}, "rope_type"),
    ("modernbert", "head_dim", 32, "head_dim"),
    ("modernbert", "layer_types", ["full_attention"] * 3, "layer_types"),
    ("modernbert", "layer_types", ["full_attention", "chunked_attention"] * 2, "layer_types"),
    ("modernbert", "num_attention_heads", 5, "num_attention_heads"),
    ("modernbert", "hidden_activation", "tanh", "hidden_activation"),
    ("modernbert_odd", "local_rope_theta", None, "local_rope_theta"),
    ("qwen3", "rope_scaling", {"type": "dynamic", "factor": 2.0}, "rope_type"),
    ("qwen3", "rope_parameters", {"rope_type": "yarn", "factor": 4.0}, "rope_type"),
    ("qwen3", "rope_parameters", {"full_attention": {"rope_type": "default", "rope_theta": 5.0}}, "full_attention"),
    ("qwen3", "layer_types", SLIDING, "layer_types"),
    ("qwen3", "head_dim", None, "head_dim"),
    ("qwen3", "head_dim", 33, "head_dim"),
    ("qwen3", "num_key_value_heads", 3, "num_key_value_heads"),
    ("qwen3", "max_position_embeddings", 1 << 20, "max_position_embeddings"),
    ("llama", "sliding_window", 8, "sliding_window"),
    ("llama", "layer_types", SLIDING, "layer_types"),
    ("llama", "rope_parameters", {"rope_type": "llama3", "factor": 8.0}, "rope_type"),
    ("llama", "num_hidden_layers", 1 << 24, "num_hidden_layers"),
    ("eurobert", "is_causal", True, "is_causal"),
    ("gemma3", "attn_logit_softcapping", 50.0, "attn_logit_softcapping"),
    ("gemma3", "rope_scaling", {"rope_type": "linear", "factor": 8.0}, "rope_scaling"),
    ("gemma3", "is_causal", False, "is_causal"),
    ("gemma3", "sliding_window", None, "sliding_window"),
    ("gemma3_causal", "sliding_window", 0, "sliding_window"),
    ("gemma3", "num_attention_heads", 3, "num_attention_heads"),
]
WITHOUT_EFFECT = [
    ("modernbert", "position_embedding_type", "sans_pos"),
    ("modernbert", "sparse_prediction", True),
    ("qwen3", "tie_word_embeddings", True),
    ("qwen3", "sliding_window", 4),
    ("qwen3", "max_window_layers", 1),
    ("qwen2", "attention_bias", True),
    ("gemma3", "final_logit_softcapping", 30.0),
    ("gemma3", "sliding_window_pattern", 2),
]


def read(tmp_path, name, key, value):
    _, case = CASES[name]
    folder = case.write(tmp_path / "model")
    config = {**json.loads((folder / "config.json").read_text()), key: value}
    return stack_of(folder / "model.safetensors", config)


@pytest.mark.parametrize(("name", "key", "value", "said"), REFUSED)
def test_what_is_not_computed_is_refused_by_its_key(tmp_path, name, key, value, said):
    with pytest.raises(EmbeddingError, match=said):
        read(tmp_path, name, key, value)


@pytest.mark.parametrize(("name", "key", "value"), WITHOUT_EFFECT)
def test_what_changes_no_vector_is_read_over(tmp_path, name, key, value):
    changed, plain = (read(tmp_path / own, name, own, value) for own in (key, "unknown"))
    assert changed.attentions == plain.attentions
    assert (changed.norm, changed.epsilon, changed.word_scale) == (plain.norm, plain.epsilon, plain.word_scale)


def test_window_of_one_token_is_written_as_none_where_it_looks_both_ways(tmp_path):
    stack = read(tmp_path, "gemma3", "sliding_window", 0)  # as transformers 5 saves a window of 1
    assert [attention.window for attention in stack.attentions] == [0, None, 0, None]


@pytest.mark.parametrize("name", ["modernbert", "qwen3", "qwen2_windows_odd", "llama", "eurobert", "gemma3"])
def test_any_value_is_read_or_an_error_of_ours(tmp_path, name):
    _, case = CASES[name]
    folder = case.write(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    values = (None, 0, -1, 1, 3, 1.5, 1e308, 1 << 24, 1 << 31, "", "x", True, [], [1], [[]] * 4, SLIDING, {}, {"a": 1})
    more = {"rope_parameters", "rope_scaling", "rope_theta", "layer_types", "sliding_window", "is_causal", "head_dim"}
    for key in {*config, *more} - {"model_type"}:
        for value in values:
            try:
                stack_of(folder / "model.safetensors", {**config, key: value}).read_layer(0)
            except EmbeddingError:
                continue
