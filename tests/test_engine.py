import pickle
import subprocess
import sys
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest

from neuralcore.embedding import (
    EmbeddingEngine,
    EmbeddingType,
    InferenceError,
    InputError,
    ModelConfig,
    ModelCorrupt,
    PoolingStrategy,
    ProviderUnavailable,
    UnsupportedModel,
)
from neuralcore.embedding.store import make_store
from neuralcore.embedding.stream import WINDOW_TEXTS
from tests import tiny_model
from tests.ready import ready_graph

TEXTS = ["the cat sat on the mat", "a dog", "", "the big red tree " * 20]


@pytest.fixture
def load(tiny_folder, tmp_path):
    return lambda **options: EmbeddingEngine.from_pretrained(tiny_folder, cache_dir=tmp_path / "cache", **options)


@pytest.fixture
def engine(load):
    with load() as engine:
        yield engine


def test_vectors_have_the_promised_shape_and_type(engine):
    assert engine.embed("the cat").shape == (engine.dimension,) == (tiny_model.DIMENSION,)
    batch = engine.embed_batch(TEXTS)
    assert (batch.shape, batch.dtype) == ((4, 48), np.float32)
    np.testing.assert_allclose(np.linalg.norm(batch, axis=1), 1, atol=1e-6)


def test_no_texts_give_no_vectors(engine):
    assert engine.embed_batch([]).shape == (0, engine.dimension)
    assert list(engine.embed_stream(iter([]))) == []
    assert engine.count_tokens([]).shape == (0,)


@pytest.mark.parametrize("several", [list, tuple, iter, np.array, lambda texts: dict.fromkeys(texts).keys()])
def test_batch_takes_any_iterable(engine, several):
    np.testing.assert_allclose(engine.embed_batch(several(TEXTS)), engine.embed_batch(TEXTS), atol=1e-6)


@pytest.mark.parametrize("method", ["embed_batch", "embed_stream", "count_tokens"])
@pytest.mark.parametrize("single", ["one text", b"bytes"])
def test_one_text_where_several_belong_is_refused(engine, method, single):
    with pytest.raises(InputError, match="got one"):
        getattr(engine, method)(single)


@pytest.mark.parametrize("wrong", [None, 3, ["a"], b"bytes"])
def test_several_where_one_text_belongs_are_refused(engine, wrong):
    with pytest.raises(InputError, match="embed_batch"):
        engine.embed(wrong)


def test_error_carries_the_index_of_the_text(engine):
    texts = ["the cat"] * (WINDOW_TEXTS + 5)
    for wrong in (None, "lone \ud800 surrogate"):
        texts[WINDOW_TEXTS + 2] = wrong
        with pytest.raises(InputError) as caught:
            engine.embed_batch(texts)
        assert caught.value.index == WINDOW_TEXTS + 2


def test_a_megabyte_of_text_is_cut_like_any_other(engine):
    text = "the cat sat on the mat " * 45_000
    assert len(text) > 1_000_000
    np.testing.assert_allclose(engine.embed(text), engine.embed("the cat sat on the mat " * 10), atol=1e-6)


def test_tokens_are_counted_before_the_cut(engine):
    assert engine.count_tokens(["the cat", "", "the " * 100]).tolist() == [4, 2, 102]
    assert engine.max_tokens == 32


def test_cut_is_silent_by_default(engine):
    engine.embed(TEXTS[3])  # warnings are errors here


