"""INT8 by the native kernels: near fp32, the same whatever stands beside a text, and never crashing."""

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import pairwise, product
from math import erf
from pathlib import Path

import numpy as np
import pytest
from benchmarks.texts import raw_sentences, real_paragraphs, real_sentences
from hypothesis import given
from hypothesis import strategies as st

from neuralcore.embedding import (
    EmbeddingEngine,
    InferenceError,
    InputError,
    ModelConfig,
    ModelCorrupt,
    OutOfMemory,
    PoolingStrategy,
    ProviderUnavailable,
    UnsupportedModel,
    VerificationFailed,
)
from neuralcore.embedding.backends.native.encoder import NativeEncoder
from neuralcore.embedding.backends.native.kernels import choose_isa, compiled_isas, is_usable
from neuralcore.embedding.config import Dense
from neuralcore.embedding.families.forward import run
from neuralcore.embedding.families.stack import DenseStep, Linear
from neuralcore.embedding.pooling import normalize, pool
from neuralcore.embedding.precision import packing
from neuralcore.embedding.types import Precision, TokenBatch
from tests import checkpoints, tiny_model
from tests.golden import hidden_states
from tests.native_stacks import PARAMETERS, native_stack, pack
from tests.stacks import stack_of

pytestmark = pytest.mark.skipif(not compiled_isas(), reason="this installation has no native kernels")


def tokens_of(texts) -> TokenBatch:
    lengths = np.array([len(text) for text in texts], np.int64)
    return TokenBatch(np.concatenate(texts).astype(np.int32), np.concatenate([[0], np.cumsum(lengths)]), lengths)


def random_texts(n, longest, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(2, checkpoints.VOCABULARY, random.integers(1, longest + 1)) for _ in range(n)]


