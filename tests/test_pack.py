"""A checkpoint packed for the kernels: the file, the integers in it, and the NumPy encoder that calibrates it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from neuralcore.embedding import ModelConfig, ModelCorrupt, UnsupportedModel
from neuralcore.embedding.backends.native import rounding
from neuralcore.embedding.backends.native.file import read_packed, write_packed
from neuralcore.embedding.backends.native.integers import hadamard, quantize_rows
from neuralcore.embedding.backends.native.pack import why_not
from neuralcore.embedding.backends.native.panels import pack_columns
from neuralcore.embedding.backends.native.rounding import quantize_columns, quantize_columns_for, quantize_rows_of
from neuralcore.embedding.backends.onnx.write import write_onnx
from neuralcore.embedding.config import Dense
from neuralcore.embedding.families.forward import run
from neuralcore.embedding.families.positions import position_ids
from neuralcore.embedding.families.stack import Rotary
from neuralcore.embedding.types import TokenBatch
from tests import checkpoints
from tests.golden import hidden_states
from tests.native_stacks import FEATURES, native_stack, pack
from tests.random_stacks import random_stack
from tests.stacks import stack_of


def read(name, folder):
    maker = checkpoints.MAKERS[name](checkpoints.SEEDS[name])
    return stack_of(maker.save(folder), maker.architecture)


@pytest.mark.parametrize("name", checkpoints.MAKERS)
def test_numpy_encoder_gives_the_hidden_states_of_transformers(name, tmp_path):
    stack, golden = read(name, tmp_path), hidden_states(name)
    for shape, (ids, mask) in checkpoints.batches(name).items():
        for row, row_mask, expected in zip(ids, mask, golden[shape], strict=True):
            x = run(stack, row[row_mask == 1].astype(np.int32))
            np.testing.assert_allclose(x, expected[row_mask == 1], atol=2e-5)


@pytest.mark.parametrize("name", FEATURES)
def test_numpy_encoder_gives_a_text_the_same_alone_and_between_others(name):
    stack, random = native_stack(name), np.random.default_rng(4)
    texts = [random.integers(0, 5, length).astype(np.int32) for length in (7, 1, 30)]
    together = run(stack, np.concatenate(texts), [0, 7, 8, 38])
    np.testing.assert_allclose(together, np.concatenate([run(stack, text) for text in texts]), atol=1e-4)


@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=9), min_size=1, max_size=6))
def test_positions_count_from_0_or_past_pad_tokens(texts):
    ids = np.array([token for text in texts for token in text], np.int32)
    offsets = np.cumsum([0, *map(len, texts)])
    assert position_ids(ids, offsets, None).tolist() == [i for text in texts for i in range(len(text))]
    expected = []
    for text in texts:
        seen = 1
        for token in text:
            seen += token != 1
            expected.append(1 if token == 1 else seen)
    assert position_ids(ids, offsets, 1).tolist() == expected


def test_packed_columns_lie_in_panels_of_16_and_groups_of_4():
    integers = np.random.default_rng(0).integers(-127, 128, (12, 48)).astype(np.int8)
    packed = pack_columns(integers, 4)
    assert packed.shape == (3, 3, 16, 4)
    for k in range(12):
        for column in range(48):
            assert packed[column // 16, k // 4, column % 16, k % 4] == integers[k, column]


@given(st.integers(0, 2**32), st.sampled_from([1e-3, 1.0, 1e4]), st.floats(-3, 3))
def test_rows_are_near_their_integers_and_0_is_exact(seed, size, shift):
    x = (np.random.default_rng(seed).normal(shift, 1, (5, 32)) * size).astype(np.float32)
    x[:, 7] = 0
    steps, scale = quantize_rows(x)
    ranges = np.maximum(x.max(axis=1), 0) - np.minimum(x.min(axis=1), 0)
    # Half a step; a whole one at the end of the range that the whole zero leaves half a step outside.
    assert (np.abs(steps * scale - x).max(axis=1) <= 1.01 * ranges / 191).all()
    assert (steps[:, 7] == 0).all()
    assert (steps.max(axis=1) - steps.min(axis=1) <= 191).all()


@pytest.mark.parametrize("n", [16, 48, 96, 192, 384])
def test_hadamard_transform_has_the_signs_of_its_definition(n):
    block = next(size for size in (128, 64, 32, 16) if n % size == 0)
    transformed = hadamard(np.eye(n, dtype=np.float32))
    for i in range(n):
        for k in range(n):
            parity = bin(i % block & k % block).count("1") % 2
            assert transformed[i, k] == (0 if i // block != k // block else 1 - 2 * parity)


def test_rounding_for_inputs_beats_rounding_to_the_nearest_on_these_inputs():
    random = np.random.default_rng(3)
    weight = random.normal(size=(64, 16)).astype(np.float32)
    x = (random.normal(size=(500, 8)) @ random.normal(size=(8, 64)) + 0.1 * random.normal(size=(500, 64))).astype(
        np.float32
    )

    def error(integers, scale):
        return float(((x @ (integers * scale) - x @ weight) ** 2).mean())

    assert error(*quantize_columns_for(weight, x)) < 0.3 * error(*quantize_columns(weight))


@given(st.integers(0, 2**32), st.sampled_from(["normal", "equal", "two values", "one input"]))
def test_products_of_four_neighbours_fit_in_16_bits(seed, kind):
    random = np.random.default_rng(seed)
    weight = {
        "normal": random.normal(size=(48, 16)),
        "equal": np.ones((48, 16)),
        "two values": random.choice([-1.0, 1.0], (48, 16)),
        "one input": np.eye(48)[:, :16],
    }[kind].astype(np.float32)
    integers, _ = quantize_columns_for(weight, random.normal(size=(60, 48)).astype(np.float32))
    eights = integers.astype(int).reshape(6, 2, 2, 2, 16)  # k = 8 i + 4 a + 2 j + b: the four of i and j
    for sign in (1, -1):
        assert (191 * np.maximum(sign * eights, 0).sum(axis=(1, 3)) < 2**15).all()


@pytest.mark.parametrize("x", [np.zeros((4, 32)), np.ones((4, 32)), np.full((4, 32), 1e18)])
def test_rounding_survives_inputs_that_say_nothing(x):
    weight = np.random.default_rng(1).normal(size=(32, 16)).astype(np.float32)
    integers, scale = quantize_columns_for(weight, x.astype(np.float32))
    assert np.abs(integers * scale - weight).max() < 20 * scale.max()


@pytest.mark.parametrize(("value", "places"), [(3e38, 1), (-3e38, None), (1e37, 1), (1e16, None)])
def test_checkpoint_with_numbers_beyond_reason_is_refused(tmp_path, value, places):
    maker = checkpoints.bert(11)
    name = next(name for name in maker.tensors if name.endswith("intermediate.dense.weight"))
    maker.tensors[name].reshape(-1)[:places] = value
    path = maker.save(tmp_path)
    tokens = TokenBatch(np.arange(4, 12, dtype=np.int32), np.array([0, 8]), np.array([8]))
    with pytest.raises(ModelCorrupt, match="of layer 0 reaches"):
        pack(stack_of(path, maker.architecture), tokens, tmp_path / "packed.safetensors")
    assert not (tmp_path / "packed.safetensors").exists()


@pytest.mark.parametrize("name", checkpoints.MAKERS)
def test_word_table_with_fewer_rows_than_words_is_refused_by_both_back_ends(tmp_path, name):
    maker = checkpoints.MAKERS[name](1).but(vocab_size=checkpoints.VOCABULARY + 1)
    path = maker.save(tmp_path)
    with pytest.raises(ModelCorrupt, match="word_embeddings") as caught:
        stack_of(path, maker.architecture).read_embeddings()
    assert caught.value.path == str(path)
    config = ModelConfig(name="cut", dimension=checkpoints.HIDDEN, max_tokens=16)
    with pytest.raises(ModelCorrupt, match="word_embeddings"):
        write_onnx(stack_of(path, maker.architecture), config, tmp_path / "model.onnx")


def test_packed_file_is_safetensors_with_every_tensor_aligned(tmp_path):
    tensors = {
        "odd": np.arange(5, dtype=np.int8),
        "a": np.arange(32, dtype=np.float32).reshape(2, 16),
        "b": np.arange(64, dtype=np.int8),
        "ints": np.arange(16, dtype=np.int32),
    }
    path = tmp_path / "packed.safetensors"
    write_packed(path, tensors, {"hello": [1, "x", None]})
    found, about = read_packed(path)
    assert about == {"hello": [1, "x", None]}
    assert found.keys() == tensors.keys()
    for name, tensor in load_file(path).items():
        np.testing.assert_array_equal(tensor, tensors[name])
        np.testing.assert_array_equal(found[name], tensors[name])
        assert found[name].dtype == tensors[name].dtype
        assert name == "odd" or found[name].ctypes.data % 64 == 0


def test_damaged_packed_files_are_refused(tmp_path):
    path = tmp_path / "packed.safetensors"
    write_packed(path, {"a": np.zeros(64, np.float32)}, {})
    whole = path.read_bytes()
    header = json.dumps(
        {"__metadata__": {"neuralcore": "{}"}, "a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}
    )
    damaged = {
        "cut": whole[:-1],
        "cut in the header": whole[:30],
        "short": b"abc",
        "empty": b"",
        "junk": bytes(range(256)) * 4,
        "no packed model": len(b"{}").to_bytes(8, "little") + b"{}",
        "sizes": len(header).to_bytes(8, "little") + header.encode() + bytes(64),
    }
    for data in damaged.values():
        path.write_bytes(data)
        with pytest.raises(ModelCorrupt, match="a packed model"):
            read_packed(path)
    with pytest.raises(ModelCorrupt):
        read_packed(tmp_path / "missing.safetensors")


@pytest.mark.parametrize("name", checkpoints.MAKERS)
def test_every_family_can_be_packed(name, tmp_path):
    maker = checkpoints.MAKERS[name](checkpoints.SEEDS[name])
    assert why_not(stack_of(maker.save(tmp_path), maker.architecture)) is None
    ids = np.random.default_rng(2).integers(2, checkpoints.VOCABULARY, 60).astype(np.int32)
    offsets = np.array([0, 1, 20, 60])
    path = tmp_path / "packed.safetensors"
    pack(stack_of(maker.save(tmp_path), maker.architecture), TokenBatch(ids, offsets, np.diff(offsets)), path)
    tensors, about = read_packed(path)
    assert about["n_layers"] == checkpoints.N_LAYERS
    assert tensors["layers.0.qkv.weight"].shape == (9, 12, 16, 4)
    whole = tensors["layers.1.down.weight"].transpose(1, 3, 0, 2).reshape(checkpoints.WIDE, checkpoints.HIDDEN)
    np.testing.assert_array_equal(tensors["layers.1.down.column_sum"], whole.sum(axis=0, dtype=np.int64))


@pytest.mark.parametrize("name", FEATURES)
def test_features_of_every_family_can_be_packed(name):
    assert why_not(native_stack(name)) is None


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"embedding_size": 32}, "a projection behind the word table"),
        ({"size": 32}, "a projection behind the last layer"),
        ({"hidden": 40}, "hidden states of size 40, which is not a multiple of 16"),
        ({"wide": 100}, "a feed-forward network of size 100"),
        ({"head_size": 24}, "heads of size 24"),
        ({"head_size": 8, "n_heads": 4, "n_key_heads": 4}, "heads of size 8"),
    ],
)
def test_first_part_that_the_kernels_do_not_know_is_named_and_nothing_is_packed(changed, told, tmp_path):
    stack = random_stack(1, replace(FEATURES["gte"], **changed))
    assert told in why_not(stack)
    tokens = TokenBatch(np.arange(4, 12, dtype=np.int32), np.array([0, 8]), np.array([8]))
    with pytest.raises(UnsupportedModel, match=told):
        pack(stack, tokens, tmp_path / "packed.safetensors")
    assert not list(tmp_path.iterdir())


def test_sizes_beyond_the_sums_of_the_kernels_and_other_tables_of_angles_are_not_known():
    stack = native_stack("gte")
    assert "of size 65552" in why_not(replace(stack, wide=65_552))
    assert "1048577 positions" in why_not(replace(stack, max_positions=2**20 + 1))
    assert why_not(replace(stack, epsilon=0.0)) == "norms that add 0, which is not from 1e-30 to 1"
    turned = replace(stack.attentions[0], rotary=Rotary(1e4, 8))
    assert "rotary positions of 8 components in heads of 16" in why_not(replace(stack, attentions=(turned,)))
    many = replace(stack.attentions[0], n_heads=5000)
    wide = replace(stack.attentions[0], head_size=1040, rotary=None)
    assert "heads of size 1040, beyond 1024" in why_not(replace(stack, attentions=(wide,)))
    assert "all heads together of size 80000" in why_not(replace(stack, attentions=(many,)))
    assert "unit length" in why_not(stack, [Dense(n_in=48, n_out=32, normalize_input=True)])


def test_scale_of_scores_and_of_words_and_windows_beyond_all_positions_are_packed(tmp_path):
    stack = native_stack("gemma3")
    attentions = tuple(replace(attention, window=10**9) for attention in stack.attentions)
    tokens = TokenBatch(np.arange(4, 12, dtype=np.int32), np.array([0, 8]), np.array([8]))
    pack(replace(stack, attentions=attentions), tokens, tmp_path / "packed.safetensors")
    tensors, about = read_packed(tmp_path / "packed.safetensors")
    assert {said["window"] for said in about["attentions"]} == {None}
    assert [said["rotary"] for said in about["attentions"]] == [0, 0, 1]
    np.testing.assert_allclose(
        tensors["cosines.1"], np.cos(np.outer(np.arange(64), 1e6 ** (-np.arange(8) / 8))), atol=1e-5
    )
    np.testing.assert_array_equal(tensors["layers.0.query_norm.weight"], stack.read_layer(0).query_norm.weight / 4)
    words = tensors["words"] * tensors["word_scale"][:, None]
    np.testing.assert_allclose(words, stack.read_embeddings().words * stack.word_scale, atol=0.02)
    assert not [name for name in tensors if "after" in name or (name.endswith("norm.bias"))]


def test_words_are_quantized_alike_in_one_block_or_several(monkeypatch):
    table = np.random.default_rng(5).normal(size=(50, 16)).astype(np.float32)
    table[7] = 0
    whole = quantize_rows_of(table)
    monkeypatch.setattr(rounding, "_ROWS", 7)
    for own, other in zip(quantize_rows_of(table), whole, strict=True):
        np.testing.assert_array_equal(own, other)
    np.testing.assert_allclose(whole[0] * whole[1][:, None], table, atol=np.abs(table).max() / 250)
