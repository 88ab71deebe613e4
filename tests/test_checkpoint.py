"""Checkpoints as they are found: in old names, in several files, in half precision, with keys left out, or damaged."""

import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from neuralcore.embedding import EmbeddingEngine
from neuralcore.embedding.backends.onnx.write import write_onnx
from neuralcore.embedding.documents import Document
from neuralcore.embedding.errors import EmbeddingError, ModelCorrupt, UnsupportedModel
from neuralcore.embedding.families import MODEL_TYPES, complete
from neuralcore.embedding.families.checkpoint import Checkpoint, checkpoint_sha256
from neuralcore.embedding.families.tensor_file import TensorFile
from neuralcore.embedding.types import TokenBatch
from tests import checkpoints, tensor_files, tiny_model
from tests.checkpoints import HIDDEN, MAKERS, N_LAYERS, SEEDS, batches, bert, mpnet, nomic_transformers
from tests.golden import hidden_states
from tests.native_stacks import pack
from tests.stacks import stack_of
from tests.test_graphs import CLOSE, build, configuration, run

OLD_NAMES = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}


def assert_golden(path: Path, name: str) -> None:
    ids, mask = batches(name)["ragged"]
    actual = run(path, ids, mask)["last_hidden_state"]
    np.testing.assert_allclose(actual[mask == 1], hidden_states(name)["ragged"][mask == 1], atol=CLOSE, rtol=0)


def in_old_names(tensors):
    def old(name):
        for new, before in OLD_NAMES.items():
            name = name.replace(new, before)
        return name

    return {old(name): values for name, values in tensors.items()}


@pytest.mark.parametrize("name", ["bert", "mpnet", "nomic_transformers"])
def test_layer_norms_may_go_by_the_names_of_tensorflow(name, tmp_path):
    whole = MAKERS[name](SEEDS[name])
    renamed = replace(whole, tensors=in_old_names(whole.tensors))
    assert renamed.tensors.keys() != whole.tensors.keys()
    assert_golden(build(renamed, tmp_path), name)
    for number in range(N_LAYERS):
        norms = [
            stack_of(checkpoint.save(tmp_path), checkpoint.architecture).read_layer(number).feed_forward_norms.after
            for checkpoint in (renamed, whole)
        ]
        np.testing.assert_array_equal(norms[0].weight, norms[1].weight)
        np.testing.assert_array_equal(norms[0].bias, norms[1].bias)


def defaults_of(kind):
    return {
        key: value
        for key, value in complete(Document(Path("config.json"), {"model_type": kind})).items()
        if key != "model_type"
    }


@pytest.mark.parametrize("name", ["bert", "mpnet", "nomic_transformers"])
def test_keys_that_config_leaves_out_have_the_defaults_of_the_class(name, tmp_path):
    whole = MAKERS[name](SEEDS[name])
    defaults = defaults_of(whole.architecture["model_type"])
    kept = {key: value for key, value in whole.architecture.items() if defaults.get(key) != value}
    assert {"layer_norm_eps", "hidden_act"} <= whole.architecture.keys() - kept.keys()
    assert_golden(build(replace(whole, architecture=kept), tmp_path), name)


def test_size_that_config_leaves_out_is_told_from_damage(tmp_path):
    checkpoint = bert(1)
    del checkpoint.architecture["hidden_size"]
    with pytest.raises(ModelCorrupt, match=r"\(120, 768\), found shape \(120, 48\)\. Shapes follow from config\.json"):
        build(checkpoint, tmp_path)


CODE_ON_THE_HUB = {
    "new": {  # configuration.py of Alibaba-NLP/new-impl
        "vocab_size": 30528,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu",
        "max_position_embeddings": 2048,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-12,
    },
}
"""The defaults of model_types that transformers has no class for."""


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [kind for kind in MODEL_TYPES if kind not in CODE_ON_THE_HUB])
def test_defaults_are_those_of_transformers(kind):
    transformers = pytest.importorskip("transformers")
    reference = transformers.AutoConfig.for_model(kind).to_dict()
    told = transformers.AutoConfig.for_model(kind, **defaults_of(kind)).to_dict()
    assert {key: told[key] for key in reference} == reference  # to be told what it assumes changes nothing


@pytest.mark.parametrize("kind", CODE_ON_THE_HUB)
def test_defaults_are_those_of_code_on_the_hub(kind):
    assert defaults_of(kind) == CODE_ON_THE_HUB[kind]


def build_at(path, checkpoint):
    write_onnx(stack_of(path, checkpoint.architecture), configuration(), path.with_name("model.onnx"))


WRONG = [0, -3, 2.5, "12", [12], {}, True, 2**40, float("nan")]


