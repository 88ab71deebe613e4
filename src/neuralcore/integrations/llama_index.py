"""LlamaIndex: `BaseEmbedding` computed in this process. The extra `[llama-index]`."""

from __future__ import annotations

import asyncio
from os import PathLike, fspath

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr, field_validator

from neuralcore.embedding import EmbeddingEngine, EmbeddingType


class NeuralcoreEmbedding(BaseEmbedding):
    """Texts get the model's document prefix, queries its query prefix.

    Args:
        model_name: name, Hub id or folder.
        precision: "fp32", "fp16", "bf16", "int8" or "dynamic-int8".
        backend: "auto", "native" or "onnxruntime".
        device: "cpu", "cuda", "tensorrt" or "auto".
        threads: CPU threads; None takes all this process may use.

    Example:
        >>> Settings.embed_model = NeuralcoreEmbedding(model_name="all-MiniLM-L6-v2")  # doctest: +SKIP
    """

    model_name: str = Field(default="all-MiniLM-L6-v2", description="Name, Hub id or folder.")
    precision: str = Field(default="fp32", description="fp32, fp16, bf16, int8 or dynamic-int8.")
    backend: str = Field(default="auto", description="auto, native or onnxruntime.")
    device: str = Field(default="cpu", description="cpu, cuda, tensorrt or auto.")
    threads: int | None = Field(default=None, description="CPU threads; None takes all this process may use.")
    embed_batch_size: int = Field(default=1024, description="Texts that go to the engine at once.", gt=0)

    _engine: EmbeddingEngine = PrivateAttr()

    @field_validator("model_name", mode="before")
    @classmethod
    def _path_is_a_name(cls, value: object) -> object:
        return fspath(value) if isinstance(value, PathLike) else value

    def model_post_init(self, context: object, /) -> None:
        """Load the model when the fields are known."""
        super().model_post_init(context)
        self._engine = EmbeddingEngine.from_pretrained(
            self.model_name,
            precision=self.precision,  # type: ignore[arg-type]  # checked there
            backend=self.backend,  # type: ignore[arg-type]
            device=self.device,  # type: ignore[arg-type]
            threads=self.threads,
        )

    @classmethod
    def class_name(cls) -> str:
        """How LlamaIndex names this class in what it stores."""
        return "NeuralcoreEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        vector: list[float] = self._engine.embed_query(query).tolist()
        return vector

    def _get_text_embedding(self, text: str) -> list[float]:
        vector: list[float] = self._engine.embed(text).tolist()
        return vector

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._engine.embed_batch(texts, embedding_type=EmbeddingType.DOCUMENT).tolist()
        return vectors

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)
