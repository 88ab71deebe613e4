"""Chroma: an embedding function that a collection remembers. The extra `[chroma]`.

Import this module before a collection that was made with it is opened: that registers the function under its names.

Chroma compares the name of a function that is given for a collection with the one it keeps, and nothing else. So a
function's name ends in the first digits of its vector space's digest (`Fingerprint.space`), and two models have two
names, but for one pair in 65,536. A collection that is opened without a function finds it by that name, so all are
registered. Its configuration holds the whole fingerprint, which is checked whenever a function is built from it.
"""

from __future__ import annotations

import json
from functools import partial
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Literal

from chromadb import Documents, EmbeddingFunction, Embeddings
from chromadb.utils.embedding_functions import known_embedding_functions, register_embedding_function

from neuralcore.embedding import EmbeddingEngine, EmbeddingType, Fingerprint, FingerprintMismatch, check_fingerprint

if TYPE_CHECKING:
    from neuralcore.embedding.providers import Device
    from neuralcore.embedding.types import Backend, PrecisionName

_SPACES: list[Literal["cosine", "l2", "ip"]] = ["cosine", "l2", "ip"]
_NAME = "neuralcore"
_DIGITS = 4


@register_embedding_function
class NeuralcoreEmbeddingFunction(EmbeddingFunction[Documents]):
    """Documents get the model's document prefix, queries its query prefix.

    Args:
        model: name, Hub id or folder.
        precision: "fp32", "fp16", "bf16", "int8" or "dynamic-int8".
        device: "cpu", "cuda", "tensorrt" or "auto".
        threads: CPU threads; None takes all this process may use.
        backend: "auto", "native" or "onnxruntime".

    Example:
        >>> client.create_collection("docs", embedding_function=NeuralcoreEmbeddingFunction())  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | PathLike[str] = "all-MiniLM-L6-v2",
        precision: PrecisionName = "fp32",
        device: Device = "cpu",
        threads: int | None = None,
        backend: Backend = "auto",
    ) -> None:
        self._engine = EmbeddingEngine.from_pretrained(
            model, precision=precision, backend=backend, device=device, threads=threads
        )
        fingerprint = self._engine.fingerprint
        self._config = {
            "model": fspath(model), "precision": precision, "device": device, "threads": threads,
            "backend": backend, "fingerprint": json.loads(fingerprint.to_json()),
        }  # fmt: skip
        self.name = partial(_name, fingerprint.space)  # type: ignore[method-assign]  # of the class: any space's

    def __call__(self, input: Documents) -> Embeddings:
        """Vectors of documents."""
        return list(self._engine.embed_batch(input, embedding_type=EmbeddingType.DOCUMENT))

    def embed_query(self, input: Documents) -> Embeddings:
        """Vectors of queries."""
        return list(self._engine.embed_batch(input, embedding_type=EmbeddingType.QUERY))

    @staticmethod
    def name() -> str:
        """Under which collections that do not know their vector space remember this function."""
        return _NAME

    def get_config(self) -> dict[str, Any]:
        """What a collection keeps."""
        return dict(self._config)

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> NeuralcoreEmbeddingFunction:
        """The reverse of `get_config`.

        Raises:
            FingerprintMismatch: the model is not any more what it was.
        """
        options = {name: value for name, value in config.items() if name != "fingerprint"}
        function = NeuralcoreEmbeddingFunction(**options)
        if stored := config.get("fingerprint"):
            check_fingerprint(json.dumps(stored), function._engine.fingerprint)
        return function

    def validate_config_update(self, old_config: dict[str, Any], new_config: dict[str, Any]) -> None:
        """Refuse another vector space for vectors that are there; what computes them may change."""
        stored, current = (json.dumps(config.get("fingerprint")) for config in (old_config, new_config))
        try:
            check_fingerprint(stored, Fingerprint.from_json(current))
        except FingerprintMismatch as error:
            raise ValueError(f"the model of a collection cannot change: {error}") from error

    def is_legacy(self) -> bool:
        """It is not."""
        return False

    def default_space(self) -> Literal["cosine", "l2", "ip"]:
        """Cosine: models differ in whether their vectors have unit length."""
        return "cosine"

    def supported_spaces(self) -> list[Literal["cosine", "l2", "ip"]]:
        """All."""
        return _SPACES


def _name(space: str) -> str:
    return f"{_NAME}-{space[:_DIGITS]}"


known_embedding_functions.update(
    dict.fromkeys((_name(f"{number:0{_DIGITS}x}") for number in range(16**_DIGITS)), NeuralcoreEmbeddingFunction)
)
