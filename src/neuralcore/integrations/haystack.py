"""Haystack: a text embedder for queries and a document embedder. The extra `[haystack]`.

Pipelines load classes of known modules only: `Pipeline.loads(text, allowed_modules=["neuralcore.integrations.*"])`.
"""

from __future__ import annotations

from dataclasses import replace
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Self

from haystack import Document, component, default_from_dict, default_to_dict

from neuralcore.embedding import EmbeddingEngine, EmbeddingType, InputError

if TYPE_CHECKING:
    from neuralcore.embedding.providers import Device
    from neuralcore.embedding.types import Backend, PrecisionName


class _Embedder:
    """What both embedders are made of: five options, and the engine once it is needed."""

    def __init__(
        self,
        model: str | PathLike[str] = "all-MiniLM-L6-v2",
        precision: PrecisionName = "fp32",
        device: Device = "cpu",
        threads: int | None = None,
        backend: Backend = "auto",
    ) -> None:
        self.model = fspath(model)  # a saved pipeline has no paths
        self.precision, self.device, self.threads, self.backend = precision, device, threads, backend
        self._engine: EmbeddingEngine | None = None

    def warm_up(self) -> None:
        """Load the model; pipelines call it before they run."""
        self._ready_engine()

    def to_dict(self) -> dict[str, Any]:
        """What a saved pipeline keeps."""
        data: dict[str, Any] = default_to_dict(
            self, model=self.model, precision=self.precision, device=self.device, threads=self.threads,
            backend=self.backend,
        )  # fmt: skip
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The reverse of `to_dict`."""
        made: Self = default_from_dict(cls, data)
        return made

    def _ready_engine(self) -> EmbeddingEngine:
        if self._engine is None:
            self._engine = EmbeddingEngine.from_pretrained(
                self.model, precision=self.precision, backend=self.backend, device=self.device, threads=self.threads
            )
        return self._engine


@component
class NeuralcoreTextEmbedder(_Embedder):
    """Embeds a query, with the model's query prefix.

    Example:
        >>> NeuralcoreTextEmbedder().run("a question")["embedding"][:2]  # doctest: +SKIP
        [0.031, -0.012]
    """

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, list[float]]:
        """The vector of a query, as `embedding`."""
        return {"embedding": self._ready_engine().embed_query(text).tolist()}


@component
class NeuralcoreDocumentEmbedder(_Embedder):
    """Embeds documents, with the model's document prefix; the documents given stay as they are.

    Args:
        model: name, Hub id or folder.
        precision: "fp32", "fp16", "bf16", "int8" or "dynamic-int8".
        device: "cpu", "cuda", "tensorrt" or "auto".
        threads: CPU threads; None takes all this process may use.
        meta_fields: fields of `meta` put before the content, each on a line.
        backend: "auto", "native" or "onnxruntime".

    Example:
        >>> NeuralcoreDocumentEmbedder().run([Document(content="a text")])["documents"]  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | PathLike[str] = "all-MiniLM-L6-v2",
        precision: PrecisionName = "fp32",
        device: Device = "cpu",
        threads: int | None = None,
        meta_fields: list[str] | None = None,
        backend: Backend = "auto",
    ) -> None:
        _Embedder.__init__(
            self, model, precision, device, threads, backend
        )  # `component` makes a new class: no plain super()
        self.meta_fields = meta_fields or []

    def to_dict(self) -> dict[str, Any]:
        """What a saved pipeline keeps."""
        data = _Embedder.to_dict(self)
        data["init_parameters"]["meta_fields"] = self.meta_fields
        return data

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """Copies of the documents with their `embedding`, as `documents`."""
        if not isinstance(documents, list) or not all(isinstance(each, Document) for each in documents):
            raise InputError("the document embedder takes a list of Documents; for a text, use NeuralcoreTextEmbedder")
        texts = [self._text_of(document) for document in documents]
        vectors = self._ready_engine().embed_batch(texts, embedding_type=EmbeddingType.DOCUMENT).tolist()
        pairs = zip(documents, vectors, strict=True)
        return {"documents": [replace(document, embedding=vector) for document, vector in pairs]}

    def _text_of(self, document: Document) -> str:
        fields = [str(document.meta[name]) for name in self.meta_fields if document.meta.get(name) is not None]
        return "\n".join([*fields, document.content or ""])