@pytest.fixture(scope="module", params=checkpoints.MAKERS)
def packed(request, tmp_path_factory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    maker = checkpoints.MAKERS[request.param](checkpoints.SEEDS[request.param])
    path = folder / "packed.safetensors"
    pack(stack_of(maker.save(folder), maker.architecture), tokens_of(random_texts(60, 40, seed=9)), path)
    return request.param, path


def open_packed(path, pooling=PoolingStrategy.MEAN, *, normalized=True, **options) -> NativeEncoder:
    config = ModelConfig(
        name="random", dimension=checkpoints.HIDDEN, max_tokens=64, pooling=pooling, normalize=normalized
    )
    return NativeEncoder(path, config, **options)


@pytest.fixture(params=[name for name in compiled_isas() if is_usable(name, Precision.INT8)])
def isa(request, monkeypatch) -> str:
    """Each instruction set of this CPU; native/check runs the kernels of the others."""
    monkeypatch.setenv("NEURALCORE_ISA", request.param)
    return request.param


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last_token"])
@pytest.mark.parametrize("normalized", [True, False])
def test_vectors_are_near_those_of_transformers(packed, isa, pooling, normalized):
    name, path = packed
    strategy = PoolingStrategy(pooling)
    encoder = open_packed(path, strategy, normalized=normalized)
    assert encoder.isa == isa
    for shape, (ids, mask) in checkpoints.batches(name).items():
        lengths = mask.sum(axis=1)
        expected = pool(hidden_states(name)[shape], lengths, strategy)
        expected = normalize(expected) if normalized else expected
        found = encoder.encode(tokens_of([row[:length] for row, length in zip(ids, lengths, strict=True)]))
        cosines = (normalize(found) * normalize(expected)).sum(axis=1)
        # One short text of this model is far off: with 48 components, in blocks of 16, the transform spreads little.
        least, most = (0.97, 0.24) if name == "nomic_hub" else (0.99, 0.14)
        assert cosines.min() > least, shape
        assert np.linalg.norm(found - expected, axis=1).max() < most * np.linalg.norm(expected, axis=1).max()


def test_400_random_texts_are_near_fp32(packed, tmp_path):
    name, path = packed
    maker = checkpoints.MAKERS[name](checkpoints.SEEDS[name])
    stack = stack_of(maker.save(tmp_path), maker.architecture)
    texts = random_texts(400, 40, seed=3)
    expected = [run(stack, text.astype(np.int32)).mean(axis=0) for text in texts]
    cosines = (normalize(np.stack(expected)) * open_packed(path).encode(tokens_of(texts))).sum(axis=1)
    # See above of the first: 0.998998.
    assert cosines.mean() >= (0.9989 if name == "nomic_hub" else 0.999)
    assert cosines.min() >= 0.99


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_text_alone_equals_text_in_any_batch_bit_for_bit(packed, isa, threads):
    encoder, alone = open_packed(packed[1], threads=threads), open_packed(packed[1], threads=1)
    texts = random_texts(40, 60)
    expected = np.concatenate([alone.encode(tokens_of([text])) for text in texts])
    order = np.random.default_rng(1).permutation(len(texts))
    for size in (1, 3, 7, 40):
        for start in range(0, len(texts), size):
            rows = order[start : start + size]
            np.testing.assert_array_equal(encoder.encode(tokens_of([texts[i] for i in rows])), expected[rows])


@pytest.fixture(scope="module", params=PARAMETERS)
def made(request, tmp_path_factory) -> tuple[str, Path]:
    """An encoder of the features of a family."""
    path = tmp_path_factory.mktemp(request.param) / "packed.safetensors"
    pack(native_stack(request.param), tokens_of(random_texts(60, 40, seed=9)), path)
    return request.param, path


def expected_means(stack, tokens):
    """Unit-length means of what the reference makes of each text."""
    x = run(stack, tokens.ids, tokens.offsets.tolist())
    return normalize(np.stack([x[start:end].mean(axis=0) for start, end in pairwise(tokens.offsets)]))


def test_features_of_every_family_are_near_fp32(made):
    name, path = made
    tokens = tokens_of(random_texts(400, 40, seed=3))
    cosines = (expected_means(native_stack(name), tokens) * open_packed(path).encode(tokens)).sum(axis=1)
    assert cosines.mean() >= 0.999
    assert cosines.min() >= 0.99


def test_features_of_every_family_give_the_same_bits_in_any_batch(made):
    texts = random_texts(40, 64)
    with closing(open_packed(made[1])) as encoder:
        expected = np.concatenate([encoder.encode(tokens_of([text])) for text in texts])
    order = np.random.default_rng(1).permutation(len(texts))
    for threads, size in product((1, 2, 3), (1, 3, 40)):
        with closing(open_packed(made[1], threads=threads)) as encoder:
            for start in range(0, len(texts), size):
                rows = order[start : start + size]
                np.testing.assert_array_equal(encoder.encode(tokens_of([texts[i] for i in rows])), expected[rows])


def dense_steps(n_in):
    """Of every shape that there is: smaller, larger with a residual product, the same with a plain residual."""
    random = np.random.default_rng(6)

    def step(n_in, n_out, activation, *, bias, residual):
        def values(*shape):
            return random.normal(0, n_in**-0.5, shape).astype(np.float32)

        linear = Linear(values(n_out, n_in).T, values(n_out) if bias else None)
        through = Linear(values(n_out, n_in).T) if residual and n_in != n_out else None
        told = Dense(n_in=n_in, n_out=n_out, activation=activation, bias=bias, residual=residual)
        return DenseStep(told, linear, through)

    return [
        step(n_in, 20, "tanh", bias=True, residual=False),
        step(20, 50, "gelu", bias=False, residual=True),
        step(50, 50, "sigmoid", bias=True, residual=True),
    ]


def test_steps_behind_several_poolings_are_near_fp32(tmp_path):
    steps, path = dense_steps(2 * checkpoints.HIDDEN), tmp_path / "packed.safetensors"
    pack(native_stack("bert"), tokens_of(random_texts(60, 40, seed=9)), path, dense=steps)
    poolings = PoolingStrategy.CLS, PoolingStrategy.WEIGHTED_MEAN
    config = ModelConfig(
        name="steps", dimension=50, max_tokens=64, pooling=poolings, dense=tuple(step.dense for step in steps)
    )
    tokens = tokens_of(random_texts(50, 40))
    hidden = run(native_stack("bert"), tokens.ids, tokens.offsets.tolist()).astype(np.float64)
    texts = [hidden[start:end] for start, end in pairwise(tokens.offsets)]
    places = [np.arange(1, len(text) + 1) / np.arange(1, len(text) + 1).sum() for text in texts]
    x = np.stack([np.concatenate([text[0], place @ text]) for text, place in zip(texts, places, strict=True)])
    x = np.tanh(x @ steps[0].linear.weight + steps[0].linear.bias)
    y = x @ steps[1].linear.weight
    x = y * (1 + np.vectorize(erf)(y / 2**0.5)) / 2 + x @ steps[1].residual.weight
    x = 1 / (1 + np.exp(-(x @ steps[2].linear.weight + steps[2].linear.bias))) + x
    with closing(NativeEncoder(path, config)) as encoder:
        cosines = (normalize(x) * encoder.encode(tokens)).sum(axis=1)
    assert cosines.min() > 0.998
    with pytest.raises(UnsupportedModel, match=r"takes 96 components, .* give 48"):
        NativeEncoder(path, ModelConfig(name="other", dimension=50, max_tokens=64))


@given(st.lists(st.integers(0, 30), max_size=12), st.integers(0, 2**31))
def test_any_lengths_keep_order_and_texts_without_tokens_are_0(lengths, seed):
    encoder = ENCODERS["bert"]
    random = np.random.default_rng(seed)
    texts = [random.integers(2, checkpoints.VOCABULARY, length) for length in lengths]
    if not texts:
        assert encoder.encode(
            TokenBatch(np.zeros(0, np.int32), np.zeros(1, np.int64), np.zeros(0, np.int64))
        ).shape == (0, 48)
        return
    found = encoder.encode(tokens_of(texts))
    for text, vector in zip(texts, found, strict=True):
        assert np.linalg.norm(vector) == pytest.approx(1 if len(text) else 0, abs=1e-5)


ENCODERS: dict[str, NativeEncoder] = {}


@pytest.fixture(scope="module", autouse=True)
def _encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    maker = checkpoints.bert(11)
    path = folder / "packed.safetensors"
    pack(stack_of(maker.save(folder), maker.architecture), tokens_of(random_texts(60, 40, seed=9)), path)
    ENCODERS["bert"] = open_packed(path, threads=2)


def test_tokens_beyond_the_model_are_errors_above_the_kernels():
    encoder = ENCODERS["bert"]
    for wrong in ([checkpoints.VOCABULARY], [-1], [2**31 - 1], [-(2**31)]):
        with pytest.raises(InputError, match=r"text 1: token id -?[0-9]+ is beyond the 120 words"):
            encoder.encode(tokens_of([np.array([5, 6]), np.array(wrong)]))
    with pytest.raises(InferenceError, match="65 tokens, for 64 positions"):
        encoder.encode(tokens_of([np.full(65, 4)]))


def test_ids_of_another_type_are_refused_above_the_kernels():
    tokens = tokens_of([np.array([5, 6, 7])])
    with pytest.raises(ValueError, match="an array of int64, not i4"):
        ENCODERS["bert"].encode(replace(tokens, ids=tokens.ids.astype(np.int64)))
    with pytest.raises(ValueError, match="not contiguous"):
        ENCODERS["bert"].encode(replace(tokens, ids=np.repeat(tokens.ids, 2)[::2]))


@pytest.mark.parametrize("value", [0.0, 1e30, -1e30, np.inf, np.nan])
@pytest.mark.parametrize("tensor", ["layers.0.qkv.column_scale", "layers.1.down.bias", "positions", "word_scale"])
def test_no_value_of_a_weight_crashes_the_kernels(tmp_path, isa, value, tensor):
    from neuralcore.embedding.backends.native.file import read_packed, write_packed

    maker = checkpoints.bert(11)
    path = tmp_path / "packed.safetensors"
    pack(stack_of(maker.save(tmp_path), maker.architecture), tokens_of(random_texts(5, 9)), path)
    tensors, about = read_packed(path)
    changed = {name: np.array(values) for name, values in tensors.items()}
    changed[tensor][...] = value
    write_packed(tmp_path / "changed.safetensors", changed, about)
    if not np.isfinite(value):
        with pytest.raises(ModelCorrupt, match=f"NaN or infinity in {tensor}"):
            open_packed(tmp_path / "changed.safetensors")
        return
    encoder = open_packed(tmp_path / "changed.safetensors")
    try:
        assert np.isfinite(encoder.encode(tokens_of(random_texts(4, 30)))).all()
    except InferenceError as error:
        assert "not finite" in str(error)  # noqa: PT017 - either is right


def test_mpnet_takes_as_many_tokens_as_stand_behind_its_pad_position(tmp_path):
    """Its 20 rows are those of the pad token, one before it and 18 for tokens: transformers fails past those."""
    maker = checkpoints.mpnet(12, n_positions=20)
    path = tmp_path / "packed.safetensors"
    pack(stack_of(maker.save(tmp_path), maker.architecture), tokens_of(random_texts(30, 15)), path)
    encoder = open_packed(path)
    assert encoder.max_tokens == 18
    assert np.isfinite(encoder.encode(tokens_of([np.full(18, 4)]))).all()
    for n_tokens in (19, 20):
        with pytest.raises(InferenceError, match=f"{n_tokens} tokens, for 18 positions"):
            encoder.encode(tokens_of([np.full(n_tokens, 4)]))


def test_memory_bound_is_kept_or_refused():
    with pytest.raises(OutOfMemory, match="max_memory_bytes=1000 is too low"):
        open_packed_copy(max_memory_bytes=1000).encode(tokens_of([np.full(30, 4)]))
    texts = random_texts(40, 60)
    small = open_packed_copy(max_memory_bytes=600_000, threads=2)
    np.testing.assert_array_equal(small.encode(tokens_of(texts)), ENCODERS["bert"].encode(tokens_of(texts)))


def open_packed_copy(**options) -> NativeEncoder:
    config = ModelConfig(name="random", dimension=checkpoints.HIDDEN, max_tokens=64)
    return NativeEncoder(ENCODERS["bert"].path, config, **options)


@pytest.mark.parametrize(("n_texts", "n_groups"), [(1, 1), (2, 1), (8, 1), (200, None)])
def test_few_short_texts_are_one_group_for_all_threads(n_texts, n_groups):
    with closing(open_packed_copy(threads=2)) as encoder:
        lengths = np.full(n_texts, 9)
        groups = encoder._plan(encoder._opened(), lengths, 2)
        assert sorted(np.concatenate(groups)) == list(range(n_texts))
        assert len(groups) == n_groups if n_groups else len(groups) > 1
        lone = encoder._plan(
            encoder._opened(), lengths, 1
        )  # less than all threads: no team, so no group beyond the budget
        assert max(int(lengths[group].sum()) for group in lone) <= encoder.budget_tokens


def test_callers_in_many_threads_get_their_own_vectors():
    encoder, texts = ENCODERS["bert"], random_texts(60, 40)
    expected = [encoder.encode(tokens_of([text])) for text in texts]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda text: encoder.encode(tokens_of([text])), texts * 5))
    for number, vector in enumerate(found):
        np.testing.assert_array_equal(vector, expected[number % len(texts)])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_starts_threads_of_its_own():
    encoder, texts = ENCODERS["bert"], random_texts(30, 40)
    expected = encoder.encode(tokens_of(texts))
    encoder.encode(tokens_of(texts[:1]))
    child = os.fork()
    if child == 0:
        same = np.array_equal(encoder.encode(tokens_of(texts)), expected)
        same = same and np.array_equal(encoder.encode(tokens_of(texts[:1])), expected[:1])
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_closed_encoder_says_so():
    encoder = open_packed_copy(threads=2)
    encoder.encode(tokens_of(random_texts(1, 5)))
    encoder.close()
    encoder.close()
    with pytest.raises(InferenceError, match="closed"):
        encoder.encode(tokens_of(random_texts(2, 5)))


