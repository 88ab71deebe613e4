"""Models that are a table: what their vectors are, in any batch, and what cannot be done with them."""

import json
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from neuralcore.embedding import (
    EmbeddingEngine,
    FingerprintMismatch,
    InferenceError,
    InputError,
    ModelConfig,
    ModelCorrupt,
    ProviderUnavailable,
    UnsupportedModel,
    check_fingerprint,
    verify_model,
)
from neuralcore.embedding.backends.static.encoder import BLOCK_TOKENS, StaticEncoder
from neuralcore.embedding.convert import convert_model
from neuralcore.embedding.store import make_store
from neuralcore.embedding.types import TokenBatch
from tests.altered_folders import TEXTS, static

N_ROWS, SIZE = 50, 8
CONFIG = ModelConfig(name="table", dimension=SIZE, max_tokens=10**6, normalize=False)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "model.safetensors"
    rows = np.random.RandomState(1).normal(0, 2, (N_ROWS, SIZE)).astype(np.float32)
    save_file({"embedding.weight": rows}, path)
    return path, rows


@pytest.fixture
def folder(tmp_path):
    return static.static(tmp_path / "model")


def batch(*texts) -> TokenBatch:
    lengths = np.array([len(ids) for ids in texts], np.int64)
    ids = np.array([token for ids in texts for token in ids], np.int32)
    return TokenBatch(ids, np.concatenate([[0], np.cumsum(lengths)]), lengths)


def random_ids(random, length) -> list[int]:
    return random.randint(0, N_ROWS, length).tolist()


@settings(max_examples=30)
@given(
    lengths=st.lists(st.sampled_from([0, 1, 2, 7, 300, BLOCK_TOKENS, BLOCK_TOKENS + 1, 3000]), max_size=12),
    seed=st.integers(0, 99),
)
def test_vectors_are_means_and_equal_bit_for_bit_in_any_batch(table, lengths, seed):
    path, rows = table
    random = np.random.RandomState(seed)
    texts = [random_ids(random, length) for length in lengths]
    encoder = StaticEncoder(path, CONFIG)
    together = encoder.encode(batch(*texts))
    assert together.shape == (len(texts), SIZE)
    for text, vector in zip(texts, together, strict=True):
        mean = rows[text].astype(np.float64).mean(axis=0) if text else np.zeros(SIZE)
        np.testing.assert_allclose(vector, mean, rtol=0, atol=2e-6)
        np.testing.assert_array_equal(encoder.encode(batch(text))[0], vector)


def test_every_text_is_told_once(table):
    told = []
    StaticEncoder(table[0], CONFIG).encode(batch(*([[1, 2]] * 3000), [], [3] * 5000), told.append)
    assert sum(told) == 3002


def test_unit_length_leaves_the_zero_vector_as_it_is(table):
    config = ModelConfig(name="table", dimension=SIZE, max_tokens=10**6)
    some, none = StaticEncoder(table[0], config).encode(batch([1, 2, 3], []))
    assert np.linalg.norm(some) == pytest.approx(1, abs=1e-6)
    assert not none.any()


def test_token_beyond_the_table_is_refused_with_its_text(table):
    with pytest.raises(InputError, match="text 1"):
        StaticEncoder(table[0], CONFIG).encode(batch([1], [N_ROWS]))


def test_row_that_is_not_finite_is_an_error(tmp_path):
    rows = np.ones((3, SIZE), np.float32)
    rows[2, 5] = np.inf
    save_file({"embedding.weight": rows}, tmp_path / "model.safetensors")
    encoder = StaticEncoder(tmp_path / "model.safetensors", CONFIG)
    assert encoder.encode(batch([0, 1])).tolist() == [[1.0] * SIZE]
    with pytest.raises(InferenceError, match="not finite"):
        encoder.encode(batch([0, 2]))


def test_configuration_of_another_size_is_refused(table):
    with pytest.raises(UnsupportedModel, match="8 components"):
        StaticEncoder(table[0], ModelConfig(name="x", dimension=9, max_tokens=10))


def test_after_close_there_is_an_error(table):
    encoder = StaticEncoder(table[0], CONFIG)
    encoder.close()
    encoder.close()
    with pytest.raises(InferenceError, match="closed"):
        encoder.encode(batch([1]))


def test_text_of_any_length_is_read_whole(folder, tmp_path):
    """Its mean, against Hugging Face's ids of the whole text and a float64 mean."""
    text = "the red cat ran under a big tree, not on the mat. " * 6_000
    rows = load_file(folder / "model.safetensors")["embedding.weight"].astype(np.float64)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    mean = rows[ids].mean(axis=0)
    with EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache", truncation="error") as engine:
        np.testing.assert_allclose(engine.embed(text), mean / np.linalg.norm(mean), rtol=0, atol=1e-5)
        assert engine.count_tokens([text]).tolist() == [len(ids)]
        assert len(ids) < engine.max_tokens == 2**31 - 1


