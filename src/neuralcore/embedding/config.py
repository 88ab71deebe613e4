"""What a model needs besides its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self

from .errors import InputError


class PoolingStrategy(StrEnum):
    """How the token vectors of one text become its vector. Each is defined over the text's own tokens only."""

    CLS = "cls"
    """The first token."""
    MEAN = "mean"
    """The mean of the text's tokens."""
    MEAN_WITH_ATTENTION = "mean_with_attention"
    """The mean weighted by the attention mask: the same as `MEAN`, since padding is never a text's own token."""
    MAX = "max"
    """The maximum of each component."""
    LAST_TOKEN = "last_token"
    """The last token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Configuration of an embedding model.

    Args:
        name: the model's name.
        dimension: components of a vector.
        max_tokens: longest input in tokens, special tokens included; longer texts are cut.
        pooling: how token vectors become one vector.
        normalize: whether vectors have unit length (L2).
        query_prefix: put before queries by models that treat queries and documents differently.
        document_prefix: put before documents by such models.
        prompts: further named prefixes of the model, e.g. "classification" and "clustering" of nomic-embed-text-v1.5.
        lowercase: lower the case of texts first (do_lower_case of sentence-transformers); most tokenizers do by
            themselves.
        output_name: the ONNX output to read; None finds it by its usual names.

    Example:
        >>> ModelConfig(name="my-model", dimension=384, max_tokens=256).asymmetric
        False
    """

    name: str
    dimension: int
    max_tokens: int
    pooling: PoolingStrategy = PoolingStrategy.MEAN
    normalize: bool = True
    query_prefix: str = ""
    document_prefix: str = ""
    prompts: Mapping[str, str] = field(default_factory=dict)
    lowercase: bool = False
    output_name: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("dimension", 1), ("max_tokens", 3)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, not {getattr(self, name)}", limit=least)
        object.__setattr__(self, "pooling", PoolingStrategy(self.pooling))

    @property
    def asymmetric(self) -> bool:
        """Whether queries and documents get different prefixes."""
        return self.query_prefix != self.document_prefix

    def prefix(self, embedding_type: str) -> str:
        """The text put before an input of this type.

        Args:
            embedding_type: "query", "document", or the name of one of the model's prompts.

        Raises:
            InputError: the model has no such prompt.
        """
        known = {**self.prompts, "query": self.query_prefix, "document": self.document_prefix}
        if embedding_type not in known:
            raise InputError(f"{self.name} has no prompt {embedding_type!r}; it has {', '.join(sorted(known))}")
        return known[embedding_type]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**asdict(self), "pooling": str(self.pooling), "prompts": dict(self.prompts)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The reverse of `to_dict`."""
        return cls(**values)
