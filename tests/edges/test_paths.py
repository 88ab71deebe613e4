"""A folder as a Path, and the containers of pandas, wherever a model or texts are taken."""

import asyncio
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from haystack import Pipeline

from neuralcore.embedding import InputError
from neuralcore.integrations.atlas import NeuralcoreEmbeddingProvider
from neuralcore.integrations.haystack import NeuralcoreDocumentEmbedder, NeuralcoreTextEmbedder
from neuralcore.integrations.langchain import NeuralcoreEmbeddings
from neuralcore.integrations.llama_index import NeuralcoreEmbedding

pytestmark = [pytest.mark.edges, pytest.mark.filterwarnings("ignore")]  # theirs


def test_path_is_a_model_for_every_framework(asymmetric, engine):
    path, query = Path(asymmetric), engine.embed_query("mat")

    async def atlas():
        provider = NeuralcoreEmbeddingProvider(path)
        result = await provider.embed_text("mat")
        await provider.close()
        return result

    llama = NeuralcoreEmbedding(model_name=path)
    np.testing.assert_allclose(NeuralcoreEmbeddings(path).embed_query("mat"), query, atol=1e-6)
    np.testing.assert_allclose(llama.get_query_embedding("mat"), query, atol=1e-6)
    assert NeuralcoreEmbedding.from_dict(llama.to_dict()).model_name == asymmetric
    assert asyncio.run(atlas()).model == asymmetric
    for embedder in (NeuralcoreTextEmbedder(path), NeuralcoreDocumentEmbedder(path)):
        pipeline = Pipeline()
        pipeline.add_component("embed", embedder)
        loaded = Pipeline.loads(pipeline.dumps(), allowed_modules=["neuralcore.integrations.*"])
        assert loaded.get_component("embed").model == asymmetric


def test_columns_of_pandas_are_texts_and_tables_and_gaps_are_not(engine):
    frame = pd.DataFrame({"text": ["cat", "dog"], "other": ["mat", None]}, index=[7, 3])
    np.testing.assert_array_equal(engine.embed_batch(frame["text"]), engine.embed_batch(["cat", "dog"]))
    strings = frame["text"].astype("string")
    np.testing.assert_array_equal(engine.embed_batch(strings), engine.embed_batch(["cat", "dog"]))
    with pytest.raises(InputError, match="a DataFrame, which is a table; pass one column"):
        engine.embed_batch(frame)
    for gaps in (frame["other"], frame["other"].astype("string"), pd.Series(["mat", np.nan]), pd.Series(["a", pd.NaT])):
        with pytest.raises(InputError, match=r"text 1: expected a str, got .*, a missing value"):
            engine.embed_batch(gaps)
    with pytest.raises(InputError, match="a DataFrame, which is a table"):
        NeuralcoreEmbeddings(engine=engine).embed_documents(frame)
