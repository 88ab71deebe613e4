"""A checkpoint packed in fp32, fp16 and bf16: what is in the file, and how little memory it takes to write."""

import struct
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file

from neuralcore.embedding import UnsupportedModel
from neuralcore.embedding.backends.native.file import Blocks, read_packed, stream_packed
from neuralcore.embedding.backends.native.floats import round_to_bfloat16
from neuralcore.embedding.backends.native.pack import pack_model
from neuralcore.embedding.families.stack import Linear
from neuralcore.embedding.types import Precision
from tests.native_stacks import FEATURES, native_stack
from tests.random_stacks import random_stack

FLOATS = (Precision.FP32, Precision.FP16, Precision.BF16)


def as_float(bits: int) -> float:
    """What the upper half of a float32 is worth."""
    value: float = struct.unpack("<f", struct.pack("<I", bits << 16))[0]
    return value


@pytest.mark.parametrize(
    ("bits", "half"),
    [
        (0x3F800000, 0x3F80),
        (0x3F808000, 0x3F80),  # a tie, to even
        (0x3F818000, 0x3F82),  # the other way
        (0x3F808001, 0x3F81),
        (0x3F7FFFFF, 0x3F80),  # into the next power of two
        (0x80000000, 0x8000),
        (0x00000001, 0x0000),
        (0x00018000, 0x0002),
        (0xBF80FFFF, 0xBF81),
        (0x7F7F7FFF, 0x7F7F),
    ],
)
def test_bfloat16_is_rounded_as_it_is_written_by_hand(bits, half):
    assert round_to_bfloat16(np.array([bits], np.uint32).view(np.float32)).tolist() == [half]


@given(st.floats(width=32, min_value=-(2.0**127), max_value=2.0**127))
def test_no_bfloat16_is_nearer_to_a_number_than_its_own(number):
    (half,) = round_to_bfloat16(np.array([number], np.float32)).tolist()
    own = abs(as_float(half) - number)
    others = (as_float(other) for other in (half - 1, half + 1) if other % 2**15 <= 0x7F80)  # not past 0
    assert all(own <= abs(other - number) for other in others)


def unpacked(weight) -> np.ndarray:
    """A product's weights as float64 (in, out), by the header's formula: [out / 16][in / group][16][group]."""
    n_panels, n_groups, width, group = weight.shape
    values = weight if weight.dtype != np.uint16 else (weight.astype(np.uint32) << 16).view(np.float32)
    found = np.empty((n_groups * group, n_panels * width))
    for panel in range(n_panels):
        for column in range(width):
            found[:, panel * width + column] = values[panel, :, column].reshape(-1)
    return found


EPSILON = {Precision.FP32: 0.0, Precision.FP16: 2.0**-11, Precision.BF16: 2.0**-8}


