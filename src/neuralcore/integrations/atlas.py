"""An embedding provider for ATLAS.

With ATLAS installed it derives from, takes and returns ATLAS's own classes; otherwise those of the same names in
`atlas_base`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib import import_module
from os import PathLike, fspath
from typing import TYPE_CHECKING

import numpy as np

from neuralcore.embedding import AsyncEmbeddingEngine, EmbeddingError, EmbeddingType

if TYPE_CHECKING:
    from neuralcore.embedding.providers import Device
    from neuralcore.embedding.types import Vectors

    from .atlas_base import (
        BatchEmbeddingResult,
        EmbeddingInputType,
        EmbeddingProvider,
        EmbeddingProviderError,
        EmbeddingResult,
    )
else:
    try:
        _base = import_module("modules.storage.embeddings.base")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "modules":
            raise  # ATLAS is there, and something that it needs is not
        _base = import_module("neuralcore.integrations.atlas_base")
    BatchEmbeddingResult, EmbeddingInputType = _base.BatchEmbeddingResult, _base.EmbeddingInputType
    EmbeddingProviderError, EmbeddingResult = _base.EmbeddingProviderError, _base.EmbeddingResult
    EmbeddingProvider = getattr(_base, "EmbeddingProvider", object)

__all__ = [
    "BatchEmbeddingResult",
    "EmbeddingInputType",
    "EmbeddingProviderError",
    "EmbeddingResult",
    "NeuralcoreEmbeddingProvider",
]


class NeuralcoreEmbeddingProvider(EmbeddingProvider):
    """Embeddings for ATLAS, computed in this process.

    Args:
        model_name: name, Hub id or folder.
        device: "cpu", "cuda", "tensorrt" or "auto".
        batch_size: texts of a batch that wait for the engine at once; other callers' come between.

    Example:
        >>> provider = NeuralcoreEmbeddingProvider()  # doctest: +SKIP
        >>> result = await provider.embed_text("a question", input_type=EmbeddingInputType.QUERY)  # doctest: +SKIP
        >>> len(result.embedding)  # doctest: +SKIP
        384
    """

    def __init__(
        self, model_name: str | PathLike[str] = "all-MiniLM-L6-v2", device: Device = "cpu", batch_size: int = 32
    ) -> None:
        if batch_size < 1:
            raise EmbeddingProviderError(f"batch_size must be at least 1, not {batch_size}")
        self._model_name, self._device, self._batch_size = fspath(model_name), device, batch_size
        self._engine: AsyncEmbeddingEngine | None = None
        self._lock = asyncio.Lock()

    @property
    def name(self) -> str:
        """The provider's name."""
        return "neuralcore"

    @property
    def is_initialized(self) -> bool:
        """Whether the model is loaded."""
        return self._engine is not None

    @property
    def dimension(self) -> int:
        """Components of a vector.

        Raises:
            EmbeddingProviderError: the model is not loaded yet.
        """
        if self._engine is None:
            raise EmbeddingProviderError("the dimension is known after `await provider.initialize()`")
        return self._engine.dimension

    async def initialize(self) -> None:
        """Load the model, once; the first call that needs it does so, too.

        Raises:
            EmbeddingProviderError: it cannot be loaded; the next call tries again.
        """
        await self._load()

    async def embed_text(self, text: str, *, input_type: EmbeddingInputType | None = None) -> EmbeddingResult:
        """Embed one text.

        Args:
            text: the text.
            input_type: query or document; None is a document.

        Raises:
            EmbeddingProviderError: the model cannot be loaded, the text not be embedded, or too many calls wait.
        """
        engine = await self._load()
        try:
            vector = await engine.embed(text, embedding_type=_type_of(input_type))
        except EmbeddingError as error:
            raise EmbeddingProviderError(str(error)) from error
        return EmbeddingResult(embedding=vector.tolist(), text=text, model=self._model_name)

    async def embed_batch(
        self, texts: Sequence[str], *, input_type: EmbeddingInputType | None = None
    ) -> BatchEmbeddingResult:
        """Embed several texts, all of one type; see `embed_text`."""
        engine = await self._load()
        try:
            vectors = await self._embed_parts(engine, texts, _type_of(input_type))
        except EmbeddingError as error:
            raise EmbeddingProviderError(str(error)) from error
        return BatchEmbeddingResult(embeddings=vectors.tolist(), model=self._model_name)

    async def close(self) -> None:
        """Finish what waits and free the model."""
        async with self._lock:
            engine, self._engine = self._engine, None
        if engine:
            await engine.close()

    async def _load(self) -> AsyncEmbeddingEngine:
        async with self._lock:
            if self._engine is None:
                try:
                    self._engine = await AsyncEmbeddingEngine.from_pretrained(self._model_name, device=self._device)
                except EmbeddingError as error:
                    raise EmbeddingProviderError(str(error)) from error
            return self._engine

    async def _embed_parts(self, engine: AsyncEmbeddingEngine, texts: Sequence[str], embedding_type: str) -> Vectors:
        if not isinstance(texts, (list, tuple)):  # other orders of texts, and what is none, are the engine's to judge
            return await engine.embed_batch(texts, embedding_type=embedding_type)
        starts = range(0, len(texts), self._batch_size)
        parts = [texts[start : start + self._batch_size] for start in starts] or [texts]
        return np.concatenate([await engine.embed_batch(part, embedding_type=embedding_type) for part in parts])


def _type_of(input_type: EmbeddingInputType | None) -> EmbeddingType:
    if input_type in (None, EmbeddingInputType.DOCUMENT):
        return EmbeddingType.DOCUMENT
    if input_type == EmbeddingInputType.QUERY:
        return EmbeddingType.QUERY
    raise EmbeddingProviderError(f"input_type must be QUERY or DOCUMENT, not {input_type!r}")
