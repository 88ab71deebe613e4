"""What clients ask for, read from their JSON: OpenAI's and TEI's words for the same thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import orjson

from ..config import ModelConfig
from .refusals import Refusal

T = TypeVar("T")
_PROMPT_CHARACTERS = 10_000  # of one that is put before each text
Texts = Sequence[str] | Sequence[Sequence[int]]

# A field that is not among these may mean anything, so that its sender would get other vectors than it asked for.
_OPENAI_FIELDS = frozenset({"input", "model", "encoding_format", "dimensions", "input_type", "prompt", "user"})
_TEI_FIELDS = frozenset(
    {"inputs", "truncate", "truncation_direction", "normalize", "dimensions", "prompt_name", "prompt"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """One request, whatever its dialect.

    Args:
        inputs: texts, or the token ids of texts.
        embedding_type: "query", "document", or a prompt of the model; None for its default.
        prompt: put before each text instead.
        dimensions: components to keep; None keeps all.
        truncate: whether long texts are cut; None is the server's rule.
        cut_at: the end at which they may be cut, "left" or "right"; None is the model's.
        normalize: whether vectors must have unit length; None leaves them as the model gives them.
        base64: whether vectors go as base64 of little-endian float32.
        model: which one was asked for; None is any.
    """

    inputs: Texts
    embedding_type: str | None = None
    prompt: str | None = None
    dimensions: int | None = None
    truncate: bool | None = None
    cut_at: str | None = None
    normalize: bool | None = None
    base64: bool = False
    model: str | None = None


def parse_openai(body: bytes) -> EmbeddingRequest:
    """A body of `POST /v1/embeddings`.

    Raises:
        Refusal: 400, with the field.
    """
    fields = _object(body, _OPENAI_FIELDS)
    return EmbeddingRequest(
        inputs=_inputs(fields, "input"),
        embedding_type=_optional(fields, "input_type", str),
        prompt=_prompt(fields, "input", "input_type"),
        dimensions=_dimensions(fields),
        base64=_choice(fields, "encoding_format", ("float", "base64")) == "base64",
        model=_optional(fields, "model", str),
    )


def parse_tei(body: bytes) -> EmbeddingRequest:
    """A body of `POST /embed`.

    Raises:
        Refusal: 400, with the field.
    """
    fields = _object(body, _TEI_FIELDS)
    return EmbeddingRequest(
        inputs=_inputs(fields, "inputs"),
        embedding_type=_optional(fields, "prompt_name", str),
        prompt=_prompt(fields, "inputs", "prompt_name"),
        dimensions=_dimensions(fields),
        truncate=_optional(fields, "truncate", bool),
        cut_at=_direction(fields),
        normalize=_optional(fields, "normalize", bool, True),
    )


def check_prompt(config: ModelConfig, request: EmbeddingRequest) -> None:
    """Refuse a prompt the model does not have, before anything waits.

    Raises:
        InputError: with the names of those it has.
    """
    config.prefix(request.embedding_type, request.prompt)


def _object(body: bytes, known: frozenset[str]) -> dict[str, Any]:
    """The fields that say something; null says nothing."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"the body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise Refusal(400, f"the body is a JSON object, not {type(fields).__name__}")
    told = {name: value for name, value in fields.items() if value is not None}
    for name in told.keys() - known:
        reason = f"the field {name[:50]!r} is not known here and would be ignored; known are {', '.join(sorted(known))}"
        raise Refusal(400, reason, param=name[:50])
    return told


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


def _prompt(fields: dict[str, Any], inputs: str, name: str) -> str | None:
    """A text to put before each text; token ids have nothing before them."""
    prompt = _optional(fields, "prompt", str)
    if prompt is None:
        return None
    if name in fields:
        raise Refusal(400, f"prompt and {name} exclude each other", param="prompt")
    if len(prompt) > _PROMPT_CHARACTERS:
        reason = f"prompt has {len(prompt)} characters; at most {_PROMPT_CHARACTERS} are taken"
        raise Refusal(400, reason, param="prompt")
    if not isinstance(_inputs(fields, inputs)[0], str):
        raise Refusal(400, f"prompt goes before texts; {inputs} has token ids", param="prompt")
    return prompt


def _are_ids(values: list[Any]) -> bool:
    return all(type(value) is int for value in values)


def _dimensions(fields: dict[str, Any]) -> int | None:
    value = _optional(fields, "dimensions", int)
    if value is not None and value < 1:
        raise Refusal(400, f"dimensions must be at least 1, not {value}", param="dimensions")
    return value


def _direction(fields: dict[str, Any]) -> str | None:
    if "truncation_direction" not in fields:
        return None
    return _choice(fields, "truncation_direction", ("Right", "Left", "right", "left")).lower()


def _choice(fields: dict[str, Any], name: str, choices: Sequence[str]) -> str:
    """One of some words; the first where there is none."""
    value = fields.get(name, choices[0])
    if not isinstance(value, str) or value not in choices:
        raise Refusal(400, f"{name} is {choices[0]!r} or {choices[1]!r}, not {value!r:.50}", param=name)
    return value


@overload
def _optional(fields: dict[str, Any], name: str, kind: type[T], default: T) -> T: ...
@overload
def _optional(fields: dict[str, Any], name: str, kind: type[T], default: None = None) -> T | None: ...
def _optional(fields: dict[str, Any], name: str, kind: type[T], default: T | None = None) -> T | None:
    value = fields.get(name, default)
    if name in fields and type(value) is not kind:
        raise Refusal(400, f"{name} must be of type {kind.__name__}, not {type(value).__name__}", param=name)
    return value
