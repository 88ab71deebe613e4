"""Chroma: an embedding function that a collection remembers. The extra `[chroma]`.

Import this module before a collection that was made with it is opened: that registers the function under its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from chromadb import Documents, EmbeddingFunction, Embeddings
from chromadb.utils.embedding_functions import register_embedding_function

from neuralcore.embedding import EmbeddingEngine, EmbeddingType

if TYPE_CHECKING:
    from neuralcore.embedding.engine import PrecisionName
    from neuralcore.embedding.providers import Device

_SPACES: list[Literal["cosine", "l2", "ip"]] = ["cosine", "l2", "ip"]


@register_embedding_function
class NeuralcoreEmbeddingFunction(EmbeddingFunction[Documents]):
    """Documents get the model's document prefix, queries its query prefix.

    Args:
        model: name, Hub id or folder.
        precision: "fp32", "fp16", "int8" or "dynamic-int8".
        device: "cpu", "cuda", "tensorrt" or "auto".
        threads: CPU threads; None takes all this process may use.

    Example:
        >>> client.create_collection("docs", embedding_function=NeuralcoreEmbeddingFunction())  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str = "all-MiniLM-L6-v2",
        precision: PrecisionName = "fp32",
        device: Device = "cpu",
        threads: int | None = None,
    ) -> None:
        self._config = {"model": model, "precision": precision, "device": device, "threads": threads}
        self._engine = EmbeddingEngine.from_pretrained(model, precision=precision, device=device, threads=threads)

    def __call__(self, input: Documents) -> Embeddings:
        """Vectors of documents."""
        return list(self._engine.embed_batch(input, embedding_type=EmbeddingType.DOCUMENT))

    def embed_query(self, input: Documents) -> Embeddings:
        """Vectors of queries."""
        return list(self._engine.embed_batch(input, embedding_type=EmbeddingType.QUERY))

    @staticmethod
    def name() -> str:
        """Under which a collection remembers this function."""
        return "neuralcore"

    def get_config(self) -> dict[str, Any]:
        """What a collection keeps."""
        return dict(self._config)

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> NeuralcoreEmbeddingFunction:
        """The reverse of `get_config`."""
        return NeuralcoreEmbeddingFunction(**config)

    def validate_config_update(self, old_config: dict[str, Any], new_config: dict[str, Any]) -> None:
        """Refuse another model for vectors that are there; threads and device may change."""
        for name in ("model", "precision"):
            if old_config.get(name) != new_config.get(name):
                raise ValueError(f"{name} of a collection cannot change: its vectors would be of another space")

    def is_legacy(self) -> bool:
        """It is not."""
        return False

    def default_space(self) -> Literal["cosine", "l2", "ip"]:
        """Cosine: models differ in whether their vectors have unit length."""
        return "cosine"

    def supported_spaces(self) -> list[Literal["cosine", "l2", "ip"]]:
        """All."""
        return _SPACES
