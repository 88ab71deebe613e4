"""Async is the engine behind a queue: the same vectors, nothing blocked, nothing lost."""

import asyncio
import inspect
import subprocess
import sys
import threading

import numpy as np
import pytest
from tokenizers import Tokenizer as HfTokenizer

from neuralcore.embedding import (
    AsyncEmbeddingEngine,
    EmbeddingEngine,
    InferenceError,
    InputError,
    OutOfMemory,
    Overloaded,
)
from neuralcore.embedding.admission import AdmissionQueue
from tests.gate import Gate, started, until

SENTENCE = "the cat sat on a big red mat under the small blue tree and the dog ran"
WORDS = SENTENCE.split()
TEXTS = [" ".join(WORDS[i % 7 : 8 + i % 7]) + f" {chr(97 + i % 26)}" for i in range(1000)]


@pytest.fixture
def tiny(tiny_folder, tmp_path):
    with EmbeddingEngine.from_pretrained(tiny_folder, cache_dir=tmp_path / "cache", threads=2) as engine:
        yield engine


def test_a_thousand_concurrent_calls_share_runs_and_the_loop_goes_on(minilm):
    expected = minilm.embed_batch(TEXTS)
    runs, beats = [], []

    async def beat():
        while True:
            beats.append(len(runs))
            await asyncio.sleep(0.001)

    async def embed_all():
        pulse = asyncio.create_task(beat())
        engine = AsyncEmbeddingEngine(minilm, on_run=lambda n_texts, n_tokens: runs.append(n_texts))
        vectors = await asyncio.gather(*map(engine.embed, TEXTS))
        pulse.cancel()
        return np.stack(vectors)

    np.testing.assert_allclose(asyncio.run(embed_all()), expected, atol=1e-5)
    assert sum(runs) == len(TEXTS)
    assert len(runs) <= len(TEXTS) / 50  # a run takes 2,048 tokens, 100 and more of these texts
    assert len(set(beats)) >= len(runs) / 2  # while most runs were under way, the loop had its turns