def test_cut_warns_when_asked(load):
    with load(truncation="warn") as engine:
        with pytest.warns(UserWarning, match="1 text was cut to 32 tokens; the first is text 3 with 82"):
            vectors = engine.embed_batch(TEXTS)
        for call in (engine.embed, engine.embed_query, lambda text: engine.tokenize([text])):
            with pytest.warns(UserWarning, match="text 0 with 82") as told:
                call(TEXTS[3])
            assert told[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            engine.embed_batch(TEXTS[:3])
    assert len(vectors) == 4


def test_length_that_is_told_is_that_of_the_whole_text(load):
    text = "the cat " * 50_000
    with load(truncation="warn") as engine, pytest.warns(UserWarning, match="text 1 with 100002"):
        engine.embed_batch(["the cat", text])
    with load(truncation="error") as engine, pytest.raises(InputError, match="text 1: 100002 tokens, the limit is 32"):
        engine.embed_batch(["the cat", text])


def test_call_of_several_windows_warns_once_of_all_that_was_cut(load):
    texts = (["the cat"] * 1000 + ["the " * 40]) * 3
    with load(truncation="warn") as engine:
        for call in (engine.embed_batch, lambda texts: list(engine.embed_stream(texts))):
            with pytest.warns(UserWarning, match="texts were cut") as told:
                call(iter(texts))
            assert told[0].filename == __file__
            assert [str(one.message) for one in told] == [
                "3 texts were cut to 32 tokens; the first is text 1000 with 42"
            ]


def test_stream_that_is_left_early_warns_of_what_was_cut_so_far(load):
    with load(truncation="warn") as engine:
        stream = engine.embed_stream(["the " * 40] * 5000)
        next(stream)
        with pytest.warns(UserWarning, match="2048 texts were cut") as told:  # one window is read ahead
            stream.close()
    assert len(told) == 1
    assert told[0].filename == __file__


def test_cut_is_an_error_when_asked(load):
    with load(truncation="error") as engine, pytest.raises(InputError) as caught:
        engine.embed_batch(TEXTS)
    assert (caught.value.index, caught.value.limit) == (3, 32)


def test_limit_can_be_set_up_to_the_positions(load):
    with load(max_tokens=64) as longer, load(max_tokens=8) as shorter:
        assert (longer.max_tokens, shorter.max_tokens) == (64, 8)
        assert np.abs(longer.embed(TEXTS[3]) - shorter.embed(TEXTS[3])).max() > 1e-3
    with pytest.raises(InputError, match="at most 64"):
        load(max_tokens=65)


@pytest.mark.parametrize("threads", [20_000, 2**31, 2**32, 2**64])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_threads_are_no_more_than_the_process_may_use_and_the_log_says_so(threads, precision, load, caplog):
    from neuralcore.embedding.cpu import available_threads

    with load(threads=threads, precision=precision) as engine:
        assert engine.threads == available_threads()
        assert f"threads={threads}: this process may use {available_threads()}" in caplog.text
        assert engine.embed_batch(TEXTS).shape == (len(TEXTS), 48)
        assert np.isfinite(engine.embed(TEXTS[0])).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"threads": 0},
        {"threads": -1},
        {"threads": True},
        {"threads": 2.0},
        {"threads": "2"},
        {"max_memory_bytes": -1},
        {"max_memory_bytes": "1 GB"},
        {"max_memory_bytes": True},
        {"dimensions": 8.0},
        {"truncation": "maybe"},
        {"dimensions": 0},
        {"dimensions": 49},
        {"device": "tpu"},
        {"precision": "int3"},
        {"max_tokens": 2},
    ],
)
def test_options_out_of_range_are_refused(load, wrong):
    with pytest.raises(InputError):
        load(**wrong)


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_device_that_is_not_there_is_an_error(load, device):
    with pytest.raises(ProviderUnavailable, match=device):
        load(device=device)


def test_auto_takes_the_cpu_here(load):
    with load(device="auto") as engine:
        assert engine.device == "cpu"


def test_fewer_dimensions_are_the_first_ones_at_unit_length(load, engine):
    full = engine.embed_batch(TEXTS).astype(np.float64)[:, :10]
    with load(dimensions=10) as short:
        assert short.dimension == 10
        expected = full / np.linalg.norm(full, axis=1, keepdims=True)
        np.testing.assert_allclose(short.embed_batch(TEXTS), expected, atol=1e-6)


