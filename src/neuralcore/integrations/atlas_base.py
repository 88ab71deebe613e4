"""The names of ATLAS's `modules.storage.embeddings.base` that the provider needs, for where ATLAS is not installed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class EmbeddingInputType(StrEnum):
    """What a text is."""

    QUERY = "query"
    DOCUMENT = "document"


class EmbeddingProviderError(Exception):
    """A provider cannot do what it was asked for."""


@dataclass(frozen=True, slots=True)
class EmbeddingResult:
    """One text's vector."""

    embedding: list[float]
    text: str
    model: str


@dataclass(frozen=True, slots=True)
class BatchEmbeddingResult:
    """Several texts' vectors, in their order."""

    embeddings: list[list[float]]
    model: str


class EmbeddingProvider:
    """What providers derive from."""