def test_engine_says_what_it_is(folder, tmp_path):
    with EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache") as engine:
        assert (engine.backend, engine.device, str(engine.precision)) == ("static", "cpu", "fp32")
        assert engine.dimension == static.SIZE
        vectors = engine.embed_batch(TEXTS)
        again = pickle.loads(pickle.dumps(engine))
        np.testing.assert_array_equal(again.embed_batch(TEXTS[::-1])[::-1], vectors)
        np.testing.assert_array_equal(np.concatenate(list(engine.embed_stream(iter(TEXTS)))), vectors)
        assert engine.embed("").tolist() == [0] * static.SIZE  # no token at all
        again.close()


def test_limit_can_be_set(folder, tmp_path):
    with EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache", max_tokens=3) as engine:
        assert engine.max_tokens == 3
        np.testing.assert_array_equal(engine.embed("the cat sat on the mat"), engine.embed("the cat sat"))


def test_files_of_ones_own_give_the_same_vectors(folder, tmp_path):
    with EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache") as engine:
        expected, fingerprint = engine.embed_batch(TEXTS), engine.fingerprint
    with EmbeddingEngine(folder / "model.safetensors", folder / "tokenizer.json") as engine:
        np.testing.assert_array_equal(engine.embed_batch(TEXTS), expected)
        check_fingerprint(fingerprint, engine.fingerprint, strict=True)


def test_other_rows_are_another_space(folder, tmp_path):
    other = static.static(tmp_path / "other")
    save_file({"embedding.weight": static.table(seed=8)}, other / "model.safetensors")
    with (
        EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache") as one,
        EmbeddingEngine.from_pretrained(other, cache_dir=tmp_path / "cache") as two,
        pytest.raises(FingerprintMismatch, match="weights"),
    ):
        check_fingerprint(one.fingerprint, two.fingerprint)


def test_table_that_has_changed_is_read_anew(folder, tmp_path):
    with EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache") as engine:
        before = engine.embed("cat")
    (folder / "model.safetensors").unlink()
    save_file({"embedding.weight": static.table(n_columns=16, seed=8)}, folder / "model.safetensors")
    with EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache") as engine:
        assert engine.embed("cat").shape == (16,) != before.shape


def test_nothing_large_is_kept_in_the_cache(folder, tmp_path):
    EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache").close()
    kept = [path.name for path in (tmp_path / "cache/models").rglob("*") if path.is_file()]
    assert kept == ["manifest.json"]


@pytest.mark.parametrize("precision", ["fp16", "int8", "dynamic-int8"])
def test_other_precision_is_refused_with_the_reason(folder, tmp_path, precision):
    with pytest.raises(UnsupportedModel, match="a table of vectors"):
        EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache", precision=precision)


def test_conversion_is_refused_with_the_reason(folder, tmp_path):
    with pytest.raises(UnsupportedModel, match="no graph to write"):
        convert_model(folder, tmp_path / "out", store=make_store(tmp_path / "cache"))
    assert not (tmp_path / "out").exists()


def test_device_is_the_cpu(folder, tmp_path):
    for device in ("cpu", "auto"):
        EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache", device=device).close()
    with pytest.raises(ProviderUnavailable, match="table of vectors"):
        EmbeddingEngine(folder / "model.safetensors", folder / "tokenizer.json", device="cuda")


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:40], lambda data: b""])
def test_damaged_file_is_named(folder, tmp_path, damage):
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelCorrupt, match=r"model\.safetensors"):
        EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache")


def test_neither_session_nor_kernels_are_loaded(folder, tmp_path):
    code = f"""
import sys
from neuralcore.embedding import EmbeddingEngine
engine = EmbeddingEngine.from_pretrained({str(folder)!r}, cache_dir={str(tmp_path / "cache")!r})
engine.embed("a cat")
print([name for name in ("onnxruntime", "onnx", "torch", "safetensors") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.replace("'", '"')) == []


def test_folder_in_the_names_of_the_first_model2vec_is_found_by_its_kind(tmp_path):
    folder = static.model2vec(tmp_path / "model")
    (folder / "modules.json").unlink()
    shutil.copytree(folder, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "other/config.json").write_text(json.dumps({**config, "model_type": "model3vec"}))
    EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache").close()
    with pytest.raises(UnsupportedModel, match="model3vec"):
        EmbeddingEngine.from_pretrained(tmp_path / "other", cache_dir=tmp_path / "cache")


def test_file_that_is_written_to_while_it_is_in_use_is_refused_and_one_in_its_place_is_not(folder, tmp_path):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    with EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache") as engine:
        vector = engine.embed("the cat")
        (tmp_path / "other").write_bytes(whole[:100])
        path.rename(tmp_path / "whole")
        (tmp_path / "other").rename(path)
        np.testing.assert_array_equal(engine.embed("the cat"), vector)
        (tmp_path / "whole").rename(path)
        with path.open("r+b") as file:
            file.truncate(100)
        with pytest.raises(ModelCorrupt, match="Load the model again"):
            engine.embed("the cat")


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:Importing from 'sentence_transformers.models':DeprecationWarning")
@pytest.mark.parametrize("name", ["static", "in_its_own_folder", "model2vec", "model2vec_without_modules"])
def test_it_is_verified_against_sentence_transformers(tmp_path, name):
    folder = next(folder for folder in static.FOLDERS if folder.name == name)
    agreement = verify_model(folder.write(tmp_path / "model"), texts=TEXTS, cache_dir=tmp_path / "cache")
    assert agreement.min_cosine > 0.999999
