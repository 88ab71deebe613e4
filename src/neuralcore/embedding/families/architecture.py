"""What config.json says of an encoder: sizes and kinds, with their types checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..documents import Document
from ..errors import ModelCorrupt, UnsupportedModel
from .stack import Activation

T = TypeVar("T")

_MOST = 1 << 24  # sizes; more is no encoder, and tables are made of some of them
_MOST_LAYERS = 1 << 12


def as_document(architecture: Mapping[str, Any], path: Path) -> Document:
    """config.json as it was read, or as a program gives it: then `path` is what errors name."""
    return architecture if isinstance(architecture, Document) else Document(path, architecture)


def unknown_variant(architecture: Mapping[str, Any], told: str, known: str) -> UnsupportedModel:
    """What to raise where config.json says what is not computed here.

    Args:
        architecture: config.json, or a part of it.
        told: the key and what it has, "key=value".
        known: what it may have.
    """
    model = architecture.path if isinstance(architecture, Document) else architecture.get("model_type")
    return UnsupportedModel(str(model), f"its config.json has {told}; the builder knows {known}")


def require(architecture: Mapping[str, Any], **expected: Any) -> None:
    """Refuse variants that would be computed wrongly.

    Raises:
        UnsupportedModel: a key of config.json has another value; an absent key is as expected.
    """
    for key, value in expected.items():
        actual = architecture.get(key, value)
        if actual != value:
            raise unknown_variant(architecture, f"{key}={actual!r}", repr(value))


def require_head_size(config: Document, size: int) -> None:
    """Refuse heads of another size than the family makes them; 0 and null are as if nothing was said."""
    if config.get("head_dim"):
        require(config, head_dim=size)


_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def read_activation(config: Document, key: str) -> Activation:
    """The activation that a key names.

    Raises:
        UnsupportedModel: not one of those known here.
    """
    name = _required(config, key, config.text(key, None))
    if name not in _ACTIVATIONS:
        raise unknown_variant(config, f"{key}={name!r}", ", ".join(_ACTIVATIONS))
    return _ACTIVATIONS[name]


def read_size(values: Document, key: str, default: int | None = None) -> int:
    """A number of something, at least one.

    Raises:
        ModelCorrupt: it is something else, or is not there and has no default.
    """
    return _required(values, key, values.integer(key, default, least=1, most=_MOST))


def read_layers(values: Document, key: str) -> int:
    """The number of layers. Lists are made of them before any weight is looked for.

    Raises:
        ModelCorrupt: as `read_size`.
    """
    return _required(values, key, values.integer(key, None, least=1, most=_MOST_LAYERS))


def read_heads(values: Document, size_key: str, heads_key: str) -> tuple[int, int]:
    """Size of a hidden state and number of attention heads, which divides it."""
    size, n_heads = read_size(values, size_key), read_size(values, heads_key)
    if size % n_heads:
        raise values.refused(heads_key, f"a number that divides {size_key}={size}")
    return size, n_heads


def read_epsilon(values: Document, key: str) -> float:
    """What LayerNorm adds to a variance: small, and not negative."""
    return _required(values, key, values.number(key, None, least=0))


def _required(values: Document, key: str, value: T | None) -> T:
    if value is None:
        raise ModelCorrupt(str(values.path), expected=f"the key {key!r}", actual="none")
    return value
