"""fp32, fp16 and bf16 by the native kernels: exact but for the rounding of weights, the same whatever stands beside."""

from contextlib import closing
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest

from neuralcore.embedding import ModelConfig, PoolingStrategy, ProviderUnavailable
from neuralcore.embedding.backends.native import isas
from neuralcore.embedding.backends.native.encoder import NativeEncoder
from neuralcore.embedding.backends.native.isas import absence, choose_isa, compiled_isas, is_usable
from neuralcore.embedding.backends.native.pack import pack_model
from neuralcore.embedding.families.forward import run
from neuralcore.embedding.families.stack import Array, Layer, Linear, Stack
from neuralcore.embedding.pooling import normalize, pool
from neuralcore.embedding.types import Precision
from tests import checkpoints
from tests.golden import hidden_states
from tests.native_stacks import PARAMETERS, native_stack
from tests.stacks import stack_of
from tests.tokens import token_batch

pytestmark = pytest.mark.skipif(not compiled_isas(), reason="this installation has no native kernels")

FLOATS = (Precision.FP32, Precision.FP16, Precision.BF16)
USABLE = [(precision, isa) for precision in FLOATS for isa in compiled_isas() if is_usable(isa, precision)]


def random_texts(n, longest, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(2, checkpoints.VOCABULARY, random.integers(1, longest + 1)) for _ in range(n)]


def open_packed(path, pooling=PoolingStrategy.MEAN, **options) -> NativeEncoder:
    config = ModelConfig(name="random", dimension=checkpoints.HIDDEN, max_tokens=64, pooling=pooling, normalize=False)
    return NativeEncoder(path, config, **options)


def packed(stack, precision, folder) -> Path:
    path = folder / f"{precision}.safetensors"
    if not path.exists():
        pack_model(stack, path, precision=precision)
    return path


SLOW = ("scalar",)


@pytest.fixture(
    params=[pytest.param(each, id="-".join(each), marks=pytest.mark.full if each[1] in SLOW else ()) for each in USABLE]
)
def precision(request, monkeypatch) -> Precision:
    """Each precision by each instruction set of this CPU; native/check runs the kernels of the others."""
    precision, isa = request.param
    monkeypatch.setenv("NEURALCORE_ISA", isa)
    return precision


def as_half(values: Array) -> Array:
    return values.astype(np.float16).astype(np.float32)


def as_bfloat16(values: Array) -> Array:
    """By arithmetic: 8 bits of the fraction that frexp gives, ties to even."""
    fraction, exponent = np.frexp(values.astype(np.float64))
    return np.ldexp(np.rint(fraction * 256), exponent - 8).astype(np.float32)


ROUND = {Precision.FP32: lambda values: values, Precision.FP16: as_half, Precision.BF16: as_bfloat16}


def rounded(stack: Stack, precision: Precision) -> Stack:
    """The encoder whose weights are what the precision keeps, for a reference that computes in fp32."""
    attentions = tuple(replace(attention, scale=1.0) for attention in stack.attentions)
    half = as_half if precision is not Precision.FP32 else ROUND[precision]

    def read_layer(number: int) -> Layer:
        layer, scale = stack.read_layer(number), np.float32(stack.attentions[number].scale)
        if norm := layer.query_norm:
            layer = replace(layer, query_norm=replace(norm, weight=norm.weight * scale))
            assert norm.bias is None
        else:
            bias = None if layer.query.bias is None else layer.query.bias * scale
            layer = replace(layer, query=Linear(layer.query.weight * scale, bias))
        names = ("query", "key", "value", "out", "up", "down", *(["gate"] if layer.gate else []))
        linears = {name: getattr(layer, name) for name in names}
        return replace(
            layer, **{name: Linear(ROUND[precision](each.weight), each.bias) for name, each in linears.items()}
        )

    def read_embeddings():
        embeddings = stack.read_embeddings()
        return replace(embeddings, words=half(embeddings.words * np.float32(stack.word_scale)))

    return replace(stack, attentions=attentions, read_layer=read_layer, read_embeddings=read_embeddings, word_scale=1.0)


def expected_of(stack, tokens, pooling=PoolingStrategy.MEAN):
    x = run(stack, tokens.ids, tokens.offsets.tolist())
    padded = np.zeros((len(tokens), int(tokens.lengths.max()), x.shape[1]), np.float32)
    for row, (start, end) in zip(padded, pairwise(tokens.offsets), strict=True):
        row[: end - start] = x[start:end]
    return pool(padded, tokens.lengths, pooling)


def distance(found, expected) -> float:
    """The largest of a component, in vectors of length 1."""
    return float(np.abs(normalize(found) - normalize(expected)).max())


MOST = {Precision.FP32: 5e-6, Precision.FP16: 5e-6}
"""Sums of other orders, and what NumPy's own are away from exact ones; rounded inputs are far more."""


