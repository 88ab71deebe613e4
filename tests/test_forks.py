"""Forks and signals: vectors stay right, and whatever was interrupted can be used and closed afterwards."""

import gc
import os
import threading
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import pytest

from neuralcore import embedding
from neuralcore.embedding import EmbeddingEngine
from neuralcore.embedding.backends.native import encoder as native_encoder
from neuralcore.embedding.backends.native.encoder import NativeEncoder
from neuralcore.embedding.backends.native.kernels import absence
from neuralcore.embedding.backends.onnx import encoder
from neuralcore.embedding.backends.onnx.encoder import OnnxEncoder
from neuralcore.embedding.backends.onnx.write import write_onnx
from neuralcore.embedding.config import ModelConfig
from neuralcore.embedding.forks import Once, reset_in_children
from tests import checkpoints
from tests.children import run_in_child
from tests.disturbances import call_together, check_in_child, eager_switching, interrupt, kept_busy
from tests.native_stacks import pack
from tests.stacks import stack_of
from tests.tokens import token_batch

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")

CONFIG = ModelConfig(name="random", dimension=checkpoints.HIDDEN, max_tokens=64)


def random_tokens(lengths, seed=0):
    random = np.random.RandomState(seed)
    return token_batch([random.randint(2, checkpoints.VOCABULARY, length) for length in lengths])


ONE, FEW, MANY = random_tokens([9]), random_tokens([5, 40]), random_tokens([64, 3, 17, 40, 5, 9, 33, 2] * 4)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bert")
    maker = checkpoints.bert(11)
    checkpoint = maker.save(folder)
    write_onnx(stack_of(checkpoint, maker.architecture), CONFIG, folder / "model.onnx")
    pack(stack_of(checkpoint, maker.architecture), MANY, folder / "packed.safetensors")
    return {"onnx": folder / "model.onnx", "native": folder / "packed.safetensors"}


@pytest.fixture(params=["native", "onnx"])
def kind(request) -> str:
    if request.param == "native" and (reason := absence()):
        pytest.skip(reason)
    return request.param


@pytest.fixture
def used(kind, files):
    """An encoder that has run, and what it gave."""
    made = (NativeEncoder if kind == "native" else OnnxEncoder)(files[kind], CONFIG, threads=2)
    yield made, [made.encode(tokens) for tokens in (ONE, FEW, MANY)]
    made.close()


def slow(make):
    """As `make`, but other threads have 2 ms in which to go wrong."""

    def make_slowly(*args):
        threading.Event().wait(0.002)
        return make(*args)

    return make_slowly


def test_first_calls_of_several_threads_of_a_child_give_the_parents_vectors(used, monkeypatch):
    made, expected = used
    for module in (encoder, native_encoder):
        monkeypatch.setattr(module, "Lock", slow(threading.Lock), raising=False)
    calls = [partial(made.encode, tokens) for tokens in (ONE, FEW, MANY)] * 2
    with eager_switching():
        for _ in range(5):
            check_in_child(partial(call_together, calls, expected * 2))


def test_child_closes_while_the_parent_computes(used):
    made, _ = used

    def close() -> str:
        made.close()
        return "same"

    with kept_busy(lambda: [made.encode(tokens) for tokens in (ONE, MANY)]):
        for _ in range(10):
            check_in_child(close)


def test_child_computes_and_closes_while_the_parent_computes(used):
    made, expected = used

    def use() -> str:
        same = all(np.array_equal(made.encode(t), e) for t, e in zip((ONE, FEW, MANY), expected, strict=True))
        made.close()
        return "same" if same else "other vectors"

    with kept_busy(lambda: [made.encode(tokens) for tokens in (ONE, MANY)]):
        for _ in range(4):
            check_in_child(use)


@pytest.mark.parametrize("way", ["close", "del"])
def test_interrupted_encoder_gives_right_vectors_and_can_be_closed(used, way):
    """An exception from a signal handler, 150 times in each kind of call: what Ctrl-C does, and `timeout` libraries."""
    made, expected = used

    def disturb() -> str:
        nonlocal made
        for number, tokens in enumerate((ONE, FEW, MANY)):
            interrupt(partial(made.encode, tokens), Random(number), 150)
        found = [made.encode(tokens) for tokens in (ONE, FEW, MANY)]
        if way == "close":
            made.close()
        del made
        gc.collect()
        return "same" if all(map(np.array_equal, found, expected)) else "other vectors"

    check_in_child(disturb, seconds=60)


