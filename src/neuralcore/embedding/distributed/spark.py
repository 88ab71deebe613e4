"""Spark: a pandas UDF that embeds a column. The extra `[spark]`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pandas as pd
from pyspark import TaskContext
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import ArrayType, FloatType

from .recipe import EngineRecipe

if TYPE_CHECKING:
    from ..engine import EmbeddingEngine

_ENGINES = 3  # that a worker process keeps, as Spark's own cache of models does


def embedding_udf(recipe: EngineRecipe, *, embedding_type: str | None = None, prompt: str | None = None) -> Any:
    """A UDF from a column of texts to a column of arrays of floats.

    Each Python worker process loads one engine, with as many threads as `spark.task.cpus` gives its task, and keeps it
    for the tasks that follow. A null gives a null, as everywhere in SQL; what is no text fails the task.

    Args:
        recipe: which engine.
        embedding_type: "document", "query", or a prompt of the model; None for its default.
        prompt: any other text to put before each.

    Example:
        >>> embed = embedding_udf(EngineRecipe(model="all-MiniLM-L6-v2"))  # doctest: +SKIP
        >>> frame.withColumn("embedding", embed("text"))  # doctest: +SKIP
    """

    def embed(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        task = TaskContext.get()
        engine = _engine(recipe, task.cpus() if task else None)
        for texts in batches:
            yield _embedded(engine, texts, engine.config.prefix(embedding_type, prompt))

    # Spark reads the annotations, and cannot look up names in a function that it has sent as a value.
    embed.__annotations__ = {"batches": Iterator[pd.Series], "return": Iterator[pd.Series]}
    return pandas_udf(embed, ArrayType(FloatType()))


def _embedded(engine: EmbeddingEngine, texts: pd.Series, prefix: str) -> pd.Series:
    given = texts.notna()
    vectors = pd.Series([None] * len(texts), dtype=object)
    vectors[given.to_numpy()] = list(engine.embed_batch(texts[given].tolist(), prompt=prefix))
    return vectors


@lru_cache(maxsize=_ENGINES)
def _engine(recipe: EngineRecipe, threads: int | None) -> EmbeddingEngine:
    return recipe.load(threads=threads)