@pytest.mark.parametrize("name", ["bert", "mpnet", "nomic_hub", "nomic_transformers"])
def test_value_of_the_wrong_type_is_refused_by_its_key(name, tmp_path):
    whole = MAKERS[name](1)
    path = whole.save(tmp_path)
    not_read = {"pad_token_id", "max_trained_positions"} | ({"vocab_size"} if "nomic" in name else set())
    sizes = [key for key, value in whole.architecture.items() if type(value) is int and key not in not_read]
    tried = 0
    for key in sizes:
        for value in WRONG:
            if key == "rotary_emb_base" and value in (2.5, 2**40):
                continue  # which it may be
            with pytest.raises(EmbeddingError) as caught:
                write_onnx(
                    stack_of(path, whole.but(**{key: value}).architecture), configuration(), tmp_path / "model.onnx"
                )
            assert key in str(caught.value), (key, value)
            if isinstance(caught.value, ModelCorrupt):
                assert caught.value.path == str(tmp_path / "config.json")
            tried += 1
    assert tried >= 40


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_attention_heads": 5}, "num_attention_heads"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps"),
        ({"layer_norm_eps": -1.0}, "layer_norm_eps"),
        ({"hidden_act": ["gelu"]}, "hidden_act"),
        ({"num_hidden_layers": 4}, r"encoder\.layer\.3"),
        ({"type_vocab_size": 3}, "token_type"),
    ],
)
def test_config_that_does_not_fit_is_refused(change, named, tmp_path):
    with pytest.raises(ModelCorrupt, match=named):
        build(bert(1).but(**change), tmp_path)


def test_layer_norm_of_one_number_is_not_spread_over_all(tmp_path):
    short = bert(1)
    short.tensors["encoder.layer.1.output.LayerNorm.weight"] = np.ones(1, np.float32)
    with pytest.raises(ModelCorrupt, match=r"of shape \(48,\), found shape \(1,\)"):
        build(short, tmp_path)


def test_tensor_without_numbers_is_refused(tmp_path):
    empty = bert(1)
    empty.tensors["embeddings.token_type_embeddings.weight"] = np.zeros((0, HIDDEN), np.float32)
    with pytest.raises(ModelCorrupt, match="token_type"):
        build(empty, tmp_path)


@pytest.mark.parametrize("name", ["bert", "mpnet"])
def test_checkpoint_in_several_files_is_read_as_one(name, tmp_path):
    whole = MAKERS[name](SEEDS[name])
    path = tensor_files.save_shards(tmp_path, whole.tensors)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    write_onnx(stack_of(path, whole.architecture), configuration(), tmp_path / "model.onnx")
    assert_golden(tmp_path / "model.onnx", name)


@pytest.mark.parametrize("prefix", ["bert.", "model."])
def test_old_names_prefixes_shards_and_heads_together(prefix, tmp_path):
    whole = bert(SEEDS["bert"])
    tensors = {prefix + name: values for name, values in in_old_names(whole.tensors).items()}
    heads = {
        "cls.predictions.transform.LayerNorm.gamma": np.ones(HIDDEN, np.float32),
        "cls.predictions.bias": np.ones(9),
    }
    path = tensor_files.save_shards(tmp_path, {**tensors, **heads}, n_shards=5)
    write_onnx(stack_of(path, whole.architecture), configuration(), tmp_path / "model.onnx")
    assert_golden(tmp_path / "model.onnx", "bert")


def test_weight_that_is_there_by_two_names_is_refused(tmp_path):
    """transformers takes the first in the order of their names, whichever model that is of."""
    whole = bert(SEEDS["bert"])
    for name in ("bert.encoder.layer.1.output.dense.weight", "encoder.layer.1.output.LayerNorm.gamma"):
        twice = {**whole.tensors, name: np.ones(HIDDEN, np.float32)}
        with pytest.raises(UnsupportedModel, match=f"both .*{name}|both {name} and"):
            build(replace(whole, tensors=twice), tmp_path)
    unread = {**whole.tensors, "bert.pooler.dense.bias": np.ones(9), "pooler.dense.bias": np.ones(9)}
    assert_golden(build(replace(whole, tensors=unread), tmp_path), "bert")


@pytest.mark.parametrize(
    "shard",
    ["../model-1.safetensors", "/tmp/model-1.safetensors", "a/../../x.safetensors", "C:\\x.safetensors", 3, "x.bin"],
)
def test_shard_outside_of_the_folder_is_refused_before_it_is_opened(shard, tmp_path):
    (tmp_path / "folder").mkdir()
    save_file(bert(1).tensors, tmp_path / "model-1.safetensors")
    path = tmp_path / "folder/model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"embeddings.LayerNorm.weight": shard}}))
    with pytest.raises(ModelCorrupt, match=r"weight_map\.embeddings") as caught:
        Checkpoint(path)
    assert caught.value.path == str(path)