def test_interrupted_stream_of_an_engine_leaves_it_usable(tiny_folder, tmp_path):
    texts = ["the cat sat", "a dog", "the mat " * 20] * 700
    with EmbeddingEngine.from_pretrained(tiny_folder, cache_dir=tmp_path, threads=2) as engine:
        expected = engine.embed_batch(texts[:99])

        def disturb() -> str:
            interrupt(lambda: engine.embed_batch(texts), Random(1), 12, longest_s=0.1)
            found = engine.embed_batch(texts[:99])
            engine.close()
            return "same" if np.array_equal(found, expected) else "other vectors"

        check_in_child(disturb, seconds=60)


def test_closed_encoder_is_closed_in_a_child_too(used):
    made, _ = used
    made.close()

    def use() -> str:
        try:
            made.encode(ONE)
        except Exception as error:  # noqa: BLE001 - told
            return str(error)
        return "it ran"

    assert "the engine was closed" in run_in_child(use)


def test_owners_begin_anew_in_every_child_and_are_not_kept_alive():
    class Owner:
        n_resets = 0

        def forget_threads(self) -> None:
            self.n_resets += 1

    owner = Owner()
    reset_in_children(owner)
    assert run_in_child(lambda: owner.n_resets) == "1"
    assert run_in_child(lambda: run_in_child(lambda: owner.n_resets)) == "2"
    assert owner.n_resets == 0
    gone, owner = id(owner), None
    gc.collect()
    assert gone not in map(id, reset_in_children.__globals__["_owners"])


def test_queue_serves_a_child_while_the_parents_is_busy(tiny_folder, tmp_path):
    import asyncio

    from neuralcore.embedding import AsyncEmbeddingEngine

    texts = ["the cat sat on the mat"] * 600
    with EmbeddingEngine.from_pretrained(tiny_folder, cache_dir=tmp_path, threads=2) as engine:
        expected = engine.embed("a dog")

        async def use(shared: AsyncEmbeddingEngine) -> str:
            same = np.array_equal(await shared.embed("a dog"), expected)
            await shared.close()
            return "same" if same else "other vectors"

        async def fork_under_load() -> None:
            shared = AsyncEmbeddingEngine(engine)
            busy = asyncio.create_task(shared.embed_batch(texts))
            await asyncio.sleep(0.01)  # its first run is under way, and holds the queue's thread
            await asyncio.to_thread(check_in_child, lambda: asyncio.run(use(shared)))
            assert len(await busy) == len(texts)
            await shared.close()

        asyncio.run(fork_under_load())


def test_interrupted_queue_can_be_drained(tiny_folder, tmp_path):
    import asyncio

    from neuralcore.embedding.admission import AdmissionQueue

    with EmbeddingEngine.from_pretrained(tiny_folder, cache_dir=tmp_path, threads=2) as engine:
        queue = AdmissionQueue(engine, max_waiting=10**6)

        async def use() -> None:
            def put() -> None:
                with queue.promised():
                    queue.put(lambda: [engine.tokenize(["a dog"])], is_small=True, is_promised=True).cancel()

            interrupt(put, Random(3), 150)
            done = queue.put(lambda: [engine.tokenize(["a dog"])], is_small=True)
            assert np.array_equal((await done).vectors[0], engine.embed("a dog"))
            await asyncio.wait_for(asyncio.to_thread(queue.drain), 30)

        asyncio.run(use())


class Slow:
    """Finds something until it may end."""

    def __init__(self) -> None:
        self.begun, self.may_end, self.n_found = threading.Event(), threading.Event(), 0

    @Once
    def found(self) -> int:
        """How often."""
        self.begun.set()
        self.may_end.wait(60)
        self.n_found += 1
        return self.n_found


def test_child_finds_by_itself_what_a_thread_of_its_parent_was_at():
    slow, other = Slow(), Slow()
    other.may_end.set()
    thread = threading.Thread(target=lambda: slow.found)
    thread.start()
    try:
        slow.begun.wait(60)
        assert run_in_child(lambda: other.found, seconds=20) == "1"
    finally:
        slow.may_end.set()
        thread.join()
    assert (slow.found, slow.found, slow.n_found) == (1, 1, 1)


def test_no_property_has_a_lock_that_a_fork_leaves_locked():
    for path in Path(embedding.__file__).parent.rglob("*.py"):
        assert "import cached_property" not in path.read_text(encoding="utf-8"), path
