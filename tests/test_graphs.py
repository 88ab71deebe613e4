"""Graphs built from a checkpoint compute what transformers computes (golden/graphs.npz, no PyTorch needed)."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from neuralcore.embedding.backends.onnx.write import write_onnx
from neuralcore.embedding.config import ModelConfig, PoolingStrategy
from neuralcore.embedding.errors import EmbeddingError, ModelCorrupt, UnsupportedModel
from neuralcore.embedding.pooling import normalize, pool
from tests.checkpoints import (
    HIDDEN,
    MAKERS,
    MPNET_PAD_ID,
    SEEDS,
    VOCABULARY,
    RandomCheckpoint,
    batches,
    bert,
    mpnet,
    nomic_hub,
)
from tests.golden import hidden_states
from tests.stacks import stack_of

SHAPES = ("one_token", "one_text", "ragged", "longest")
CLOSE = 1e-5


def configuration(**values: object) -> ModelConfig:
    return ModelConfig(**{"name": "random", "dimension": HIDDEN, "max_tokens": 64, **values})


def build(checkpoint: RandomCheckpoint, folder: Path, **config: object) -> Path:
    path = folder / "model.onnx"
    write_onnx(stack_of(checkpoint.save(folder), checkpoint.architecture), configuration(**config), path)
    return path


def run(path: Path, ids: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"input_ids": ids, "attention_mask": mask}), strict=True))


@pytest.fixture(scope="module", params=MAKERS)
def built(request, tmp_path_factory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, build(MAKERS[request.param](SEEDS[request.param]), folder)


@pytest.mark.parametrize("shape", SHAPES)
def test_hidden_states_equal_those_of_transformers(built, shape):
    name, path = built
    ids, mask = batches(name)[shape]
    expected = hidden_states(name)[shape]
    actual = run(path, ids, mask)["last_hidden_state"]
    np.testing.assert_allclose(actual[mask == 1], expected[mask == 1], atol=CLOSE, rtol=0)


def test_golden_hidden_states_differ_between_positions_and_texts():
    """So that the comparisons above can fail: random weights must not collapse every token to one vector."""
    for name in MAKERS:
        tokens = hidden_states(name)["longest"][0]
        assert np.abs(tokens[1:] - tokens[:-1]).max(axis=1).min() > 0.1


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("strategy", PoolingStrategy)
def test_sentence_embedding_is_the_pooled_golden_hidden_state(strategy, normalized, tmp_path):
    path = build(bert(SEEDS["bert"]), tmp_path, pooling=strategy, normalize=normalized)
    for shape in SHAPES:
        ids, mask = batches("bert")[shape]
        expected = pool(hidden_states("bert")[shape], mask.sum(axis=1), strategy)
        expected = normalize(expected) if normalized else expected
        np.testing.assert_allclose(run(path, ids, mask)["sentence_embedding"], expected, atol=CLOSE, rtol=0)


def test_graph_says_how_it_pools(tmp_path):
    path = build(bert(1), tmp_path, pooling=PoolingStrategy.CLS, normalize=False)
    metadata = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).get_modelmeta().custom_metadata_map
    assert metadata["pooling"] == "cls"
    assert metadata["normalize"] == "False"


@pytest.mark.parametrize("strategy", PoolingStrategy)
@pytest.mark.parametrize("name", MAKERS)
def test_garbage_in_padding_never_changes_a_vector(name, strategy, tmp_path):
    path = build(MAKERS[name](3), tmp_path, pooling=strategy)
    ids, mask = batches(name)["ragged"]
    garbage = np.where(mask, ids, np.random.RandomState(9).randint(2, VOCABULARY, ids.shape))
    assert (garbage != ids).any()
    expected, actual = (run(path, some, mask)["sentence_embedding"] for some in (ids, garbage))
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("strategy", PoolingStrategy)
@pytest.mark.parametrize("name", MAKERS)
def test_padded_text_equals_text_alone(name, strategy, tmp_path):
    path = build(MAKERS[name](4), tmp_path, pooling=strategy)
    ids, mask = batches(name)["longest"]
    vectors = run(path, ids, mask)["sentence_embedding"]
    for row, length in enumerate(mask.sum(axis=1)):
        alone = run(path, ids[row : row + 1, :length], mask[row : row + 1, :length])["sentence_embedding"][0]
        np.testing.assert_allclose(vectors[row], alone, atol=2e-6, rtol=0)


def test_typed_pad_token_of_mpnet_does_not_count_as_a_position(tmp_path):
    """The reference gives every pad id position 1, and the tokens after it the position they had without it."""
    path = build(mpnet(SEEDS["mpnet"]), tmp_path)
    ids, mask = batches("mpnet")["ragged"]
    assert ids[0, 2] == MPNET_PAD_ID
    assert mask[0, 2] == 1
    expected = hidden_states("mpnet")["ragged"][0]
    np.testing.assert_allclose(run(path, ids, mask)["last_hidden_state"][0], expected, atol=CLOSE, rtol=0)


@pytest.mark.parametrize("prefix", ["bert.", "model.", "0.auto_model."])
def test_names_under_a_task_models_prefix_are_found(prefix, tmp_path):
    plain = bert(SEEDS["bert"])
    prefixed = replace(plain, tensors={prefix + name: values for name, values in plain.tensors.items()})
    path = build(prefixed, tmp_path)
    ids, mask = batches("bert")["one_text"]
    expected = hidden_states("bert")["one_text"]
    np.testing.assert_allclose(run(path, ids, mask)["last_hidden_state"], expected, atol=CLOSE, rtol=0)


def test_half_precision_weights_become_float32(tmp_path):
    plain = bert(6)
    half = {name: values.astype(np.float16) for name, values in plain.tensors.items()}
    rounded = {name: values.astype(np.float32) for name, values in half.items()}
    ids, mask = batches("bert")["ragged"]
    states = []
    for name, tensors in (("half", half), ("rounded", rounded)):
        (tmp_path / name).mkdir()
        path = build(replace(plain, tensors=tensors), tmp_path / name)
        states.append(run(path, ids, mask)["last_hidden_state"])
    np.testing.assert_array_equal(*states)


def test_unused_tensors_are_left_out(tmp_path):
    plain = bert(6)
    extra = {"pooler.dense.weight": np.zeros((HIDDEN, HIDDEN), np.float32), "cls.bias": np.zeros(1, np.float32)}
    with_extra = replace(plain, tensors={**plain.tensors, **extra})
    model = onnx.load(build(with_extra, tmp_path), load_external_data=False)
    assert not [tensor.name for tensor in model.graph.initializer if "pooler" in tensor.name or "cls" in tensor.name]


def test_weights_lie_beside_the_graph(tmp_path):
    path = build(bert(6), tmp_path)
    assert path.stat().st_size < path.with_name("model.onnx.data").stat().st_size
    tensors = onnx.load(path, load_external_data=False).graph.initializer
    places = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    assert places == {"model.onnx.data"}


def test_graph_can_be_moved_to_another_folder(tmp_path):
    path = build(bert(SEEDS["bert"]), tmp_path)
    (tmp_path / "elsewhere").mkdir()
    for file in (path, path.with_name("model.onnx.data")):
        file.rename(tmp_path / "elsewhere" / file.name)
    ids, mask = batches("bert")["one_text"]
    actual = run(tmp_path / "elsewhere" / "model.onnx", ids, mask)["last_hidden_state"]
    np.testing.assert_allclose(actual, hidden_states("bert")["one_text"], atol=CLOSE, rtol=0)


@pytest.mark.parametrize("name", MAKERS)
def test_any_missing_tensor_is_refused_by_name(name, tmp_path):
    whole = MAKERS[name](1)
    # Of 3 layers the last is enough. Without token types, NomicBERT has one segment and no embedding for it.
    first = {f"layers.{number}." for number in range(2)} | {f"layer.{number}." for number in range(2)}
    needed = [tensor for tensor in whole.tensors if not any(part in tensor for part in first)]
    for tensor in needed:
        if "nomic" in name and "token_type" in tensor:
            continue
        with pytest.raises(ModelCorrupt, match="none") as caught:
            build(whole.without(tensor), tmp_path)
        part = tensor.replace("emb_ln", "LayerNorm").rpartition(".")[2]
        assert part in caught.value.expected, tensor


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value, tmp_path):
    damaged = bert(1)
    damaged.tensors["encoder.layer.2.output.dense.weight"][3, 4] = value
    with pytest.raises(ModelCorrupt, match=r"finite values in encoder\.layer\.2\.output\.dense\.weight"):
        build(damaged, tmp_path)


@pytest.mark.parametrize(
    ("name", "tensor", "shape"),
    [
        ("bert", "embeddings.word_embeddings.weight", (VOCABULARY - 1, HIDDEN)),
        ("bert", "encoder.layer.0.attention.self.query.weight", (HIDDEN, HIDDEN + 1)),
        ("bert", "encoder.layer.1.output.dense.bias", (HIDDEN, 1)),
        ("bert", "embeddings.LayerNorm.weight", (HIDDEN, 1)),
        ("mpnet", "encoder.relative_attention_bias.weight", (31, 4)),
        ("nomic_hub", "encoder.layers.0.attn.Wqkv.weight", (2 * HIDDEN, HIDDEN)),
    ],
)
def test_tensor_of_another_shape_is_refused(name, tensor, shape, tmp_path):
    damaged = MAKERS[name](1)
    damaged.tensors[tensor] = np.zeros(shape, np.float32)
    with pytest.raises(ModelCorrupt, match="shape") as caught:
        build(damaged, tmp_path)
    assert tensor in str(caught.value)


@pytest.mark.parametrize("keep", [0, 7, 100, 0.5, 0.999])
def test_truncated_file_is_refused(keep, tmp_path):
    path = bert(1).save(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    with pytest.raises(ModelCorrupt, match=r"model\.safetensors"):
        write_onnx(stack_of(path, bert(1).architecture), configuration(), tmp_path / "model.onnx")


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ModelCorrupt, match=r"model\.safetensors"):
        write_onnx(
            stack_of(tmp_path / "model.safetensors", bert(1).architecture), configuration(), tmp_path / "model.onnx"
        )


@pytest.mark.parametrize("model_type", ["t5", "", None, 3])
def test_unknown_model_type_is_refused(model_type, tmp_path):
    with pytest.raises(UnsupportedModel, match="model_type") as caught:
        build(bert(1).but(model_type=model_type), tmp_path)
    assert caught.value.model == str(tmp_path)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("bert", {"hidden_act": "mish"}),
        ("mpnet", {"hidden_act": "mish"}),
        ("bert", {"position_embedding_type": "relative_key"}),
        ("bert", {"position_embedding_type": "relative_key_query"}),
        ("bert", {"is_decoder": True}),
        ("nomic_hub", {"prenorm": True}),
        ("nomic_hub", {"activation_function": "gelu"}),
        ("nomic_hub", {"rotary_emb_fraction": 0.5}),
        ("nomic_hub", {"rotary_emb_fraction": 0.0}),
        ("nomic_hub", {"rotary_emb_interleaved": True}),
        ("nomic_hub", {"parallel_block": True}),
        ("nomic_hub", {"causal": True}),
        ("nomic_hub", {"is_causal": True}),
        ("nomic_hub", {"num_experts": 8}),
        ("nomic_hub", {"use_rms_norm": True}),
        ("nomic_transformers", {"hidden_act": "gelu"}),
        ("nomic_transformers", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1000.0, "factor": 2.0}}),
    ],
)
def test_variant_that_would_be_computed_wrongly_is_refused(name, change, tmp_path):
    with pytest.raises(UnsupportedModel):
        build(MAKERS[name](1).but(**change), tmp_path)


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("n_embd", "hidden_size"),
        ("n_layer", "num_hidden_layers"),
        ("n_head", "num_attention_heads"),
        ("n_inner", "intermediate_size"),
        ("layer_norm_epsilon", "layer_norm_eps"),
        ("activation_function", "activation_function"),
        ("rotary_emb_fraction", "rotary_emb_fraction"),
    ],
)
def test_missing_key_of_a_class_on_the_hub_is_refused_by_name(key, named, tmp_path):
    """What its class takes instead is not known here."""
    checkpoint = nomic_hub(1)
    del checkpoint.architecture[key]
    with pytest.raises(ModelCorrupt, match=named) as caught:
        build(checkpoint, tmp_path)
    assert caught.value.path.endswith("config.json")


def test_refusal_leaves_no_graph_behind(tmp_path):
    with pytest.raises(EmbeddingError):
        build(bert(1).without("encoder.layer.2.output.LayerNorm.bias"), tmp_path)
    assert not (tmp_path / "model.onnx").exists()


def test_text_of_nomic_may_be_longer_than_the_trained_length(tmp_path):
    """Its Hub configuration says 8,192 positions of which 2,048 were trained, without scaled angles."""
    path = build(nomic_hub(2), tmp_path)
    ids = np.random.RandomState(1).randint(2, VOCABULARY, (1, 2100))
    assert np.isfinite(run(path, ids, np.ones_like(ids))["sentence_embedding"]).all()
