"""What clients ask for, read from their JSON: OpenAI's and TEI's words for the same thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from ..config import ModelConfig
from ..types import EmbeddingType
from .refusals import Refusal

T = TypeVar("T")
Texts = Sequence[str] | Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """One request, whatever its dialect.

    Args:
        inputs: texts, or the token ids of texts.
        embedding_type: "query", "document", or a prompt of the model.
        dimensions: components to keep; None keeps all.
        truncate: whether long texts are cut; None is the server's rule.
        normalize: whether vectors must have unit length; None leaves them as the model gives them.
        base64: whether vectors go as base64 of little-endian float32.
        model: which one was asked for; None is any.
    """

    inputs: Texts
    embedding_type: str = EmbeddingType.DOCUMENT
    dimensions: int | None = None
    truncate: bool | None = None
    normalize: bool | None = None
    base64: bool = False
    model: str | None = None


def parse_openai(body: bytes) -> EmbeddingRequest:
    """A body of `POST /v1/embeddings`.

    Raises:
        Refusal: 400, with the field.
    """
    fields = _object(body)
    encoding = fields.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise Refusal(400, f"encoding_format is 'float' or 'base64', not {encoding!r}", param="encoding_format")
    return EmbeddingRequest(
        inputs=_inputs(fields, "input"),
        embedding_type=_optional(fields, "input_type", str) or EmbeddingType.DOCUMENT,
        dimensions=_dimensions(fields),
        base64=encoding == "base64",
        model=_optional(fields, "model", str),
    )


def parse_tei(body: bytes) -> EmbeddingRequest:
    """A body of `POST /embed`.

    Raises:
        Refusal: 400, with the field.
    """
    fields = _object(body)
    normalize = _optional(fields, "normalize", bool)
    return EmbeddingRequest(
        inputs=_inputs(fields, "inputs"),
        embedding_type=_optional(fields, "prompt_name", str) or EmbeddingType.DOCUMENT,
        dimensions=_dimensions(fields),
        truncate=_optional(fields, "truncate", bool),
        normalize=True if normalize is None else normalize,
    )


def check_type(config: ModelConfig, embedding_type: str) -> None:
    """Refuse a prompt the model does not have, before anything waits.

    Raises:
        InputError: with the names of those it has.
    """
    config.prefix(embedding_type)


def _object(body: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"the body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise Refusal(400, f"the body is a JSON object, not {type(fields).__name__}")
    return fields


def _inputs(fields: dict[str, Any], name: str) -> Texts:
    """Texts or token ids; one of them alone counts as a list of one."""
    value = fields.get(name)
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(isinstance(each, str) for each in value):
            return value
        if _are_ids(value):
            return [value]
        if all(isinstance(each, list) and each and _are_ids(each) for each in value):
            return value
    raise Refusal(400, f"{name} is a text, or a list of texts, or of token ids; it must not be empty", param=name)


def _are_ids(values: list[Any]) -> bool:
    return all(type(value) is int for value in values)


def _dimensions(fields: dict[str, Any]) -> int | None:
    value = _optional(fields, "dimensions", int)
    if value is not None and value < 1:
        raise Refusal(400, f"dimensions must be at least 1, not {value}", param="dimensions")
    return value


def _optional(fields: dict[str, Any], name: str, kind: type[T]) -> T | None:
    value = fields.get(name)
    if value is not None and type(value) is not kind:
        raise Refusal(400, f"{name} must be of type {kind.__name__}, not {type(value).__name__}", param=name)
    return value
