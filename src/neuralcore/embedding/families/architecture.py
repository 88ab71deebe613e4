"""What config.json says of an encoder: its sizes, with the types checked and what it leaves out filled in.

A key that is not there has the default of the architecture's class in transformers 5 (`configuration_bert.py` and its
like): what is written there is what such a file means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from ..documents import Document
from ..errors import ModelCorrupt, UnsupportedModel

_BASE: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "layer_norm_eps": 1e-12,
}
CLASS_DEFAULTS: dict[str, dict[str, Any]] = {
    "bert": {**_BASE, "vocab_size": 30522, "type_vocab_size": 2, "pad_token_id": 0},
    "mpnet": {**_BASE, "vocab_size": 30527, "relative_attention_num_buckets": 32, "pad_token_id": 1},
    "nomic_bert": {
        **_BASE, "vocab_size": 30528, "type_vocab_size": 2, "pad_token_id": 0, "hidden_act": "silu",
        "max_position_embeddings": 2048,
    },
}  # fmt: skip
"""By `model_type`, for those whose defaults are known here."""

T = TypeVar("T")

_REMOTE_KEYS = ("n_embd", "n_layer", "n_head", "n_inner")
_MOST = 1 << 24  # sizes; more is no encoder, and tables are made of some of them


def complete(architecture: Document) -> Document:
    """config.json with its class's defaults for the keys that it leaves out; null is no default.

    NomicBERT in the words of its repository on the Hub (`n_embd`) has a class of its own, whose defaults are not known.
    """
    if any(key in architecture for key in _REMOTE_KEYS):
        return architecture
    kind = architecture.text("model_type", "")
    return Document(architecture.path, {**CLASS_DEFAULTS.get(kind, {}), **architecture})


def as_document(architecture: Mapping[str, Any], path: Path) -> Document:
    """config.json as it was read, or as a program gives it: then `path` is what errors name."""
    return architecture if isinstance(architecture, Document) else Document(path, architecture)


def require(architecture: Mapping[str, Any], **expected: Any) -> None:
    """Refuse variants that would be computed wrongly.

    Raises:
        UnsupportedModel: a key of config.json has another value; an absent key is as expected.
    """
    for key, value in expected.items():
        actual = architecture.get(key, value)
        if actual != value:
            model = str(architecture.get("_name_or_path", architecture.get("model_type")))
            raise UnsupportedModel(model, f"its config.json has {key}={actual!r}; the builder knows {value!r}")


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a BERT or an MPNet."""

    size: int
    wide: int
    n_layers: int
    n_heads: int
    n_words: int
    n_positions: int
    n_segments: int
    n_buckets: int
    epsilon: float
    activation: str

    @classmethod
    def of(cls, architecture: Document) -> Self:
        """Read them.

        Raises:
            ModelCorrupt: a value that cannot be one.
        """
        values = complete(architecture)
        size, n_heads = read_heads(values, "hidden_size", "num_attention_heads")
        return cls(
            size=size,
            n_heads=n_heads,
            wide=read_size(values, "intermediate_size"),
            n_layers=read_size(values, "num_hidden_layers"),
            n_words=read_size(values, "vocab_size"),
            n_positions=read_size(values, "max_position_embeddings"),
            n_segments=read_size(values, "type_vocab_size", 0),
            n_buckets=values.integer("relative_attention_num_buckets", 0, least=4, most=_MOST),
            epsilon=read_epsilon(values, "layer_norm_eps"),
            activation=_required(values, "hidden_act", values.text("hidden_act", None)),
        )


def read_size(values: Document, key: str, default: int | None = None) -> int:
    """A number of something, at least one.

    Raises:
        ModelCorrupt: it is something else, or is not there and has no default.
    """
    return _required(values, key, values.integer(key, default, least=1, most=_MOST))


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