def test_cancelling_half_costs_the_rest_nothing(tiny):
    gate = Gate(tiny)
    expected = tiny.embed_batch(TEXTS)

    async def run():
        engine = AsyncEmbeddingEngine(gate)
        first = asyncio.create_task(engine.embed("first"))
        await started(gate)
        calls = [asyncio.create_task(engine.embed(text)) for text in TEXTS]
        await until(lambda: engine.n_waiting == len(TEXTS))
        for call in calls[::2]:
            call.cancel()
        await until(lambda: engine.n_waiting == len(TEXTS) // 2)
        gate.open.release(10_000)
        await first
        kept = np.stack(await asyncio.gather(*calls[1::2]))
        assert all(call.cancelled() for call in calls[::2])
        await engine.close()
        return kept

    np.testing.assert_allclose(asyncio.run(run()), expected[1::2], atol=1e-5)
    assert sum(gate.runs) == 1 + len(TEXTS) // 2  # what was cancelled never reached the engine


def test_full_queue_refuses_and_recovers(tiny):
    gate = Gate(tiny)

    async def run():
        engine = AsyncEmbeddingEngine(gate, max_waiting=3)
        calls = [asyncio.create_task(engine.embed("a"))]
        await started(gate)
        calls += [asyncio.create_task(engine.embed(text)) for text in "bcd"]
        await until(lambda: engine.n_waiting == 3)
        with pytest.raises(Overloaded) as caught:
            await engine.embed("e")
        assert (caught.value.queue_length, caught.value.limit) == (3, 3)
        with pytest.raises(Overloaded):
            await engine.embed_batch(["f", "g"])
        calls.pop().cancel()  # a place is free at once
        await until(lambda: engine.n_waiting == 2)
        calls.append(asyncio.create_task(engine.embed("h")))
        gate.open.release(100)
        await asyncio.gather(*calls)
        assert (await engine.embed("i")).shape == (tiny.dimension,)
        await engine.close()

    asyncio.run(run())


def test_calls_that_wait_share_a_run_within_the_budget_of_tokens(tiny):
    gate = Gate(tiny)

    async def run():
        engine = AsyncEmbeddingEngine(gate)
        first = asyncio.create_task(engine.embed("first"))
        await started(gate)
        calls = [asyncio.create_task(engine.embed(text)) for text in TEXTS]
        await until(lambda: engine.n_waiting == len(TEXTS))
        gate.open.release(10_000)
        await asyncio.gather(first, *calls)
        await engine.close()

    asyncio.run(run())
    lengths = tiny.count_tokens(TEXTS)
    budget = 1024 * tiny.threads
    assert gate.runs[0] == 1
    assert sum(gate.runs) == 1 + len(TEXTS)
    assert len(gate.runs) == pytest.approx(1 + lengths.sum() / budget, abs=1.5)


def test_large_batch_lets_others_come_between_its_parts(tiny):
    gate = Gate(tiny)

    async def run():
        engine = AsyncEmbeddingEngine(gate)
        large = asyncio.create_task(engine.encode(lambda: tiny.tokenize_parts(TEXTS)))
        await started(gate)
        single = asyncio.create_task(engine.embed("a cat"))
        gate.open.release(2)
        await single
        assert not large.done()
        gate.open.release(10_000)
        encoded = await large
        await engine.close()
        return encoded

    expected, n_tokens = tiny.embed_batch(TEXTS), tiny.count_tokens(TEXTS).sum()
    encoded = asyncio.run(run())
    np.testing.assert_allclose(encoded.vectors, expected, atol=1e-5)
    assert encoded.n_tokens == n_tokens


def test_one_bad_text_fails_alone_with_its_own_number(tiny):
    gate = Gate(tiny)

    async def run():
        engine = AsyncEmbeddingEngine(gate)
        first = asyncio.create_task(engine.embed("first"))
        await started(gate)
        good, bad = engine.embed_batch(["a cat", "a dog"]), engine.embed_batch(["fine", "\ud800"])
        calls = asyncio.gather(good, bad, engine.embed("a tree"), return_exceptions=True)
        await until(lambda: engine.n_waiting == 3)
        gate.open.release(100)
        await first
        vectors, error, vector = await calls
        await engine.close()
        return vectors, error, vector

    expected = tiny.embed_batch(["a cat", "a dog", "a tree"])
    vectors, error, vector = asyncio.run(run())
    np.testing.assert_allclose([*vectors, vector], expected, atol=1e-5)
    assert isinstance(error, InputError)
    assert error.index == 1


def test_failed_run_is_repeated_call_by_call_so_that_only_its_cause_fails(tiny):
    gate = Gate(tiny)
    poison = tiny.tokenize(["poison"]).ids

    def fail(tokens):
        if poison[1:-1].tobytes() in tokens.ids.tobytes():
            raise InferenceError("cpu", "poisoned")

    gate.fail = fail

    async def run():
        engine = AsyncEmbeddingEngine(gate)
        first = asyncio.create_task(engine.embed("first"))
        await started(gate)
        calls = asyncio.gather(*map(engine.embed, ["a cat", "poison", "a dog"]), return_exceptions=True)
        await until(lambda: engine.n_waiting == 3)
        gate.open.release(100)
        results = [await first, *await calls]
        await engine.close()
        return results

    expected = tiny.embed_batch(["first", "a cat", "a dog"])
    first, cat, error, dog = asyncio.run(run())
    np.testing.assert_allclose([first, cat, dog], expected, atol=1e-5)
    assert isinstance(error, InferenceError)


def test_close_finishes_what_waits_and_refuses_what_comes(tiny):
    gate = Gate(tiny)

    async def run():
        engine = AsyncEmbeddingEngine(gate)
        calls = [asyncio.create_task(engine.embed(text)) for text in TEXTS[:50]]
        await started(gate)
        closing = asyncio.create_task(engine.close())
        await asyncio.sleep(0.05)
        with pytest.raises(InferenceError, match="closed"):
            await engine.embed("late")
        gate.open.release(100)
        vectors = await asyncio.gather(*calls)
        await closing
        await engine.close()
        return np.stack(vectors)

    expected = tiny.embed_batch(TEXTS[:50])
    np.testing.assert_allclose(asyncio.run(run()), expected, atol=1e-5)


async def collect(stream, blocks):
    async for block in stream:
        blocks.append(block)


def test_close_finishes_a_batch_that_has_begun_whole_and_ends_a_stream(tiny):
    gate = Gate(tiny)

    async def run():
        engine = AsyncEmbeddingEngine(gate)
        batch = asyncio.create_task(engine.embed_batch(TEXTS))  # 256 texts wait at a time, 256 run
        await started(gate)
        stream = engine.embed_stream(TEXTS)
        first = asyncio.create_task(anext(stream))
        await until(lambda: engine.n_waiting >= 2)
        closing = asyncio.create_task(engine.close())
        await until(lambda: engine._queue._closed)
        gate.open.release(10_000)
        blocks = [await first]
        with pytest.raises(InferenceError, match="closed"):
            await collect(stream, blocks)
        vectors = await batch
        await closing
        return vectors, np.concatenate(blocks)

    expected = tiny.embed_batch(TEXTS)
    vectors, of_stream = asyncio.run(run())
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert 0 < len(of_stream) < len(TEXTS)
    np.testing.assert_allclose(of_stream, expected[: len(of_stream)], atol=1e-5)


class Panic(BaseException):
    """As pyo3's PanicException, which is no Exception."""


@pytest.mark.parametrize("fault", [Panic, KeyboardInterrupt, SystemExit, StopIteration, MemoryError, ZeroDivisionError])
@pytest.mark.parametrize("place", ["tokenizing", "tokenizing much", "running"])
def test_whatever_is_raised_in_the_queue_reaches_its_call_alone_and_the_queue_goes_on(tiny, fault, place):
    gate = Gate(tiny)
    expected = {Panic: InferenceError, MemoryError: OutOfMemory, ZeroDivisionError: ZeroDivisionError}

    def fail(tokens):
        if place == "running" and len(tokens) >= 3:
            raise fault("a reason")

    def tokenize():
        if place != "running":
            raise fault("a reason")
        yield tiny.tokenize(["poison"] * 3)

    gate.fail = fail

    async def run():
        engine = AsyncEmbeddingEngine(gate)
        first = asyncio.create_task(engine.embed("first"))
        await started(gate)
        bad = engine.encode(tokenize, is_small=place != "tokenizing much")
        calls = asyncio.gather(engine.embed("a cat"), bad, engine.embed("a dog"), return_exceptions=True)
        await until(lambda: engine.n_waiting >= 2)
        gate.open.release(100)
        results = [await first, *await calls, await engine.embed("later")]
        assert engine.failure is None
        return results

    async def bounded():
        async with asyncio.timeout(30):
            return await run()

    first, cat, error, dog, later = asyncio.run(bounded())
    np.testing.assert_allclose(
        [first, cat, dog, later], tiny.embed_batch(["first", "a cat", "a dog", "later"]), atol=1e-5
    )
    if fault is StopIteration and place != "running":  # a generator's own rule
        assert isinstance(error, RuntimeError)
        return
    assert type(error) is expected.get(fault, InferenceError)
    assert "a reason" in str(error)


@pytest.mark.parametrize("function", ["_begin", "_gather", "_read", "_run"])
def test_queue_whose_own_thread_fails_says_so_to_all_and_begins_anew(tiny, monkeypatch, function):
    async def run():
        engine = AsyncEmbeddingEngine(tiny)
        with monkeypatch.context() as patch:
            patch.setattr(engine._queue, function, lambda *_: (_ for _ in ()).throw(Panic("lost")))
            small = [] if function == "_read" else [engine.embed("a cat"), engine.embed("a dog")]
            calls = [*small, engine.embed_batch(["a tree"] * 50)]
            errors = await asyncio.gather(*calls, return_exceptions=True)
            assert engine.failure == "Panic"
        assert [type(each) for each in errors if isinstance(each, Exception)][-1] is InferenceError
        vectors = await asyncio.gather(engine.embed("a cat"), engine.embed_batch(["a tree"] * 50))
        assert engine.failure is None
        return vectors

    async def bounded():
        async with asyncio.timeout(30):
            return await run()

    cat, trees = asyncio.run(bounded())
    np.testing.assert_allclose([cat, trees[0]], tiny.embed_batch(["a cat", "a tree"]), atol=1e-5)


def test_call_for_which_no_thread_can_be_started_is_refused(tiny, monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    async def run():
        engine = AsyncEmbeddingEngine(tiny)
        with monkeypatch.context() as patch:
            patch.setattr("neuralcore.embedding.workers.start_new_thread", refuse)
            with pytest.raises(InferenceError, match="can't start new thread"):
                await engine.embed("a cat")
        assert "can't start" in engine.failure
        assert engine.n_waiting == 0
        assert (await engine.embed("a cat")).shape == (tiny.dimension,)
        assert engine.failure is None

    asyncio.run(run())


def test_small_call_runs_beside_a_large_one_that_leaves_it_a_thread(tiny):
    gate = Gate(tiny)
    gate.only_large = True

    async def run():
        engine = AsyncEmbeddingEngine(gate)
        large = asyncio.create_task(engine.embed_batch(TEXTS))
        await started(gate)
        vectors = [await engine.embed(text) for text in ("a cat", "a dog", "a tree")]  # nobody opens the gate
        assert not large.done()
        assert engine._queue._threads_now() == tiny.threads - 1
        gate.open.release(10_000)
        await large
        return vectors

    np.testing.assert_allclose(asyncio.run(run()), tiny.embed_batch(["a cat", "a dog", "a tree"]), atol=1e-5)


def test_small_calls_have_their_share_of_the_next_run_where_there_is_one_thread_only(tiny):
    gate = Gate(tiny)
    gate.threads = 1

    async def run():
        engine = AsyncEmbeddingEngine(gate)
        bulk = [asyncio.create_task(engine.encode(lambda: tiny.tokenize_parts(TEXTS))) for _ in range(5)]
        await started(gate)
        await until(lambda: len(engine._queue._large) == 4)  # each of which has its turn before that of a late one
        single = asyncio.create_task(engine.embed("a cat"))
        await until(lambda: len(engine._queue._small) == 1)
        gate.open.release(2)
        vector = await single
        assert not any(each.done() for each in bulk)
        gate.open.release(100_000)
        await asyncio.gather(*bulk)
        return vector

    np.testing.assert_allclose(asyncio.run(run()), tiny.embed("a cat"), atol=1e-5)


def test_large_calls_are_tokenized_in_turn(tiny):
    turns = []

    def tokenize(name, n_parts):
        for _ in range(n_parts):
            turns.append(name)
            yield tiny.tokenize(["a cat"])

    gate = Gate(tiny)

    async def run():
        engine = AsyncEmbeddingEngine(gate)
        with engine._queue._changed:  # the reader begins when both are there
            calls = [
                asyncio.ensure_future(engine._queue.put(lambda: tokenize("long", 50), is_small=False)),
                asyncio.ensure_future(engine._queue.put(lambda: tokenize("short", 2), is_small=False)),
            ]
        gate.open.release(1000)
        results = await asyncio.gather(*calls)
        return [len(each.vectors) for each in results]

    assert asyncio.run(run()) == [50, 2]
    assert turns[:5] == ["long", "short", "long", "short", "long"]


def test_memory_of_large_calls_is_given_back_when_nothing_more_comes(tiny):
    gate = Gate(tiny)
    gate.open.release(10_000)

    async def run():
        engine = AsyncEmbeddingEngine(gate)
        await engine.embed("a cat")
        await until(lambda: not engine._queue._main.running)
        assert gate.n_given_back == 0
        await engine.embed_batch(TEXTS)
        await until(lambda: gate.n_given_back == 1)
        return await engine.embed("a cat")

    np.testing.assert_allclose(asyncio.run(run()), tiny.embed("a cat"), atol=1e-5)


def test_forked_child_has_a_queue_of_its_own(tiny_folder, tmp_path):
    code = """
import asyncio, os, sys
from neuralcore.embedding import AsyncEmbeddingEngine, EmbeddingEngine
engine = AsyncEmbeddingEngine(EmbeddingEngine.from_pretrained(sys.argv[1], cache_dir=sys.argv[2], threads=2))
async def use():
    async with asyncio.timeout(30):
        return len(await engine.embed_batch(["a"] * 100)), (await engine.embed("a")).shape
print(asyncio.run(use()), flush=True)
if pid := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(asyncio.run(use()), flush=True)
os._exit(0)
"""
    command = [sys.executable, "-c", code, str(tiny_folder), str(tmp_path / "c")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert result.stdout == "(100, (48,))\n" * 2


@pytest.fixture
def larger_tokenizer(tiny_folder):
    """A tokenizer with more tokens than the model has words."""
    inner = HfTokenizer.from_file(str(tiny_folder / "tokenizer.json"))
    inner.add_tokens([f"<extra{number}>" for number in range(200)])
    inner.save(str(tiny_folder / "tokenizer.json"))


def test_token_beyond_the_words_of_the_model_fails_its_own_call_with_its_number(larger_tokenizer, tiny):
    texts = ["a cat"] * 1500
    texts[1300] = "a <extra150> dog"
    reason = r"token id \d+ is beyond the \d+ words of the model"
    with pytest.raises(InputError, match=f"text 1300: {reason}") as caught:
        tiny.embed_batch(texts)
    assert caught.value.index == 1300
    with pytest.raises(InputError, match=f"text 1: {reason}"):
        tiny.encode(tiny.accept_ids([[2, 5, 3], [2, 5, 150, 3]]))

    async def run():
        engine = AsyncEmbeddingEngine(tiny)
        calls = [engine.embed("a cat"), engine.embed(texts[1300]), engine.embed_batch(texts), engine.embed("a dog")]
        return await asyncio.gather(*calls, return_exceptions=True)

    cat, single, batch, dog = asyncio.run(run())
    np.testing.assert_allclose([cat, dog], tiny.embed_batch(["a cat", "a dog"]), atol=1e-5)
    assert (type(single), single.index) == (InputError, 0)
    assert (type(batch), batch.index) == (InputError, 1300)


@pytest.mark.parametrize("kind", ["list", "generator", "async generator"])
def test_stream_gives_the_blocks_of_the_engine_in_order(tiny, kind):
    async def texts():
        for text in TEXTS:
            yield text

    source = {"list": TEXTS, "generator": iter(TEXTS), "async generator": texts()}[kind]

    async def run():
        engine = AsyncEmbeddingEngine(tiny)
        return [block async for block in engine.embed_stream(source)]

    blocks = asyncio.run(run())
    assert len(blocks) > 1
    np.testing.assert_allclose(np.concatenate(blocks), tiny.embed_batch(TEXTS), atol=1e-5)


def test_stream_reads_no_more_than_it_is_asked_for(tiny):
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1
            yield "a cat"

    async def run():
        engine = AsyncEmbeddingEngine(tiny)
        stream = engine.embed_stream(endless())
        block = await anext(stream)
        await stream.aclose()
        await until(lambda: engine.n_waiting == 0)
        await engine.embed("still works")
        return len(block)

    assert asyncio.run(run()) * 4 >= read


def test_iterator_that_blocks_does_not_block_the_loop(tiny):
    loop_went_on = threading.Event()

    def slow():
        assert loop_went_on.wait(30)
        yield "a cat"

    async def run():
        asyncio.get_running_loop().call_later(0.01, loop_went_on.set)
        return await AsyncEmbeddingEngine(tiny).embed_batch(slow())

    assert len(asyncio.run(run())) == 1


def test_query_and_document_prefixes_are_those_of_the_engine(tiny_folder, tmp_path):
    async def run():
        prompts = {"query": "the cat ", "document": "a dog "}
        (tiny_folder / "config_sentence_transformers.json").write_text(f'{{"prompts": {prompts}}}'.replace("'", '"'))
        cache = tmp_path / "cache"
        async with await AsyncEmbeddingEngine.from_pretrained(tiny_folder, cache_dir=cache, threads=1) as engine:
            sync = engine.engine
            query, document = await asyncio.gather(engine.embed_query("mat"), engine.embed("mat"))
            np.testing.assert_allclose(query, sync.embed_query("mat"), atol=1e-6)
            np.testing.assert_allclose(document, sync.embed("mat"), atol=1e-6)
            assert np.abs(query - document).max() > 0.01

    asyncio.run(run())


def test_any_text_is_a_prompt_as_in_the_engine(tiny):
    async def run():
        engine = AsyncEmbeddingEngine(tiny)
        expected = tiny.embed_batch(["the cat on a mat"] * 3)
        batch = await engine.embed_batch(["on a mat"], prompt="the cat ")
        streamed = [block async for block in engine.embed_stream(["on a mat"], prompt="the cat ")]
        alone = await engine.embed("on a mat", prompt="the cat ")
        np.testing.assert_allclose(np.concatenate([batch, *streamed, alone[None]]), expected, atol=1e-6)
        with pytest.raises(InputError, match="exclude each other"):
            await engine.embed("a", prompt="b", embedding_type="query")
        with pytest.raises(InputError, match="exclude each other"):
            engine.embed_stream(["a"], prompt="b", embedding_type="query")

    asyncio.run(run())


def test_nothing_gives_no_rows_and_one_str_is_refused(tiny):
    async def run():
        engine = AsyncEmbeddingEngine(tiny)
        assert (await engine.embed_batch([])).shape == (0, tiny.dimension)
        with pytest.raises(InputError, match="several"):
            await engine.embed_batch("one")
        with pytest.raises(InputError, match="one str"):
            await engine.embed(["one"])
        with pytest.raises(InputError, match="max_waiting"):
            AsyncEmbeddingEngine(tiny, max_waiting=0)

    asyncio.run(run())


def test_loop_that_ends_early_does_not_hurt_the_worker(tiny):
    gate = Gate(tiny)
    queue = AdmissionQueue(gate, max_waiting=10)

    async def leave():
        queue.put(lambda: tiny.tokenize_parts(["a"]), is_small=True)
        await started(gate)

    asyncio.run(leave())
    gate.open.release(10)
    queue.drain()
    assert gate.runs == [1]


def test_from_pretrained_takes_what_the_engine_takes():
    ours = dict(inspect.signature(AsyncEmbeddingEngine.from_pretrained).parameters)
    del ours["max_waiting"]
    assert ours == dict(inspect.signature(EmbeddingEngine.from_pretrained).parameters)
