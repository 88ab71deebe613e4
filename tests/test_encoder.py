"""The ONNX encoder: batching, threads, memory and forks change nothing about a vector."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from neuralcore.embedding.backends.onnx.encoder import OnnxEncoder
from neuralcore.embedding.backends.onnx.session import OnnxSession
from neuralcore.embedding.backends.onnx.write import write_onnx
from neuralcore.embedding.config import ModelConfig, PoolingStrategy
from neuralcore.embedding.errors import InferenceError, InputError, OutOfMemory
from tests import golden
from tests.checkpoints import HIDDEN, SEEDS, VOCABULARY, batches, bert
from tests.stacks import stack_of
from tests.tokens import token_batch

ROOT = Path(__file__).parents[1]
CONFIG = ModelConfig(name="random", dimension=HIDDEN, max_tokens=64)
CLOSE = 2e-6  # float32 sums in another order, for another shape of batch
LENGTHS = [1, 64, 2, 3, 3, 17, 40, 5, 64, 1, 9, 33, 2, 8, 21, 60, 4, 4, 4, 12]


def random_rows(lengths=LENGTHS, seed=0) -> list[np.ndarray]:
    random = np.random.RandomState(seed)
    return [random.randint(2, VOCABULARY, length) for length in lengths]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    checkpoint = bert(SEEDS["bert"])
    write_onnx(stack_of(checkpoint.save(folder), checkpoint.architecture), CONFIG, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.fixture
def runs(monkeypatch) -> list[tuple[int, int]]:
    """Shapes of all runs from here on."""
    shapes, run = [], OnnxSession.run

    def spy(self, output, feeds, *, shrink=False):
        shapes.append(feeds["input_ids"].shape)
        return run(self, output, feeds)

    monkeypatch.setattr(OnnxSession, "run", spy)
    return shapes


def alone(encoder, rows) -> np.ndarray:
    return np.concatenate([encoder.encode(token_batch([row])) for row in rows])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", ["one_token", "one_text", "ragged", "longest"])
def test_vectors_are_the_pooled_golden_hidden_states(shape, threads, model):
    ids, mask = batches("bert")[shape]
    hidden = golden.hidden_states("bert")[shape].astype(np.float64)
    expected = np.stack([tokens[own == 1].mean(axis=0) for tokens, own in zip(hidden, mask, strict=True)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    rows = [row[own == 1] for row, own in zip(ids, mask, strict=True)]
    vectors = OnnxEncoder(model, CONFIG, threads=threads).encode(token_batch(rows))
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=5e-6, rtol=0)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_row_in_batch_equals_row_alone(threads, model):
    encoder, rows = OnnxEncoder(model, CONFIG, threads=threads), random_rows()
    np.testing.assert_allclose(encoder.encode(token_batch(rows)), alone(encoder, rows), atol=CLOSE, rtol=0)


def test_shuffled_rows_give_shuffled_vectors(model):
    encoder, rows = OnnxEncoder(model, CONFIG, threads=2), random_rows()
    order = np.random.RandomState(4).permutation(len(rows))
    vectors, shuffled = (encoder.encode(token_batch(some)) for some in (rows, [rows[i] for i in order]))
    np.testing.assert_allclose(shuffled, vectors[order], atol=CLOSE, rtol=0)
    assert np.abs(vectors - vectors[order]).max() > 0.1


def test_same_batch_gives_the_same_bits(model):
    encoder, tokens = OnnxEncoder(model, CONFIG, threads=2), token_batch(random_rows())
    np.testing.assert_array_equal(encoder.encode(tokens), encoder.encode(tokens))


@pytest.mark.parametrize("n_texts", [1, 2, 3])
def test_more_threads_than_texts(n_texts, model):
    rows = random_rows(LENGTHS[:n_texts])
    expected = alone(OnnxEncoder(model, CONFIG, threads=1), rows)
    vectors = OnnxEncoder(model, CONFIG, threads=4).encode(token_batch(rows))
    np.testing.assert_allclose(vectors, expected, atol=CLOSE, rtol=0)


def test_calls_from_many_threads_do_not_disturb_each_other(model):
    encoder = OnnxEncoder(model, CONFIG, threads=2)
    tokens = [token_batch(random_rows(seed=seed)) for seed in range(12)]
    expected = [encoder.encode(some) for some in tokens]
    with ThreadPoolExecutor(6) as pool:
        for vectors, before in zip(pool.map(encoder.encode, tokens), expected, strict=True):
            np.testing.assert_allclose(vectors, before, atol=CLOSE, rtol=0)


@pytest.mark.parametrize("threads", [1, 2])
def test_no_texts_give_no_vectors(threads, model, runs):
    vectors = OnnxEncoder(model, CONFIG, threads=threads).encode(token_batch([]))
    assert (vectors.shape, vectors.dtype) == ((0, HIDDEN), np.float32)
    assert runs == []


@pytest.mark.parametrize("threads", [1, 2])
def test_text_without_tokens_gets_the_zero_vector_and_disturbs_no_other(threads, model):
    encoder, rows = OnnxEncoder(model, CONFIG, threads=threads), random_rows([5, 7])
    empty = np.zeros(0, np.int32)
    vectors = encoder.encode(token_batch([empty, rows[0], empty, rows[1]]))
    assert not vectors[[0, 2]].any()
    np.testing.assert_allclose(vectors[[1, 3]], alone(encoder, rows), atol=CLOSE, rtol=0)
    assert not encoder.encode(token_batch([empty, empty])).any()


@pytest.mark.parametrize("threads", [1, 2])
def test_every_text_is_reported_once(threads, model):
    done = []
    OnnxEncoder(model, CONFIG, threads=threads).encode(token_batch(random_rows()), done.append)
    assert sum(done) == len(LENGTHS)
    assert min(done) >= 1


def test_every_thread_gets_a_micro_batch(model, runs):
    OnnxEncoder(model, CONFIG, threads=2).encode(token_batch(random_rows([8] * 20)))
    assert sorted(runs) == [(10, 8), (10, 8)]


def test_runs_stay_within_the_budget_of_tokens(model, runs):
    OnnxEncoder(model, CONFIG).encode(token_batch(random_rows([64] * 30 + [3] * 300)))
    assert sum(n_texts for n_texts, _ in runs) == 330
    assert max(n_texts * n_tokens for n_texts, n_tokens in runs) <= 256


def test_few_texts_are_shared_evenly_by_the_threads(model, runs):
    OnnxEncoder(model, CONFIG, threads=2).encode(token_batch(random_rows([16] * 100)))
    sizes = [n_texts for n_texts, _ in runs]
    assert len(sizes) == 8  # four a thread
    assert max(sizes) == 13


@pytest.mark.parametrize("threads", [1, 2])
def test_memory_bound_makes_runs_smaller_and_vectors_the_same(threads, model, runs):
    tokens = token_batch(random_rows([64] * 16))
    free = OnnxEncoder(model, CONFIG, threads=threads).encode(tokens)
    unbounded = max(runs)
    runs.clear()
    # A token of this model needs at least QKV, FFN and scores: 4 * (3 * 48 + 96 + 4 * 64) bytes, so 64 need 127 kB.
    bounded = OnnxEncoder(model, CONFIG, threads=threads, max_memory_bytes=threads * 500_000).encode(tokens)
    np.testing.assert_allclose(bounded, free, atol=CLOSE, rtol=0)
    assert max(runs) < unbounded
    assert max(n_texts for n_texts, _ in runs) <= 500_000 // 127_000


@pytest.mark.parametrize("bound", [0, 1, 100_000])
def test_memory_bound_too_low_for_one_text_is_an_error(bound, model, runs):
    encoder = OnnxEncoder(model, CONFIG, max_memory_bytes=bound)
    with pytest.raises(OutOfMemory, match=f"max_memory_bytes={bound} is too low") as caught:
        encoder.encode(token_batch(random_rows([64, 3])))
    assert (caught.value.n_texts, caught.value.n_tokens) == (1, 64)
    assert runs == []


@pytest.mark.parametrize(("threads", "largest"), [(1, 23), (2, 11)])
def test_run_that_does_not_fit_is_halved_down_to_what_fits(threads, largest, model, monkeypatch):
    rows, n_fits, tried = random_rows([8] * 23), 3, []
    expected = OnnxEncoder(model, CONFIG).encode(token_batch(rows))
    run = OnnxSession.run

    def run_if_it_fits(self, output, feeds, *, shrink=False):
        n_texts, n_tokens = feeds["input_ids"].shape
        tried.append(n_texts)
        if n_texts > n_fits:
            raise OutOfMemory(n_texts, n_tokens, "Failed to allocate memory")
        return run(self, output, feeds)

    monkeypatch.setattr(OnnxSession, "run", run_if_it_fits)
    vectors = OnnxEncoder(model, CONFIG, threads=threads).encode(token_batch(rows))
    np.testing.assert_allclose(vectors, expected, atol=CLOSE, rtol=0)
    assert max(tried) == largest
    assert sum(n_texts for n_texts in tried if n_texts <= n_fits) == 23


@pytest.mark.parametrize("threads", [1, 2])
def test_text_that_fits_not_even_alone_is_an_error_and_the_encoder_stays_usable(threads, model, monkeypatch):
    encoder, rows, run = OnnxEncoder(model, CONFIG, threads=threads), random_rows([5, 40, 5]), OnnxSession.run

    def run_if_it_fits(self, output, feeds, *, shrink=False):
        n_texts, n_tokens = feeds["input_ids"].shape
        if n_tokens > 20:
            raise OutOfMemory(n_texts, n_tokens, "Failed to allocate memory")
        return run(self, output, feeds)

    monkeypatch.setattr(OnnxSession, "run", run_if_it_fits)
    with pytest.raises(OutOfMemory) as caught:
        encoder.encode(token_batch(rows))
    assert (caught.value.n_texts, caught.value.n_tokens) == (1, 40)
    assert encoder.encode(token_batch([rows[0], rows[2]])).shape == (2, HIDDEN)


def in_subprocess(code: str, *args: object) -> str:
    command = [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning", "-c", code]
    env = dict(os.environ)
    result = subprocess.run(
        [*command, *map(str, args)], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


HUNGRY = """
import resource, sys
from pathlib import Path
import numpy as np
from neuralcore.embedding import ModelConfig, OutOfMemory
from neuralcore.embedding.backends.onnx.encoder import OnnxEncoder
from tests.foreign_graphs import write_hungry
from tests.tokens import token_batch