@pytest.mark.parametrize("pooling", ["mean", "last_token"])
@pytest.mark.parametrize("name", checkpoints.MAKERS)
def test_vectors_are_those_of_transformers(precision, name, pooling, tmp_path):
    maker = checkpoints.MAKERS[name](checkpoints.SEEDS[name])
    path = packed(stack_of(maker.save(tmp_path), maker.architecture), precision, tmp_path)
    strategy = PoolingStrategy(pooling)
    with closing(open_packed(path, strategy)) as encoder:
        assert (encoder.precision, encoder.isa) == (precision, choose_isa(precision))
        for shape, (ids, mask) in checkpoints.batches(name).items():
            lengths = mask.sum(axis=1)
            found = encoder.encode(token_batch([row[:n] for row, n in zip(ids, lengths, strict=True)]))
            expected = pool(hidden_states(name)[shape], lengths, strategy)
            most = {Precision.FP32: 5e-6, Precision.FP16: 3e-3, Precision.BF16: 2e-2}[precision]
            assert distance(found, expected) < most, shape


@pytest.mark.parametrize("name", PARAMETERS)
def test_features_of_every_family_are_exact_but_for_rounded_weights(precision, name, tmp_path):
    stack, tokens = native_stack(name), token_batch(random_texts(16, 64, seed=3))
    with closing(open_packed(packed(stack, precision, tmp_path))) as encoder:
        found = encoder.encode(tokens)
    expected = expected_of(rounded(stack, precision), tokens)
    cosines = (normalize(found) * normalize(expected)).sum(axis=1)
    if precision is Precision.BF16:  # inputs of products are rounded, too
        assert cosines.mean() > 0.99998
        assert cosines.min() > 0.9999
        return
    assert distance(found, expected) < MOST[precision]


@pytest.mark.parametrize("name", PARAMETERS)
def test_text_has_the_same_bits_alone_and_in_any_batch(precision, name, tmp_path):
    path, texts = packed(native_stack(name), precision, tmp_path), random_texts(16, 64)
    with closing(open_packed(path)) as encoder:
        expected = np.concatenate([encoder.encode(token_batch([text])) for text in texts])
    order = np.random.default_rng(1).permutation(len(texts))
    for threads, size in product((1, 2, 3), (1, 4, 16)):
        with closing(open_packed(path, threads=threads)) as encoder:
            for start in range(0, len(texts), size):
                rows = order[start : start + size]
                np.testing.assert_array_equal(encoder.encode(token_batch([texts[i] for i in rows])), expected[rows])


ALL = "int8 fp32 fp16 bf16"
ZEN4 = {"avx512vnni": "int8", "avx512bf16": "bf16", "avx512": "fp32 fp16", "avx2": "int8 fp32 fp16", "scalar": ALL}
HASWELL = {"avx2": "int8 fp32 fp16", "scalar": ALL}


@pytest.fixture
def become(monkeypatch):
    """A CPU that has some instruction sets, each for some precisions, all as fast."""

    class Library:
        def nc_compiled(self):
            return b"amx avx512vnni avx512bf16 avx512 avx2 scalar"

        def nc_self_test(self, _):
            return True

        def nc_measure(self, _):
            return 1e11

    def become(cpu):
        monkeypatch.setattr(isas, "load_library", Library)
        monkeypatch.setattr(isas, "find_kernels", lambda isa, precision: precision in cpu.get(isa, "").split())
        isas.is_right.cache_clear(), isas.try_isas.cache_clear()

    yield become
    isas.is_right.cache_clear(), isas.try_isas.cache_clear()


@pytest.mark.parametrize(
    ("cpu", "forced", "expected"),
    [
        (ZEN4, "", ("avx512vnni", "avx512", "avx512", "avx512bf16")),
        (ZEN4, "avx512vnni", ("avx512vnni", "avx512", "avx512", "avx512bf16")),
        (ZEN4, "avx512", ("avx2", "avx512", "avx512", None)),
        (ZEN4, "avx2", ("avx2", "avx2", "avx2", None)),
        (ZEN4, "scalar", ("scalar", "scalar", "scalar", "scalar")),
        (ZEN4, "none", (None, None, None, None)),
        (HASWELL, "", ("avx2", "avx2", "avx2", None)),
        ({"scalar": ALL}, "", (None, None, None, None)),
    ],
)
def test_each_precision_has_its_instruction_set_none_above_the_one_named(cpu, forced, expected, become, monkeypatch):
    become(cpu)
    monkeypatch.setenv("NEURALCORE_ISA", forced)
    precisions = (Precision.INT8, Precision.FP32, Precision.FP16, Precision.BF16)
    assert tuple(choose_isa(precision) for precision in precisions) == expected
    assert tuple(not absence(precision) for precision in precisions) == tuple(isa is not None for isa in expected)


@pytest.mark.parametrize("forced", ["amx", "sse9"])
def test_instruction_set_that_this_cpu_lacks_is_an_error_for_every_precision(forced, become, monkeypatch):
    become(ZEN4)
    monkeypatch.setenv("NEURALCORE_ISA", forced)
    for precision in (Precision.INT8, *FLOATS):
        with pytest.raises(ProviderUnavailable, match="NEURALCORE_ISA asks for it"):
            choose_isa(precision)


def test_bf16_on_a_cpu_without_it_is_refused_by_the_name_of_the_instruction(tmp_path, become, monkeypatch):
    monkeypatch.delenv("NEURALCORE_ISA", raising=False)
    path = packed(native_stack("bert"), Precision.BF16, tmp_path)
    become(HASWELL)
    with pytest.raises(ProviderUnavailable, match="bf16 is computed by avx512_bf16, which is not in this CPU"):
        open_packed(path)