def test_prefixes_are_added_by_type(tmp_path):
    prompts = {"query": "red ", "document": "blue ", "clustering": "big "}
    folder = tiny_model.write(tmp_path / "asymmetric", prompts=prompts)
    plain = tiny_model.write(tmp_path / "plain")
    cache = tmp_path / "cache"
    with (
        EmbeddingEngine.from_pretrained(folder, cache_dir=cache) as asymmetric,
        EmbeddingEngine.from_pretrained(plain, cache_dir=cache) as symmetric,
    ):
        assert asymmetric.config.asymmetric
        assert not symmetric.config.asymmetric
        expected = symmetric.embed_batch(["red the cat", "blue the cat", "big the cat"])
        actual = [
            asymmetric.embed_query("the cat"),
            asymmetric.embed("the cat"),
            asymmetric.embed_batch(["the cat"], embedding_type="clustering")[0],
        ]
        np.testing.assert_allclose(np.stack(actual), expected, atol=1e-6)
        assert asymmetric.count_tokens(["the cat"], embedding_type=EmbeddingType.QUERY).tolist() == [5]
        with pytest.raises(InputError, match="clustering, document, query"):
            asymmetric.embed("the cat", embedding_type="poem")


def test_any_text_is_put_before_texts_as_a_prompt(tmp_path):
    prompts = {"query": "red ", "document": "blue "}
    own = "the tree:\n"
    with (
        EmbeddingEngine.from_pretrained(
            tiny_model.write(tmp_path / "a", prompts=prompts), cache_dir=tmp_path
        ) as engine,
        EmbeddingEngine.from_pretrained(tiny_model.write(tmp_path / "b"), cache_dir=tmp_path) as plain,
    ):
        expected = plain.embed_batch([f"{own}the cat", f"{own}a dog", "the cat"])
        alone = engine.embed("the cat", prompt=own)
        np.testing.assert_allclose(alone, expected[0], atol=1e-6)
        np.testing.assert_allclose(engine.embed("the cat", prompt=""), expected[2], atol=1e-6)
        batch = engine.embed_batch(["the cat", "a dog"], prompt=own)
        np.testing.assert_allclose(batch, expected[:2], atol=1e-6)
        blocks = list(engine.embed_stream(iter(["the cat", "a dog"]), prompt=own))
        np.testing.assert_allclose(np.concatenate(blocks), expected[:2], atol=1e-6)
        with_prompt = plain.count_tokens([f"{own}the cat"])
        np.testing.assert_array_equal(engine.count_tokens(["the cat"], prompt=own), with_prompt)
        np.testing.assert_array_equal(engine.tokenize(["the cat"], prompt=own).lengths, with_prompt)


def test_tokens_of_a_prompt_count_to_the_limit(load):
    with load(truncation="error") as strict:
        strict.embed("cat " * 25)
        with pytest.raises(InputError, match="the limit is 32") as caught:
            strict.embed("cat " * 25, prompt="the dog sat on a mat: ")
        assert caught.value.index == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"prompt": "a", "embedding_type": "query"}, "embedding_type='query' exclude each other"),
        ({"prompt": "", "embedding_type": "query"}, "exclude each other"),
        ({"prompt": 5}, "must be a str, not int"),
        ({"prompt": ["a"]}, "must be a str, not list"),
        ({"prompt": "a\ud800"}, "lone surrogate at character 1"),
    ],
)
def test_prompt_that_cannot_be_one_is_refused_before_a_text_is_read(engine, arguments, reason):
    for call in (engine.embed_batch, engine.embed_stream, engine.count_tokens, engine.tokenize, engine.tokenize_parts):
        with pytest.raises(InputError, match=reason):
            call([None], **arguments)
    with pytest.raises(InputError, match=reason):
        engine.embed("a", **arguments)


def test_stream_yields_blocks_in_order_and_reads_one_window_ahead(engine):
    read = []

    def lines():
        for number in range(5 * WINDOW_TEXTS + 3):
            read.append(number)
            yield "the cat" if number % 2 else "a dog ran"

    expected = engine.embed_batch(["a dog ran", "the cat"])
    n_seen = 0
    for block in engine.embed_stream(lines()):
        np.testing.assert_allclose(block, expected[(n_seen + np.arange(len(block))) % 2], atol=1e-6)
        n_seen += len(block)
        assert len(read) <= n_seen + 2 * WINDOW_TEXTS
    assert n_seen == len(read) == 5 * WINDOW_TEXTS + 3


