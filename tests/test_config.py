"""What a model's configuration accepts, refuses and gives back."""

import dataclasses
import json
import pickle

import pytest

from neuralcore.embedding.config import Dense, ModelConfig, PoolingStrategy
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


def test_several_poolings_keep_their_order_and_one_is_plain():
    several = dataclasses.replace(PLAIN, pooling=["weightedmean", "cls", "cls"])
    assert several.pooling == (PoolingStrategy.WEIGHTED_MEAN, PoolingStrategy.CLS, PoolingStrategy.CLS)
    assert (several.pooling_name, several.token_dimension) == ("weightedmean+cls+cls", 128)
    one = dataclasses.replace(PLAIN, pooling=("max",))
    assert one.pooling is PoolingStrategy.MAX
    assert (one.poolings, one.pooling_name, one.token_dimension) == ((PoolingStrategy.MAX,), "max", 384)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pooling": ()}, "one strategy at least"),
        ({"pooling": ("cls", "median")}, "not 'median'"),
        ({"pooling": 3}, "not 3"),
        ({"pooling": ("cls",) * 5}, "a multiple of 5 components, not 384"),
        ({"dense": 3}, "a list of Dense steps"),
        ({"dense": ["tanh"]}, "a list of Dense steps"),
        ({"dense": [{"n_in": 8, "n_out": 12}]}, "gives 12 components, not 384"),
        ({"dense": [{"n_in": 8, "n_out": 12}, {"n_in": 8, "n_out": 384}]}, "gives 12 components, the next one takes 8"),
        ({"dense": [{"n_in": 9, "n_out": 384}], "pooling": ("cls", "max")}, "a multiple of 2 components, not 9"),
    ],
)
def test_steps_that_do_not_fit_together_are_refused(change, reason):
    with pytest.raises(InputError, match=reason):
        dataclasses.replace(PLAIN, **change)


@pytest.mark.parametrize(
    "change",
    [{"n_in": 0}, {"n_out": "8"}, {"n_in": True}, {"bias": 1}, {"residual": None}, {"activation": "softmax"}],
)
def test_dense_step_that_cannot_be_is_refused(change):
    with pytest.raises(InputError, match="of a Dense step must be"):
        Dense(**{"n_in": 8, "n_out": 8, **change})


def test_dense_steps_say_how_large_what_comes_before_is():
    steps = ({"n_in": 96, "n_out": 32}, Dense(n_in=32, n_out=384, activation="identity", normalize_input=True))
    config = dataclasses.replace(PLAIN, pooling=("cls", "mean"), dense=steps)
    assert (config.token_dimension, config.pooled_dimension, config.dimension) == (48, 96, 384)
    assert [(step.activation, step.bias, step.normalize_input) for step in config.dense] == [
        ("tanh", True, False),
        ("identity", True, True),
    ]


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


@pytest.mark.parametrize(
    "config",
    [
        E5,
        PLAIN,
        dataclasses.replace(E5, pooling="cls", output_name="token_embeddings"),
        dataclasses.replace(
            E5, pooling=["cls", "max"], dense=[Dense(n_in=8, n_out=384, activation="gelu", residual=True)]
        ),
    ],
)
def test_it_survives_json_and_pickle(config):
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert pickle.loads(pickle.dumps(config)) == config


def test_dictionary_holds_every_field_that_is_not_a_later_one_at_its_default():
    later = {"default_prompt": "clustering", "kept_dimensions": 64, "graph_pools": True, "pad_position": 0}
    later["dense"] = (Dense(n_in=8, n_out=384),)
    names = {field.name for field in dataclasses.fields(ModelConfig)}
    assert dataclasses.replace(E5, **later).to_dict().keys() == names
    assert E5.to_dict().keys() == names - later.keys()
