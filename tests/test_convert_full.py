"""Conversion by way of PyTorch, against transformers and sentence-transformers themselves."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks.texts import raw_sentences

from neuralcore.embedding import EmbeddingEngine, UnsupportedModel, verify_model
from neuralcore.embedding.backends.native.kernels import choose_isa
from neuralcore.embedding.backends.onnx.export import TorchEncoder
from neuralcore.embedding.convert import convert_model
from neuralcore.embedding.precision.agreement import BOUNDS, failures
from neuralcore.embedding.store import make_store
from neuralcore.embedding.types import Precision
from tests import tiny_model

pytestmark = [pytest.mark.full, pytest.mark.filterwarnings("ignore")]  # PyTorch's own warnings

TEXTS = ["the cat sat on the mat", "a big red dog", "x", "tree " * 20]


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "cache", offline=True)


def random_encoder(family: str, folder: Path) -> Path:
    """A small random encoder of a family; squeezebert has no builder."""
    import torch
    import transformers

    torch.manual_seed(3)
    sizes = {"vocab_size": 120, "max_position_embeddings": 66}
    match family:
        case "distilbert":
            config = transformers.DistilBertConfig(dim=48, hidden_dim=96, n_heads=4, n_layers=2, **sizes)
        case "electra":
            config = transformers.ElectraConfig(
                embedding_size=24, hidden_size=48, intermediate_size=96, num_attention_heads=4, num_hidden_layers=2,
                **sizes,
            )  # fmt: skip
        case "roberta":
            config = transformers.RobertaConfig(
                hidden_size=48, intermediate_size=96, num_attention_heads=4, num_hidden_layers=2, pad_token_id=0,
                **sizes,
            )  # fmt: skip
        case "squeezebert":
            config = transformers.SqueezeBertConfig(
                embedding_size=48, hidden_size=48, intermediate_size=96, num_attention_heads=4, num_hidden_layers=2,
                **sizes,
            )  # fmt: skip
    folder.mkdir()
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    tiny_model.tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize(
    ("family", "exporter"), [("distilbert", "torch"), ("electra", "torch"), ("roberta", "torch"), ("squeezebert", None)]
)
def test_export_by_pytorch_equals_transformers(family, exporter, store, tmp_path):
    import torch

    source = random_encoder(family, tmp_path / family)
    output = tmp_path / "converted"
    manifest = convert_model(source, output, store=store, exporter=exporter)
    assert manifest.source["exporter"] in {"dynamo", "torchscript"}
    assert manifest.measured["hidden_difference"] <= 1e-4
    assert manifest.measured["lowest_cosine"] >= 0.99999
    encoder = TorchEncoder(source)
    with EmbeddingEngine.from_pretrained(output, cache_dir=tmp_path / "cache") as engine:
        for text in TEXTS:
            ids = engine._tokenizer.encode([text]).ids[None].astype(np.int64)
            with torch.inference_mode():
                expected = encoder.hidden(ids, np.ones_like(ids)).mean(axis=1)[0]
            np.testing.assert_allclose(engine.embed(text), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_each_exporter_of_pytorch_writes_a_graph_that_passes(exporter, store, tmp_path, monkeypatch):
    other = {"dynamo": "_export_torchscript", "torchscript": "_export_dynamo"}[exporter]

    def fail(*_):
        raise RuntimeError("switched off")

    monkeypatch.setattr(TorchEncoder, other, fail)
    source = random_encoder("distilbert", tmp_path / "source")
    manifest = convert_model(source, tmp_path / "out", store=store, exporter="torch")
    assert manifest.source["exporter"] == exporter


def test_export_that_fails_both_ways_leaves_nothing_and_says_why(store, tmp_path, monkeypatch):
    def fail(self, path, opset):
        path.write_bytes(b"half a graph")
        raise RuntimeError("no such operator")

    monkeypatch.setattr(TorchEncoder, "_export_dynamo", fail)
    monkeypatch.setattr(TorchEncoder, "_export_torchscript", fail)
    with pytest.raises(UnsupportedModel, match="dynamo: no such operator; torchscript: no such operator"):
        convert_model(random_encoder("squeezebert", tmp_path / "source"), tmp_path / "out", store=store)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".partial-*"))


@pytest.mark.parametrize("exporter", ["builtin", "torch"])
def test_minilm_by_both_exporters_equals_sentence_transformers(minilm_cache, tmp_path, exporter):
    store = make_store(minilm_cache)
    manifest = convert_model("all-MiniLM-L6-v2", tmp_path / "out", store=store, exporter=exporter)
    assert manifest.measured["hidden_difference"] <= 1e-4
    agreement = verify_model(tmp_path / "out", reference="all-MiniLM-L6-v2", cache_dir=minilm_cache)
    assert not failures(agreement, BOUNDS[Precision.FP32])


def test_minilm_is_verified_against_sentence_transformers(minilm_cache):
    agreement = verify_model("all-MiniLM-L6-v2", reference="sentence-transformers", cache_dir=minilm_cache)
    assert agreement.largest_difference <= 1e-5
    assert agreement.min_cosine >= 0.99999


def test_mpnet_in_int8_is_near_fp32_and_plain_dynamic_is_refused():
    from neuralcore.embedding import VerificationFailed

    agreement = verify_model("all-mpnet-base-v2", precision="int8", texts=raw_sentences(300))
    assert agreement.mean_cosine >= (0.9993 if choose_isa() else 0.995)
    assert agreement.min_cosine >= (0.997 if choose_isa() else 0.99)
    with pytest.raises(VerificationFailed, match="mean cosine"):
        verify_model("all-mpnet-base-v2", precision="dynamic-int8")