def test_instruction_set_that_is_not_here_is_an_error(monkeypatch, tiny_folder, tmp_path):
    monkeypatch.setenv("NEURALCORE_ISA", "sse9")
    with pytest.raises(ProviderUnavailable, match="NEURALCORE_ISA"):
        EmbeddingEngine.from_pretrained(tiny_folder, precision="int8", cache_dir=tmp_path)


def test_engine_takes_the_kernels_unless_they_are_switched_off(monkeypatch, tiny_folder, tmp_path):
    with EmbeddingEngine.from_pretrained(tiny_folder, precision="int8", cache_dir=tmp_path) as engine:
        assert engine.backend == f"native {choose_isa()}"
        assert engine.precision == "int8"
        copy = pickle.loads(pickle.dumps(engine))
        np.testing.assert_array_equal(copy.embed("the cat"), engine.embed("the cat"))
        fingerprint = engine.fingerprint
    monkeypatch.setenv("NEURALCORE_ISA", "none")
    with EmbeddingEngine.from_pretrained(tiny_folder, precision="int8", cache_dir=tmp_path) as engine:
        assert engine.backend == "onnxruntime cpu"
        assert replace(engine.fingerprint, backend=fingerprint.backend) == fingerprint


def test_packed_file_is_found_again_when_its_checkpoint_is_gone(tmp_path, monkeypatch):
    """The tiny folder stands in for a checkpoint of the Hub's cache that was cleaned."""
    folder = tiny_model.write(tmp_path / "tiny")
    with EmbeddingEngine.from_pretrained(folder, precision="int8", cache_dir=tmp_path / "cache") as engine:
        expected = engine.embed("the cat")
        path, tokenizer = engine._model_path, path_of_tokenizer(engine)
        config, fingerprint = engine.config, engine.fingerprint
    with EmbeddingEngine(path, tokenizer, config) as engine:
        np.testing.assert_array_equal(engine.embed("the cat"), expected)
        assert engine.precision == "int8"
        assert engine.fingerprint == fingerprint