def test_index_that_says_what_is_not_so_is_refused(tmp_path):
    path = tensor_files.save_shards(tmp_path, bert(1).tensors)
    index = json.loads(path.read_text())
    places = index["weight_map"]
    first = "model-00001-of-00003.safetensors"
    last = "encoder.layer.2.output.dense.weight"
    for wrong, expected in [
        ({**places, last: first}, f"{last} in {first}"),
        ({**places, "no.such": first}, "no.such"),
        ({}, "weight_map"),
        ([first], "weight_map"),
        ({**places, last: "model-00004-of-00003.safetensors"}, "00004"),
    ]:
        path.write_text(json.dumps({**index, "weight_map": wrong}))
        with pytest.raises(ModelCorrupt, match=expected.replace(".", r"\.")):
            Checkpoint(path)


def test_tensor_that_the_index_forgot_is_found_as_transformers_finds_it(tmp_path):
    whole = bert(SEEDS["bert"])
    path = tensor_files.save_shards(tmp_path, whole.tensors)
    index = json.loads(path.read_text())
    del index["weight_map"]["encoder.layer.1.output.dense.bias"]
    path.write_text(json.dumps(index))
    write_onnx(stack_of(path, whole.architecture), configuration(), tmp_path / "model.onnx")
    assert_golden(tmp_path / "model.onnx", "bert")


def test_engine_of_shards_is_that_of_one_file_and_its_weights_are_all_of_them(tmp_path):
    single = tiny_model.write(tmp_path / "single")
    sharded = tiny_model.write(tmp_path / "sharded")
    tensors = load_file(sharded / "model.safetensors")
    (sharded / "model.safetensors").unlink()
    index = tensor_files.save_shards(sharded, tensors)
    text = "the cat sat on the mat"
    with EmbeddingEngine.from_pretrained(single, cache_dir=tmp_path / "cache") as engine:
        expected = engine.embed(text)
    with EmbeddingEngine.from_pretrained(sharded, cache_dir=tmp_path / "cache") as engine:
        np.testing.assert_array_equal(engine.embed(text), expected)
        before = engine.fingerprint.weights
    assert before == checkpoint_sha256(index)
    last = sharded / "model-00003-of-00003.safetensors"
    save_file({name: values * np.float32(1.5) for name, values in load_file(last).items()}, last)
    with EmbeddingEngine.from_pretrained(sharded, cache_dir=tmp_path / "cache") as engine:
        assert np.abs(engine.embed(text) - expected).max() > 1e-3
        assert engine.fingerprint.weights != before


def test_native_packing_reads_shards(tmp_path):
    whole = bert(3)
    tokens = _tokens()
    pack(stack_of(whole.save(tmp_path), whole.architecture), tokens, tmp_path / "one.packed")
    (tmp_path / "model.safetensors").unlink()
    path = tensor_files.save_shards(tmp_path, whole.tensors)
    pack(stack_of(path, whole.architecture), tokens, tmp_path / "shards.packed")
    assert (tmp_path / "one.packed").read_bytes() == (tmp_path / "shards.packed").read_bytes()


def _tokens():
    ids = np.random.RandomState(1).randint(2, checkpoints.VOCABULARY, 60)
    return TokenBatch(ids.astype(np.int32), np.array([0, 20, 60]), np.array([20, 40]))


def test_bfloat16_is_read_without_any_library_that_knows_it(tmp_path):
    values = np.random.RandomState(1).normal(size=(5, 7)).astype(np.float32)
    values[0, :4] = 0.0, -0.0, 3.3895314e38, 1e-40
    tensor, expected = tensor_files.as_bf16(values)
    path = tensor_files.write(tmp_path / "model.safetensors", {"a": tensor})
    program = f"""
import sys
from pathlib import Path
from neuralcore.embedding.families.tensor_file import TensorFile
sys.stdout.write(TensorFile(Path({str(path)!r})).read("a").tobytes().hex())
assert not {{"ml_dtypes", "onnx", "safetensors"}} & set(sys.modules)
"""
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert bytes.fromhex(output) == expected.tobytes()


def test_mixed_precisions_become_float32(tmp_path):
    plain = bert(6)
    cut, tensors = {}, {}
    for number, (name, values) in enumerate(plain.tensors.items()):
        if number % 3 == 0:
            tensors[name], cut[name] = tensor_files.as_bf16(values)
        else:
            kind, code = (("<f2", "F16"), ("<f8", "F64"))[number % 3 - 1]
            tensors[name] = code, list(values.shape), values.astype(kind).tobytes()
            cut[name] = values.astype(kind).astype(np.float32)
    path = tensor_files.write(tmp_path / "mixed.safetensors", tensors)
    write_onnx(stack_of(path, plain.architecture), configuration(), tmp_path / "mixed.onnx")
    expected = build(replace(plain, tensors=cut), tmp_path)
    ids, mask = batches("bert")["ragged"]
    states = [run(graph, ids, mask)["last_hidden_state"] for graph in (tmp_path / "mixed.onnx", expected)]
    np.testing.assert_array_equal(*states)


