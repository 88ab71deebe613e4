"""What a model's configuration accepts, refuses and gives back."""

import dataclasses
import json
import pickle

import pytest

from neuralcore.embedding.config import ModelConfig, PoolingStrategy
from neuralcore.embedding.errors import InputError

E5 = ModelConfig(
    name="e5",
    dimension=384,
    max_tokens=512,
    query_prefix="query: ",
    document_prefix="passage: ",
    prompts={"clustering": "cluster: "},
)
PLAIN = ModelConfig(name="plain", dimension=384, max_tokens=256)


def test_defaults_are_mean_pooling_and_unit_length():
    assert (PLAIN.pooling, PLAIN.normalize) == (PoolingStrategy.MEAN, True)
    assert (PLAIN.query_prefix, PLAIN.document_prefix, dict(PLAIN.prompts)) == ("", "", {})


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PLAIN.dimension = 3


@pytest.mark.parametrize("field", dataclasses.fields(ModelConfig), ids=lambda field: field.name)
def test_every_field_is_documented(field):
    assert f"        {field.name}: " in ModelConfig.__doc__


@pytest.mark.parametrize(("field", "least"), [("dimension", 1), ("max_tokens", 3)])
def test_number_below_its_least_is_refused(field, least):
    values = {"name": "x", "dimension": 8, "max_tokens": 8}
    assert getattr(ModelConfig(**{**values, field: least}), field) == least
    for number in (least - 1, 0, -5):
        with pytest.raises(InputError, match=f"{field} must be at least {least}, not {number}") as caught:
            ModelConfig(**{**values, field: number})
        assert caught.value.limit == least


@pytest.mark.parametrize("number", [True, "8", 8.0, None, [8]])
@pytest.mark.parametrize("field", ["dimension", "max_tokens"])
def test_what_is_no_whole_number_is_refused(field, number):
    with pytest.raises(InputError, match=f"{field} must be at least"):
        ModelConfig(**{"name": "x", "dimension": 8, "max_tokens": 8, field: number})


@pytest.mark.parametrize("kept", [0, -1, 9, "4", True])
def test_components_that_are_kept_are_some_of_those_there_are(kept):
    with pytest.raises(InputError, match="kept_dimensions must be 1 to 8"):
        ModelConfig(name="x", dimension=8, max_tokens=8, kept_dimensions=kept)


@pytest.mark.parametrize("change", [{"query_prefix": None}, {"prompts": {"sts": 3}}, {"prompts": {3: "sts"}}])
def test_prompt_that_is_no_text_is_refused(change):
    with pytest.raises(InputError, match="must be texts"):
        ModelConfig(name="x", dimension=8, max_tokens=8, **change)


@pytest.mark.parametrize(
    ("default", "prefix"), [(None, "passage: "), ("query", "query: "), ("clustering", "cluster: ")]
)
def test_text_of_no_type_gets_the_default_prompt(default, prefix):
    assert dataclasses.replace(E5, default_prompt=default).prefix(None) == prefix


def test_default_prompt_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="e5 has no prompt 'sts'"):
        dataclasses.replace(E5, default_prompt="sts")


@pytest.mark.parametrize("strategy", PoolingStrategy)
def test_pooling_may_be_given_as_text(strategy):
    config = ModelConfig(name="x", dimension=8, max_tokens=8, pooling=strategy.value)
    assert config.pooling is strategy


def test_unknown_pooling_is_refused():
    with pytest.raises(InputError, match=r"pooling must be one of cls, .*, not 'median'"):
        ModelConfig(name="x", dimension=8, max_tokens=8, pooling="median")


def test_asymmetric_means_that_prefixes_differ():
    assert E5.asymmetric
    assert not PLAIN.asymmetric
    assert not dataclasses.replace(PLAIN, query_prefix="same: ", document_prefix="same: ").asymmetric


@pytest.mark.parametrize(
    ("embedding_type", "prefix"), [("query", "query: "), ("document", "passage: "), ("clustering", "cluster: ")]
)
def test_prefix_is_that_of_the_type(embedding_type, prefix):
    assert E5.prefix(embedding_type) == prefix


def test_models_without_prefixes_put_nothing_before_texts():
    assert (PLAIN.prefix("query"), PLAIN.prefix("document")) == ("", "")


def test_own_prefixes_win_over_prompts_of_the_same_name():
    config = dataclasses.replace(PLAIN, query_prefix="mine: ", prompts={"query": "theirs: "})
    assert config.prefix("query") == "mine: "


def test_unknown_prompt_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="e5 has no prompt 'sts'; it has clustering, document, query"):
        E5.prefix("sts")


@pytest.mark.parametrize("config", [E5, PLAIN, dataclasses.replace(E5, pooling="cls", output_name="token_embeddings")])
def test_it_survives_json_and_pickle(config):
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert pickle.loads(pickle.dumps(config)) == config


def test_dictionary_holds_every_field_that_is_not_a_later_one_at_its_default():
    later = {"default_prompt": "clustering", "kept_dimensions": 64, "graph_pools": True, "pad_position": 0}
    names = {field.name for field in dataclasses.fields(ModelConfig)}
    assert dataclasses.replace(E5, **later).to_dict().keys() == names
    assert E5.to_dict().keys() == names - later.keys()
