"""Models that transformers itself makes and sentence-transformers saves: their layout and names are the libraries'."""

from importlib import import_module

import numpy as np
import pytest

from neuralcore.embedding import EmbeddingEngine
from tests.families import modules
from tests.families.test_families import BOUND, BOUND_OF_UNIT_LENGTH
from tests.families.texts import LIMIT, TEXTS
from tests.families.tokenizers import NAMED, TOKENIZERS

pytestmark = [pytest.mark.full, pytest.mark.filterwarnings("ignore")]
CASES = {case.config["model_type"]: case for cases in modules().values() for case in cases}
"""One a family: that its sizes make no difference is held by the other tests."""


def make(case, folder):
    """Write a model of the case's kind and sizes, all of whose weights are random, and return it as it is loaded."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    models = import_module("sentence_transformers.models")
    torch.manual_seed(5)
    config = dict(case.for_transformers().config)
    encoder = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(config.pop("model_type"), **config))
    for name, weight in encoder.named_parameters():
        mean = weight.mean().item() if weight.ndim == 1 else 0.0  # 1 in most norms, 0 where 1 + weight scales
        scale = 0.1 if weight.ndim == 1 else 0.5 if "embed" in name else weight.shape[-1] ** -0.5
        torch.nn.init.normal_(weight, mean=mean, std=scale)
    encoder.save_pretrained(folder / "encoder")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=TOKENIZERS[case.tokenizer](), **NAMED[case.tokenizer]
    )
    tokenizer.save_pretrained(folder / "encoder")
    first = models.Transformer(str(folder / "encoder"), max_seq_length=LIMIT)
    steps = [first, models.Pooling(first.get_word_embedding_dimension(), pooling_mode=case.pooling)]
    steps += [models.Normalize()] if case.normalize else []
    sentence_transformers.SentenceTransformer(modules=steps, device="cpu").save(str(folder / "model"))
    return sentence_transformers.SentenceTransformer(str(folder / "model"), device="cpu")


@pytest.mark.parametrize("kind", CASES)
def test_folder_that_sentence_transformers_saved(tmp_path, kind):
    reference = make(CASES[kind], tmp_path).encode(TEXTS, batch_size=1)
    bound = BOUND_OF_UNIT_LENGTH if CASES[kind].normalize else BOUND
    with EmbeddingEngine.from_pretrained(tmp_path / "model", cache_dir=tmp_path / "cache") as engine:
        np.testing.assert_allclose(engine.embed_batch(TEXTS), reference, atol=bound, rtol=0)