def test_integers_for_weights_are_not_supported_and_not_called_damage(tmp_path):
    plain = bert(6)
    tensors = {name: ("F32", list(values.shape), values.tobytes()) for name, values in plain.tensors.items()}
    name = "encoder.layer.0.output.dense.weight"
    tensors[name] = "I8", tensors[name][1], bytes(len(tensors[name][2]) // 4)
    path = tensor_files.write(tmp_path / "model.safetensors", tensors)
    with pytest.raises(UnsupportedModel, match=f"{name} holds I8"):
        write_onnx(stack_of(path, plain.architecture), configuration(), tmp_path / "model.onnx")


ONE = {"a": ("F32", [2, 3], bytes(24)), "b": ("I64", [1], bytes(8))}


def _entry(**values):
    return lambda header: {**header, "a": {**header["a"], **values}}


@pytest.mark.parametrize(
    ("alter", "found"),
    [
        (lambda header: [header], "no JSON object"),
        (lambda header: {**header, "a": 3}, "found 3"),
        (_entry(dtype="F31"), "F31"),
        (_entry(dtype=3), "found 3"),
        (_entry(shape=3), "found 3"),
        (_entry(shape=[-2, -3]), "a list of whole numbers for a.shape"),
        (_entry(shape=[True, 6]), "a list of whole numbers for a.shape"),
        (_entry(shape=[2**62] * 200_000), "32 whole numbers at most for a.shape"),  # whose product takes minutes
        (_entry(shape=[2, 4]), "24 bytes for the F32 numbers of a"),
        (_entry(shape=[2**62, 2**62]), "24 bytes for the F32 numbers"),
        (_entry(data_offsets=[0]), "two whole numbers"),
        (_entry(data_offsets=[24, 0]), "-24 bytes"),
        (_entry(data_offsets=[8, 32]), "do not follow"),
        (_entry(data_offsets=[2**60, 2**60 + 24]), "follow"),
        (lambda header: {"a": header["a"]}, "its header tells of"),
    ],
)
def test_header_that_cannot_be_is_refused(alter, found, tmp_path):
    path = tensor_files.write(tmp_path / "model.safetensors", ONE, alter=alter)
    with pytest.raises(ModelCorrupt) as caught:
        TensorFile(path)
    assert found in str(caught.value)
    assert caught.value.path == str(path)


def test_any_cut_and_any_flip_gives_tensors_or_a_refusal(tmp_path):
    whole = tensor_files.write(tmp_path / "whole.safetensors", ONE).read_bytes()
    path = tmp_path / "model.safetensors"
    n_refused = 0
    for content in [*(whole[:n] for n in range(len(whole))), *(_flipped(whole, n) for n in range(len(whole) - 32))]:
        path.write_bytes(content)
        try:
            TensorFile(path)
        except ModelCorrupt:
            n_refused += 1
    assert n_refused > len(whole) * 1.5  # a flipped letter of a name is another name


def _flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 0x11]) + content[position + 1 :]


@given(st.binary(max_size=100))
def test_any_bytes_are_refused_or_read(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(len(content).to_bytes(8, "little") + content)
    with suppress(ModelCorrupt):
        assert TensorFile(path).places == {}


def test_header_of_a_terabyte_is_not_read(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    with pytest.raises(ModelCorrupt, match="a header of 1099511627776 bytes"):
        TensorFile(path)


def test_file_that_is_cut_after_it_was_opened_is_refused(tmp_path):
    path = tensor_files.write(tmp_path / "model.safetensors", ONE)
    file = TensorFile(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ModelCorrupt, match="only 3 numbers of a"):
        file.read("a")


def test_mpnet_with_fewer_buckets_than_can_be_is_refused(tmp_path):
    with pytest.raises(ModelCorrupt, match="relative_attention_num_buckets"):
        build(mpnet(1).but(relative_attention_num_buckets=3), tmp_path)


def test_rotary_angles_are_read_from_where_transformers_reads_them(tmp_path):
    plain = nomic_transformers(SEEDS["nomic_transformers"])
    assert plain.architecture["rope_parameters"]["rope_theta"] == 10_000.0
    moved = plain.but(rope_parameters=None, rope_theta=10_000.0)
    assert_golden(build(moved, tmp_path), "nomic_transformers")
    for other in ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, {"head_dim": 8}):
        with pytest.raises(UnsupportedModel):
            build(plain.but(**other), tmp_path)


def test_hub_names_get_no_defaults():
    document = Document(Path("config.json"), {"model_type": "nomic_bert", "n_embd": 48})
    assert "hidden_size" not in complete(document)