def test_stream_reads_the_iterable_in_the_callers_thread(engine):
    threads = set()

    def lines():
        for _ in range(2 * WINDOW_TEXTS):
            threads.add(threading.get_ident())
            yield "the cat"

    for _ in engine.embed_stream(lines()):
        pass
    assert threads == {threading.get_ident()}


def test_error_of_the_iterable_reaches_the_caller_after_whole_blocks(engine):
    def lines():
        yield from ["the cat"] * (2 * WINDOW_TEXTS)
        raise OSError("disk gone")

    stream = engine.embed_stream(lines())
    assert len(next(stream)) == WINDOW_TEXTS
    with pytest.raises(OSError, match="disk gone"):
        next(stream)


def test_unfinished_stream_can_be_dropped(engine):
    stream = engine.embed_stream("the cat" for _ in range(10 * WINDOW_TEXTS))
    next(stream)
    stream.close()
    assert engine.embed("the cat").shape == (48,)


@pytest.fixture
def graph(tiny_folder, tmp_path):
    """The path of the folder's graph."""
    return ready_graph(make_store(tmp_path / "cache"), tiny_folder).model_path


def test_engine_from_files_equals_engine_by_folder(load, graph, tiny_folder):
    with EmbeddingEngine(graph, tiny_folder / "tokenizer.json") as own, load(backend="onnxruntime") as engine:
        assert own.config == replace(engine.config, name=own.config.name)
        np.testing.assert_array_equal(own.embed_batch(TEXTS), engine.embed_batch(TEXTS))


@pytest.mark.parametrize("pooling", list(PoolingStrategy))
@pytest.mark.parametrize("normalize", [True, False])
def test_configuration_other_than_the_graphs_is_honoured(engine, graph, tiny_folder, pooling, normalize):
    """The graph pools by mean and normalises; any other wish is computed from its token vectors."""
    config = replace(engine.config, pooling=pooling, normalize=normalize)
    hidden = run_alone(graph, engine, "a dog ran")
    wanted = {"cls": hidden[0], "max": hidden.max(axis=0), "last_token": hidden[-1]}
    places = np.arange(1, len(hidden) + 1)[:, None]
    wanted["weightedmean"] = (hidden * places).sum(axis=0) / places.sum()
    wanted["mean_sqrt_len"] = hidden.sum(axis=0) / len(hidden) ** 0.5
    expected = wanted.get(pooling, hidden.mean(axis=0))
    expected = expected / np.linalg.norm(expected) if normalize else expected
    with EmbeddingEngine(graph, tiny_folder / "tokenizer.json", config) as other:
        np.testing.assert_allclose(other.embed_batch([TEXTS[3], "a dog ran"])[1], expected, atol=4e-6)


def run_alone(model, engine, text):
    import onnxruntime

    ids = np.array([[2, *engine._tokenizer.encode([text]).ids[1:]]], np.int64)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    return session.run(["last_hidden_state"], feeds)[0][0].astype(np.float64)


def test_repository_with_an_onnx_file_works_as_it_is(graph, engine, tmp_path):
    for name in ("model.onnx", "onnx/model.onnx", "something_else.onnx"):
        folder = tmp_path / name.replace("/", "_")
        tiny_model.write(folder)
        (folder / "model.safetensors").unlink()
        place_onnx(graph, folder / name)
        with EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "unused") as as_found:
            np.testing.assert_allclose(as_found.embed_batch(TEXTS), engine.embed_batch(TEXTS), atol=1e-6)
    assert not (tmp_path / "unused").exists()


def place_onnx(built, path):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(built.read_bytes())
    (path.parent / "model.onnx.data").write_bytes(built.with_name("model.onnx.data").read_bytes())