path = Path(sys.argv[1])
write_hungry(path, bytes_per_token=4_000_000)
config = ModelConfig(name="hungry", dimension=4, max_tokens=512, normalize=False)
encoder = OnnxEncoder(path, config)
encoder.encode(token_batch([[1]]))
in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + 700_000_000,) * 2)

rows = [[number + 1] * 8 for number in range(128)]
assert (encoder.encode(token_batch(rows)) == np.arange(1, 129)[:, None]).all()
try:
    encoder.encode(token_batch([[3, 3], [2] * 512]))
except OutOfMemory as error:
    print(error.n_texts, error.n_tokens, "Failed to allocate memory" in error.reason)
print(encoder.encode(token_batch([[7] * 8])).tolist())
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs an address space that can be limited")
def test_real_lack_of_memory_is_survived(tmp_path):
    """512 tokens of 4 MB do not fit into 700 MB, but do in halves; one text of 512 never does; then all is well."""
    told = in_subprocess(HUNGRY, tmp_path / "hungry.onnx").splitlines()
    assert told == ["1 512 True", "[[7.0, 7.0, 7.0, 7.0]]"]


FORK = """
import os, sys
from pathlib import Path
import numpy as np
from neuralcore.embedding.backends.onnx.encoder import OnnxEncoder
from tests.test_encoder import CONFIG, random_rows
from tests.tokens import token_batch

encoder = OnnxEncoder(Path(sys.argv[1]), CONFIG, threads=int(sys.argv[2]))
tokens, one = token_batch(random_rows()), token_batch(random_rows([9]))
expected = encoder.encode(tokens), encoder.encode(one)
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        same = [np.array_equal(encoder.encode(some), vectors) for some, vectors in zip((tokens, one), expected)]
        encoder.close()
        if sys.argv[3] == "_exit":
            os._exit(0 if all(same) else 9)
        sys.exit(0 if all(same) else 9)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
assert np.array_equal(encoder.encode(tokens), expected[0])
print(codes)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
@pytest.mark.parametrize("leave", ["_exit", "exit"])
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_forked_child_gives_the_same_vectors_and_does_not_hang(threads, leave, model):
    """With telemetry, ONNX Runtime has a thread that exit() in a child awaits: it is off."""
    assert in_subprocess(FORK, model, threads, leave).strip() == "[0, 0]"


@pytest.mark.parametrize("threads", [1, 2])
def test_closed_encoder_refuses_to_encode(threads, model):
    encoder = OnnxEncoder(model, CONFIG, threads=threads)
    encoder.encode(token_batch(random_rows()))
    encoder.close()
    with pytest.raises(InferenceError, match="closed"):
        encoder.encode(token_batch(random_rows()))


@pytest.mark.parametrize("used", [True, False])
def test_closing_twice_is_harmless(used, model):
    encoder = OnnxEncoder(model, CONFIG, threads=2)
    if used:
        encoder.encode(token_batch(random_rows()))
    encoder.close()
    encoder.close()


@pytest.mark.parametrize("threads", [1, 2])
def test_failed_run_is_translated_and_the_encoder_stays_usable(threads, model):
    encoder, rows = OnnxEncoder(model, CONFIG, threads=threads), random_rows()
    expected = encoder.encode(token_batch(rows))
    beyond_the_vocabulary = [*rows, np.full(5, VOCABULARY + 7)]
    with pytest.raises(InputError, match=f"token id {VOCABULARY + 7} is beyond the {VOCABULARY} words") as caught:
        encoder.encode(token_batch(beyond_the_vocabulary))
    assert caught.value.index == len(rows)
    with pytest.raises(InferenceError, match="running Add node") as failed:
        encoder.encode(token_batch([*rows, np.full(65, 4)]))
    assert failed.value.provider == "CPUExecutionProvider"
    assert failed.value.__cause__ is not None
    np.testing.assert_array_equal(encoder.encode(token_batch(rows)), expected)


def test_text_beyond_the_models_positions_is_an_error(model):
    with pytest.raises(InferenceError):
        OnnxEncoder(model, CONFIG).encode(token_batch(random_rows([65])))


@pytest.mark.parametrize("strategy", PoolingStrategy)
@pytest.mark.parametrize("normalized", [True, False])
def test_pooling_outside_the_graph_equals_pooling_inside(strategy, normalized, model, tmp_path):
    """`model` pools otherwise than the configuration asks for, so its token vectors are pooled in numpy."""
    config = ModelConfig(name="x", dimension=HIDDEN, max_tokens=64, pooling=strategy, normalize=normalized)
    checkpoint = bert(SEEDS["bert"])
    write_onnx(stack_of(checkpoint.save(tmp_path), checkpoint.architecture), config, tmp_path / "model.onnx")
    tokens = token_batch(random_rows())
    inside, outside = (OnnxEncoder(path, config).encode(tokens) for path in (tmp_path / "model.onnx", model))
    np.testing.assert_allclose(outside, inside, atol=CLOSE, rtol=1e-6)  # sums over the root of the length are larger