def path_of_tokenizer(engine) -> Path:
    return engine._model_path.parent.with_name("source") / "tokenizer.json"


def test_model_too_far_from_fp32_is_refused_and_not_kept(monkeypatch, tiny_folder, tmp_path):
    def damage(stack, output_path, *, tokens, **_):
        from neuralcore.embedding.backends.native.file import read_packed, write_packed

        pack(stack, tokens, output_path)
        tensors, about = read_packed(output_path)
        tensors = {name: np.array(values) for name, values in tensors.items()}
        tensors["layers.1.down.column_scale"] *= 1.5
        write_packed(output_path, tensors, about)

    monkeypatch.setattr(packing, "pack_model", damage)
    with pytest.raises(VerificationFailed):
        EmbeddingEngine.from_pretrained(tiny_folder, precision="int8", cache_dir=tmp_path)
    assert not list(tmp_path.glob("models/*/*/int8-native"))


def test_native_engine_loads_neither_onnxruntime_nor_onnx(tiny_folder, tmp_path):
    EmbeddingEngine.from_pretrained(tiny_folder, precision="int8", cache_dir=tmp_path).close()
    code = (
        "import sys; from neuralcore.embedding import EmbeddingEngine as E;"
        f"E.from_pretrained({str(tiny_folder)!r}, precision='int8', cache_dir={str(tmp_path)!r}).embed('the cat');"
        "print(sorted({'onnxruntime', 'onnx', 'safetensors', 'huggingface_hub'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Texts of the documentation of Python; calibration has seen none of them."""
    return [*real_sentences(500), *raw_sentences(450), *real_paragraphs(60), "", "a", "?"]


@pytest.fixture(scope="module")
def native_minilm(minilm_cache):
    with EmbeddingEngine.from_pretrained(
        "all-MiniLM-L6-v2", precision="int8", cache_dir=minilm_cache, threads=2
    ) as engine:
        yield engine


def test_minilm_stays_near_fp32_in_a_quarter_of_the_size(native_minilm, minilm, texts):
    cosines = (native_minilm.embed_batch(texts) * minilm.embed_batch(texts)).sum(axis=1)
    assert cosines.mean() >= 0.9995
    assert cosines.min() >= 0.998
    assert native_minilm._model_path.stat().st_size <= 0.262 * 90_868_376  # the checkpoint


@pytest.mark.parametrize("n_texts", [200, pytest.param(1000, marks=pytest.mark.full)])
def test_minilm_gives_bit_for_bit_the_same_vectors_in_any_batch(native_minilm, minilm_cache, texts, n_texts):
    texts = texts[:n_texts]
    expected = np.stack([native_minilm.embed(text) for text in texts])
    with EmbeddingEngine.from_pretrained(
        "all-MiniLM-L6-v2", precision="int8", cache_dir=minilm_cache, threads=1
    ) as single:
        np.testing.assert_array_equal(single.embed_batch(texts), expected)
    order = np.random.default_rng(4).permutation(len(texts))
    for size in (3, 33, 256, len(texts)):
        for start in range(0, len(texts), size):
            rows = order[start : start + size]
            np.testing.assert_array_equal(native_minilm.embed_batch([texts[i] for i in rows]), expected[rows])
