"""LangChain: `Embeddings` computed in this process. The extra `[langchain]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_core.embeddings import Embeddings

from neuralcore.embedding import EmbeddingEngine, EmbeddingType

if TYPE_CHECKING:
    from os import PathLike

    from neuralcore.embedding.providers import Device
    from neuralcore.embedding.types import Backend, PrecisionName


class NeuralcoreEmbeddings(Embeddings):
    """Documents get the model's document prefix, queries its query prefix; `aembed_*` run in LangChain's threads.

    Args:
        model: name, Hub id or folder.
        precision: "fp32", "fp16", "bf16", "int8" or "dynamic-int8".
        backend: "auto", "native" or "onnxruntime".
        device: "cpu", "cuda", "tensorrt" or "auto".
        threads: CPU threads; None takes all this process may use.
        engine: an engine to use instead, with whatever options it was made; the others are ignored then.

    Example:
        >>> NeuralcoreEmbeddings("all-MiniLM-L6-v2").embed_query("a question")[:2]  # doctest: +SKIP
        [0.031, -0.012]
    """

    def __init__(
        self,
        model: str | PathLike[str] = "all-MiniLM-L6-v2",
        *,
        precision: PrecisionName = "fp32",
        backend: Backend = "auto",
        device: Device = "cpu",
        threads: int | None = None,
        engine: EmbeddingEngine | None = None,
    ) -> None:
        self.engine = engine or EmbeddingEngine.from_pretrained(
            model, precision=precision, backend=backend, device=device, threads=threads
        )

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Vectors of documents."""
        vectors: list[list[float]] = self.engine.embed_batch(texts, embedding_type=EmbeddingType.DOCUMENT).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query."""
        vector: list[float] = self.engine.embed_query(text).tolist()
        return vector
