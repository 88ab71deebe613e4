"""Graphs against transformers itself, for other weights than the golden ones."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from neuralcore.embedding.backends.onnx.write import write_onnx
from neuralcore.embedding.config import ModelConfig
from tests.checkpoints import HIDDEN, MAKERS, RandomCheckpoint, batches, bert
from tests.stacks import stack_of

pytestmark = [pytest.mark.full, pytest.mark.filterwarnings("ignore")]  # PyTorch's and transformers' own warnings

CLOSE = 1e-5
FAR = 5e-5  # NumPy and PyTorch round a few frequencies to neighbouring float32; 2,048 positions on, it shows


def hidden_of_graph(checkpoint: RandomCheckpoint, folder: Path, ids, mask) -> np.ndarray:
    path = folder / "model.onnx"
    config = ModelConfig(name="random", dimension=HIDDEN, max_tokens=64)
    write_onnx(stack_of(checkpoint.save(folder), checkpoint.architecture), config, path)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["last_hidden_state"], {"input_ids": ids, "attention_mask": mask})[0]


def hidden_of_transformers(checkpoint: RandomCheckpoint, folder: Path, ids, mask) -> np.ndarray:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    checkpoint.save(folder, reference=True)
    model = transformers.AutoModel.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32, add_pooling_layer=False
    ).eval()
    with torch.no_grad():
        output = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
    return output.last_hidden_state.numpy()


def assert_equal_on_tokens(checkpoint: RandomCheckpoint, folder: Path, ids, mask, *, atol: float = CLOSE) -> None:
    expected = hidden_of_transformers(checkpoint, folder, ids, mask)
    actual = hidden_of_graph(checkpoint, folder, ids, mask)
    np.testing.assert_allclose(actual[mask == 1], expected[mask == 1], atol=atol, rtol=0)


@pytest.mark.parametrize("shape", ["one_token", "ragged", "longest"])
@pytest.mark.parametrize("seed", [101, 102, 103])
@pytest.mark.parametrize("name", MAKERS)
def test_graph_of_random_weights_computes_what_transformers_computes(name, seed, shape, tmp_path):
    ids, mask = batches(name, seed=seed)[shape]
    assert_equal_on_tokens(MAKERS[name](seed), tmp_path, ids, mask)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "relu", "silu", "swish"])
def test_each_activation_is_that_of_transformers(activation, tmp_path):
    ids, mask = batches("bert")["ragged"]
    assert_equal_on_tokens(bert(21, activation=activation), tmp_path, ids, mask)


@pytest.mark.parametrize("n_tokens", [1000, 2048])
@pytest.mark.parametrize("name", ["nomic_hub", "nomic_transformers"])
def test_rotary_positions_hold_far_from_the_start(name, n_tokens, tmp_path):
    ids = np.random.RandomState(n_tokens).randint(2, 120, (1, n_tokens))
    assert_equal_on_tokens(MAKERS[name](22), tmp_path, ids, np.ones_like(ids), atol=FAR)