@pytest.mark.parametrize("precision", FLOATS)
@pytest.mark.parametrize("name", ["bert", "gemma3", "mpnet"])
def test_weights_are_the_nearest_that_the_precision_has(precision, name, tmp_path):
    stack, path = native_stack(name), tmp_path / "packed.safetensors"
    pack_model(stack, path, precision=precision)
    tensors, about = read_packed(path)
    assert about["precision"] == precision
    embeddings, layer, scale = stack.read_embeddings(), stack.read_layer(1), stack.attentions[1].scale
    group = 2 if precision is Precision.BF16 else 1
    assert tensors["layers.1.down.weight"].shape == (stack.hidden // 16, stack.wide // group, 16, group)
    queries = layer.query.weight if layer.query_norm else layer.query.weight * np.float32(scale)
    qkv = np.concatenate([queries, layer.key.weight, layer.value.weight], axis=1)
    for part, weight in {"qkv": qkv, "out": layer.out.weight, "down": layer.down.weight}.items():
        error = np.abs(unpacked(tensors[f"layers.1.{part}.weight"]) - weight)
        assert (error <= EPSILON[precision] * np.abs(weight) + 2.0**-25).all(), part
        assert (error > 0).any() == (precision is not Precision.FP32), part
    words = embeddings.words * np.float32(stack.word_scale)
    np.testing.assert_array_equal(tensors["words"], words if precision is Precision.FP32 else words.astype(np.float16))
    assert not [key for key in tensors if key.endswith(("column_scale", "column_sum", "word_scale"))]
    assert {tensors[key].dtype.name for key in tensors if key.endswith((".bias", "positions"))} <= {"float32"}


@pytest.mark.parametrize(
    ("precision", "dtype"), [(Precision.FP32, "F32"), (Precision.FP16, "F16"), (Precision.BF16, "BF16")]
)
def test_file_is_safetensors_with_every_tensor_aligned(precision, dtype, tmp_path):
    path = tmp_path / "packed.safetensors"
    pack_model(native_stack("modernbert"), path, precision=precision)
    with safe_open(path, "numpy") as file:
        assert file.get_slice("layers.0.up.weight").get_dtype() == dtype
    tensors, _ = read_packed(path)
    for name, tensor in tensors.items():
        assert tensor.nbytes % 64 or tensor.ctypes.data % 64 == 0, name
    if precision is not Precision.BF16:  # which NumPy has no type for
        for name, tensor in load_file(path).items():
            np.testing.assert_array_equal(tensor, tensors[name])


@pytest.mark.parametrize(
    ("precision", "value", "told"),
    [
        (Precision.FP16, 65_536.0, r"down of layer 1 reaches 65536, and fp16 ends at 65504"),
        (Precision.FP16, -1e9, r"down of layer 1 reaches 1e\+09, and fp16 ends at 65504"),
        (Precision.BF16, 3.4e38, r"down of layer 1 reaches 3.4e\+38, and bf16 ends at 3.38953e\+38"),
        (Precision.FP32, np.inf, r"down of layer 1 reaches inf, and fp32 ends at"),
        (Precision.FP16, np.nan, r"down of layer 1 reaches nan"),
    ],
)
def test_weights_beyond_a_precision_are_refused_by_name_and_nothing_is_left(precision, value, told, tmp_path):
    stack = native_stack("bert")

    def read_layer(number):
        layer = stack.read_layer(number)
        weight = layer.down.weight.copy()
        weight[3, 5] = value
        return layer if number == 0 else replace(layer, down=Linear(weight, layer.down.bias))

    with pytest.raises(UnsupportedModel, match=told):
        pack_model(replace(stack, read_layer=read_layer), tmp_path / "packed.safetensors", precision=precision)
    assert not list(tmp_path.iterdir())


def test_words_beyond_halves_are_refused(tmp_path):
    stack = native_stack("bert")
    words = stack.read_embeddings().words.copy()
    words[7, 7] = 7e4
    stack = replace(stack, read_embeddings=lambda: replace(native_stack("bert").read_embeddings(), words=words))
    for precision in (Precision.FP16, Precision.BF16):
        with pytest.raises(UnsupportedModel, match="the table of words reaches 70000, and fp16 ends at 65504"):
            pack_model(stack, tmp_path / "packed.safetensors", precision=precision)
    pack_model(stack, tmp_path / "packed.safetensors", precision=Precision.FP32)


def test_int8_without_calibration_texts_is_a_mistake(tmp_path):
    with pytest.raises(ValueError, match="needs calibration texts"):
        pack_model(native_stack("bert"), tmp_path / "packed.safetensors", precision=Precision.INT8)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("precision", FLOATS)
def test_memory_that_packing_takes_does_not_grow_with_layers(precision, tmp_path):
    stack = random_stack(1, replace(FEATURES["bert"], hidden=128, wide=512))

    def peak(n_layers: int) -> int:
        larger = replace(
            stack, attentions=stack.attentions[:1] * n_layers, read_layer=lambda number: stack.read_layer(number % 3)
        )
        tracemalloc.start()
        pack_model(larger, tmp_path / "packed.safetensors", precision=precision)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few, many = peak(3), peak(15)
    added = (tmp_path / "packed.safetensors").stat().st_size * 12 / 15
    assert many - few < 0.1 * added  # entries of the header


KIND = st.tuples(st.integers(1, 40), st.sampled_from(["int8", "float16", "float32"]), st.integers(0, 4))


@given(st.lists(KIND, min_size=1, max_size=9))
def test_tensors_of_any_size_written_as_they_come_are_read_again(kinds):
    random = np.random.default_rng(len(kinds))
    wholes = [random.integers(-99, 99, (n_rows, 16)).astype(dtype) for n_rows, dtype, _ in kinds]
    cuts = [[0, *sorted(random.integers(0, n_rows + 1, n_cuts)), n_rows] for n_rows, _, n_cuts in kinds]
    blocks = (
        (str(number), Blocks(whole.dtype, whole.shape, [whole[start:end] for start, end in pairwise(at)]))
        for number, (whole, at) in enumerate(zip(wholes, cuts, strict=True))
    )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "any.safetensors"
        stream_packed(path, blocks, {"n": len(kinds)}, n_tensors=len(kinds))
        found, about = read_packed(path)
    assert about == {"n": len(kinds)}
    assert len(found) == len(kinds)
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor, wholes[int(name)])
        assert tensor.nbytes % 64 or tensor.ctypes.data % 64 == 0
