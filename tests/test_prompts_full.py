"""Prompts of every kind, beside sentence-transformers itself."""

import numpy as np
import pytest

from neuralcore.embedding import EmbeddingEngine
from tests.families import modules
from tests.families.texts import TEXTS

CASES = {case.name: case for case in modules()["layouts"]}
OWN = "Instruct: name the tree\nQuery: "
LONG = "the cat and the dog " * 20


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("prompt", [OWN, "", LONG])
@pytest.mark.parametrize("name", CASES)
def test_any_prompt_is_put_before_texts_as_sentence_transformers_puts_it(tmp_path, name, prompt):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = CASES[name].write(tmp_path / "model")
    reference = sentence_transformers.SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": "float32"})
    texts = TEXTS[::4]
    expected = reference.encode(texts, batch_size=1, prompt=prompt)
    with EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache") as engine:
        np.testing.assert_allclose(engine.embed_batch(texts, prompt=prompt), expected, atol=5e-6, rtol=0)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.files])
def test_named_prompts_are_those_of_sentence_transformers(tmp_path, name):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = CASES[name].write(tmp_path / "model")
    reference = sentence_transformers.SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": "float32"})
    texts = TEXTS[::4]
    with EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache") as engine:
        for prompt in reference.prompts:
            expected = reference.encode(texts, batch_size=1, prompt_name=prompt)
            vectors = engine.embed_batch(texts, embedding_type=prompt)
            np.testing.assert_allclose(vectors, expected, atol=5e-6, rtol=0, err_msg=prompt)
