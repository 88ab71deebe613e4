"""Spark: a pandas UDF that embeds a column. The extra `[spark]`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyspark import TaskContext
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql.types import ArrayType, FloatType

from .recipe import EngineRecipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..types import Vectors

_BATCH_TEXTS = 1024


def embedding_udf(recipe: EngineRecipe, *, embedding_type: str | None = None, batch_size: int = _BATCH_TEXTS) -> Any:
    """A UDF from a column of texts to a column of arrays of floats.

    Each Python worker process loads one engine, with as many threads as `spark.task.cpus` gives its task, and keeps it
    for the tasks that follow. A null is embedded as the empty text.

    Args:
        recipe: which engine.
        embedding_type: "document", "query", or a prompt of the model; None for its default.
        batch_size: texts that go to the engine at once.

    Example:
        >>> embed = embedding_udf(EngineRecipe(model="all-MiniLM-L6-v2"))  # doctest: +SKIP
        >>> frame.withColumn("embedding", embed("text"))  # doctest: +SKIP
    """

    def make_predict() -> Callable[[NDArray[np.object_]], Vectors]:
        task = TaskContext.get()
        engine = recipe.load(threads=task.cpus() if task else None)

        def predict(texts: NDArray[np.object_]) -> Vectors:
            # pandas holds a null as None or as NaN.
            filled = [text if isinstance(text, str) else "" for text in texts.tolist()]
            return engine.embed_batch(filled, embedding_type=embedding_type)

        return predict

    return predict_batch_udf(make_predict, return_type=ArrayType(FloatType()), batch_size=batch_size)
