"""Graphs as real exporters write them, in every precision, against their own fp32."""

from pathlib import Path

import pytest

from neuralcore.embedding import ModelConfig, Precision, detect_quantization
from neuralcore.embedding.backends.onnx.export import TorchEncoder
from neuralcore.embedding.backends.onnx.quantize.model import Model
from neuralcore.embedding.precision.graphs import quantize_checked
from tests import tiny_model
from tests.checkpoints import HIDDEN, N_LAYERS, VOCABULARY

pytestmark = [pytest.mark.full, pytest.mark.filterwarnings("ignore")]  # PyTorch's own warnings

CONFIG = ModelConfig(name="tiny", dimension=HIDDEN, max_tokens=32)
N_PRODUCTS = 6 * N_LAYERS  # Q, K, V, output and two of the feed-forward in each layer


def torch_dynamo(folder: Path, path: Path) -> None:
    TorchEncoder(folder)._export_dynamo(path, 18)


def torch_legacy(folder: Path, path: Path) -> None:
    TorchEncoder(folder)._export_torchscript(path, 18)


def as_optimum(folder: Path, path: Path, opset: int = 14) -> None:
    """What optimum and sentence-transformers' ONNX backend do: the older exporter, all three inputs, weights inside."""
    import torch
    import transformers

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager")

        def forward(self, input_ids, attention_mask, token_type_ids):
            values = self.inner(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
            return values.last_hidden_state

    ids = torch.randint(4, VOCABULARY, (2, 8))
    names = ["input_ids", "attention_mask", "token_type_ids"]
    axes = {name: {0: "batch_size", 1: "sequence_length"} for name in [*names, "last_hidden_state"]}
    torch.onnx.export(
        Encoder().eval(), (ids, torch.ones_like(ids), torch.zeros_like(ids)), str(path), dynamo=False,
        opset_version=opset, input_names=names, output_names=["last_hidden_state"], dynamic_axes=axes,
        do_constant_folding=True,
    )  # fmt: skip


def as_optimum_of_old(folder: Path, path: Path) -> None:
    as_optimum(folder, path, opset=11)


EXPORTERS = {
    "torch dynamo": torch_dynamo,
    "torch legacy": torch_legacy,
    "optimum": as_optimum,
    "optimum, opset 11": as_optimum_of_old,
}


@pytest.fixture(scope="module", params=EXPORTERS)
def exported(request, tmp_path_factory) -> Path:
    folder = tiny_model.write(tmp_path_factory.mktemp("tiny") / "tiny")
    path = folder / "onnx/model.onnx"
    path.parent.mkdir()
    EXPORTERS[request.param](folder, path)
    return path


@pytest.mark.parametrize("precision", ["fp16", "int8", "dynamic-int8"])
def test_graph_of_a_real_exporter_is_quantized_whole(exported, tmp_path, precision):
    model = Model(exported)
    assert (len(model.products()), len(model.lookups())) == (N_PRODUCTS, 1)
    tokenizer = exported.parent.parent / "tokenizer.json"
    quantize_checked(exported, tmp_path / "other.onnx", tokenizer, CONFIG, Precision(precision))
    assert detect_quantization(tmp_path / "other.onnx") is Precision(precision)
