"""max_memory_bytes: one bound for all callers of an encoder, and whatever fits alone is computed."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from neuralcore.embedding.backends.native.encoder import NativeEncoder
from neuralcore.embedding.backends.native.kernels import NativeModel, absence
from neuralcore.embedding.backends.onnx.encoder import OnnxEncoder
from neuralcore.embedding.backends.onnx.session import OnnxSession
from neuralcore.embedding.backends.onnx.working_memory import WorkingMemory
from neuralcore.embedding.backends.onnx.write import write_onnx
from neuralcore.embedding.config import ModelConfig
from neuralcore.embedding.errors import OutOfMemory
from neuralcore.embedding.workers import Room, Workers
from tests import checkpoints
from tests.native_stacks import pack
from tests.stacks import stack_of
from tests.tokens import token_batch

CONFIG = ModelConfig(name="random", dimension=checkpoints.HIDDEN, max_tokens=64)
LONG = 60


def texts(n, length=LONG, seed=0):
    random = np.random.RandomState(seed)
    return [random.randint(2, checkpoints.VOCABULARY, length) for _ in range(n)]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bert")
    maker = checkpoints.bert(11)
    checkpoint = maker.save(folder)
    write_onnx(stack_of(checkpoint, maker.architecture), CONFIG, folder / "model.onnx")
    pack(stack_of(checkpoint, maker.architecture), token_batch(texts(20)), folder / "packed.safetensors")
    return {"onnx": folder / "model.onnx", "native": folder / "packed.safetensors"}


@pytest.fixture(params=["native", "onnx"])
def kind(request) -> str:
    if request.param == "native" and (reason := absence()):
        pytest.skip(reason)
    return request.param


@pytest.fixture
def load(kind, files):
    return lambda **options: (NativeEncoder if kind == "native" else OnnxEncoder)(files[kind], CONFIG, **options)


@pytest.fixture
def one_text_bytes(kind, load) -> int:
    """What one long text needs, on one thread."""
    if kind == "onnx":
        return LONG * load()._memory.bytes_per_token(LONG)
    return load()._native.workspace_bytes(LONG, 1, LONG, 1)


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("n_texts", [1, 2, 3, 5, 40])
def test_any_number_of_texts_is_computed_if_one_fits(n_texts, threads, load, one_text_bytes):
    tokens = token_batch(texts(n_texts))
    expected = load(threads=1).encode(tokens)
    found = load(threads=threads, max_memory_bytes=one_text_bytes).encode(tokens)
    np.testing.assert_allclose(found, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("n_texts", [1, 3, 40])
def test_no_number_of_texts_is_computed_if_one_does_not_fit(n_texts, load, one_text_bytes):
    encoder = load(threads=2, max_memory_bytes=one_text_bytes - 1)
    with pytest.raises(OutOfMemory, match=f"max_memory_bytes={one_text_bytes - 1} is too low") as caught:
        encoder.encode(token_batch([*texts(n_texts), *texts(2, length=3)]))
    assert (caught.value.n_texts, caught.value.n_tokens) == (1, LONG)
    assert encoder.encode(token_batch(texts(3, length=3))).shape == (3, checkpoints.HIDDEN)


def test_short_texts_beside_a_long_one_share_runs(load, one_text_bytes):
    tokens = token_batch([*texts(2), *texts(30, length=4)])
    found = load(threads=2, max_memory_bytes=3 * one_text_bytes).encode(tokens)
    np.testing.assert_allclose(found, load().encode(tokens), atol=2e-6, rtol=0)


@pytest.fixture
def in_flight(monkeypatch, kind):
    """Bytes of all runs in flight, the most that was seen."""
    lock, held = threading.Lock(), {"now": 0, "most": 0}

    @contextmanager
    def count(n_bytes):
        with lock:
            held["now"] += n_bytes
            held["most"] = max(held["most"], held["now"])
        try:
            yield
        finally:
            with lock:
                held["now"] -= n_bytes

    run, encode = OnnxSession.run, NativeModel.encode

    def run_counted(self, output, feeds, *, shrink=False):
        n_texts, longest = feeds["input_ids"].shape
        memory = WorkingMemory.of_metadata(self.metadata, checkpoints.HIDDEN)
        with count(n_texts * longest * memory.bytes_per_token(longest)):
            return run(self, output, feeds, shrink=shrink)

    def encode_counted(self, group, out, workspace, team=None):
        with count(len(workspace)):
            return encode(self, group, out, workspace, team)

    monkeypatch.setattr(OnnxSession, "run", run_counted)
    monkeypatch.setattr(NativeModel, "encode", encode_counted)
    return held


@pytest.mark.parametrize("threads", [1, 3])
def test_bound_is_of_all_callers_together(threads, load, one_text_bytes, in_flight):
    encoder = load(threads=threads, max_memory_bytes=2 * one_text_bytes)
    batches = [token_batch(texts(n, length, seed=n)) for n, length in ((1, LONG), (3, 40), (12, 20), (2, 7)) * 3]
    expected = [load().encode(tokens) for tokens in batches]
    in_flight["most"] = 0
    with ThreadPoolExecutor(6) as callers:
        found = list(callers.map(encoder.encode, batches))
    for vectors, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(vectors, wanted, atol=2e-6, rtol=0)
    assert 0 < in_flight["most"] <= 2 * one_text_bytes


def test_room_lets_in_who_came_first():
    room, order, workers = Room(10), [], Workers(3)
    holding, go_on = threading.Event(), threading.Event()

    def hold(n_bytes):
        with room.hold(n_bytes):
            if n_bytes == 6:
                holding.set()
                go_on.wait()
            order.append(n_bytes)

    first = workers.begin(hold, [6])
    holding.wait()
    large = workers.begin(hold, [10])
    while not room._turn.locked():
        pass
    small = workers.begin(hold, [4])  # there is room for it, but not before the one that waits
    go_on.set()
    for call in (first, large, small):
        call.finish()
    workers.stop()
    assert order == [6, 10, 4]