def test_two_unusual_onnx_files_are_ambiguous(tiny_folder, tmp_path):
    (tiny_folder / "model.safetensors").unlink()
    for name in ("one.onnx", "two.onnx"):
        (tiny_folder / name).write_bytes(b"")
    with pytest.raises(UnsupportedModel, match=r"one\.onnx, two\.onnx"):
        EmbeddingEngine.from_pretrained(tiny_folder)


def test_folder_without_weights_says_what_is_missing(tiny_folder, tmp_path):
    (tiny_folder / "model.safetensors").unlink()
    (tiny_folder / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UnsupportedModel, match="pickled weights are not opened"):
        EmbeddingEngine.from_pretrained(tiny_folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UnsupportedModel, match="no model folder"):
        EmbeddingEngine.from_pretrained(empty)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "modules.json"])
def test_truncated_file_is_named(tiny_folder, tmp_path, name):
    path = tiny_folder / name
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelCorrupt) as caught:
        EmbeddingEngine.from_pretrained(tiny_folder, cache_dir=tmp_path / "cache")
    assert name in caught.value.path


def test_engine_pickles_as_how_to_load_it(engine):
    data = pickle.dumps(engine)
    assert len(data) < 2000
    with pickle.loads(data) as copy:
        np.testing.assert_array_equal(copy.embed_batch(TEXTS), engine.embed_batch(TEXTS))
        assert copy.threads == engine.threads


def test_pickled_engine_is_of_the_same_folder_wherever_it_is_loaded(tiny_folder, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tiny_folder.parent)
    with EmbeddingEngine.from_pretrained(tiny_folder.name, cache_dir=tmp_path / "cache") as made:
        data, expected = pickle.dumps(made), made.embed("a cat")
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pickle.loads(data) as copy:
        np.testing.assert_array_equal(copy.embed("a cat"), expected)


def test_engine_from_files_pickles_too(graph, tiny_folder):
    config = ModelConfig(name="own", dimension=48, max_tokens=16, pooling=PoolingStrategy.CLS)
    own = EmbeddingEngine(graph, tiny_folder / "tokenizer.json", config, threads=1)
    copy = pickle.loads(pickle.dumps(own))
    assert copy.config == config
    np.testing.assert_array_equal(copy.embed("the cat"), own.embed("the cat"))


def test_closed_engine_refuses_and_closes_twice(load):
    engine = load()
    engine.warmup()
    engine.close()
    engine.close()
    with pytest.raises(InferenceError, match="closed"):
        engine.embed("the cat")


def test_representation_says_what_it_is(engine):
    assert repr(engine).startswith("EmbeddingEngine('tiny', dimension=48, device='cpu', threads=")


def test_progress_is_silent_when_piped(engine, capfd):
    engine.embed_batch(TEXTS, progress=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
def test_vectors_that_do_not_fit_into_memory_are_said_to(tiny_folder, tmp_path):
    code = """
import resource, sys
from pathlib import Path
from neuralcore.embedding import EmbeddingEngine, OutOfMemory
engine = EmbeddingEngine.from_pretrained(sys.argv[1], cache_dir=sys.argv[2], threads=1)
texts = ["a"] * 10_000_000
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 2**30, size + 2**30))
try:
    engine.embed_batch(texts)
except OutOfMemory as error:
    print(error)
"""
    command = [sys.executable, "-c", code, str(tiny_folder), str(tmp_path / "c")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    reason = "their vectors take 1,920,000,000 bytes; embed_stream gives them in blocks"
    assert result.stdout == f"no memory for 10000000 text(s): {reason}\n"


def test_engine_left_open_lets_the_process_end(tiny_folder, tmp_path):
    code = (
        "import sys; from neuralcore.embedding import EmbeddingEngine as E;"
        "e = E.from_pretrained(sys.argv[1], cache_dir=sys.argv[2], threads=2); print(e.embed_batch(['a'] * 99).shape)"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(tiny_folder), str(tmp_path / "c")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (result.stdout, result.stderr) == ("(99, 48)\n", "")
