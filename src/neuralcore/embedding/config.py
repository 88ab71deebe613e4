"""What a model needs besides its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import pairwise
from numbers import Integral
from typing import Any, NoReturn, Self

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
    WEIGHTED_MEAN = "weightedmean"
    """The mean weighted by place: 1 for the first token, 2 for the second, and so on."""
    MEAN_SQRT_LEN = "mean_sqrt_len"
    """The sum of the text's tokens over the square root of their number."""

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        raise InputError(f"pooling must be one of {', '.join(cls)}, not {value!r}")


class DenseActivation(StrEnum):
    """What a Dense step does to each component of its product."""

    IDENTITY = "identity"
    TANH = "tanh"
    RELU = "relu"
    GELU = "gelu"
    SILU = "silu"
    SIGMOID = "sigmoid"

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        raise InputError(f"the activation of a Dense step must be one of {', '.join(cls)}, not {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """A step after pooling: activation(x @ weight + bias) + residual(x). Its weights are the model's.

    Args:
        n_in: components of x.
        n_out: components of what it gives.
        activation: of the product.
        bias: whether one is added.
        residual: whether x is added behind the activation: as it is, or through a product of its own where sizes
            differ.
        normalize_input: whether x is scaled to unit length first.
    """

    n_in: int
    n_out: int
    activation: DenseActivation = DenseActivation.TANH
    bias: bool = True
    residual: bool = False
    normalize_input: bool = False

    def __post_init__(self) -> None:
        for name in ("n_in", "n_out"):
            if not _is_whole(number := getattr(self, name)) or number < 1:
                raise InputError(f"{name} of a Dense step must be at least 1, not {number!r}", limit=1)
        for name in ("bias", "residual", "normalize_input"):
            if not isinstance(flag := getattr(self, name), bool):
                raise InputError(f"{name} of a Dense step must be true or false, not {flag!r}")
        object.__setattr__(self, "activation", DenseActivation(self.activation))


_LATER = {"default_prompt": None, "kept_dimensions": None, "graph_pools": False, "pad_position": None, "dense": ()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Configuration of an embedding model.

    Args:
        name: the model's name.
        dimension: components of a vector.
        max_tokens: longest input in tokens, special tokens included; longer texts are cut.
        pooling: how token vectors become one vector; several lay theirs side by side, in this order.
        normalize: whether vectors have unit length (L2).
        query_prefix: put before queries by models that treat queries and documents differently.
        document_prefix: put before documents by such models.
        prompts: further named prefixes of the model, e.g. "classification" and "clustering" of nomic-embed-text-v1.5.
        default_prompt: name of the prompt of a text whose type is not named; None takes that of documents.
        lowercase: lower the case of texts first (do_lower_case of sentence-transformers); most tokenizers do by
            themselves.
        output_name: the ONNX output to read; None finds it by its usual names.
        kept_dimensions: how many components are kept of a vector, as they are (`truncate_dim` of
            sentence-transformers); None keeps all. An engine's `dimensions` takes its place.
        graph_pools: take the vector that an ONNX file itself calls the sentence's, if it has one, before `pooling`: for
            models whose files say nothing of pooling.
        pad_position: the pad token's id, for an ONNX file that takes `position_ids` and is of a family that counts them
            from the next one; None counts from zero.
        dense: products that follow the pooling, in their order; the last one gives `dimension` components.

    Example:
        >>> ModelConfig(name="my-model", dimension=384, max_tokens=256).asymmetric
        False
    """

    name: str
    dimension: int
    max_tokens: int
    pooling: PoolingStrategy | tuple[PoolingStrategy, ...] = PoolingStrategy.MEAN
    normalize: bool = True
    query_prefix: str = ""
    document_prefix: str = ""
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    lowercase: bool = False
    output_name: str | None = None
    kept_dimensions: int | None = None
    graph_pools: bool = False
    pad_position: int | None = None
    dense: tuple[Dense, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("dimension", 1), ("max_tokens", 3)):
            if not _is_whole(number := getattr(self, name)) or number < least:
                raise InputError(f"{name} must be at least {least}, not {number!r}", limit=least)
        kept = self.kept_dimensions
        if kept is not None and not (_is_whole(kept) and 1 <= kept <= self.dimension):
            raise InputError(f"kept_dimensions must be 1 to {self.dimension}, not {kept!r}", limit=self.dimension)
        texts = (self.query_prefix, self.document_prefix, *self.prompts, *self.prompts.values())
        if not all(isinstance(text, str) for text in texts):
            raise InputError("prompts and their names must be texts")
        object.__setattr__(self, "pooling", _read_pooling(self.pooling))
        object.__setattr__(self, "dense", _read_dense(self.dense))
        self._check_sizes()
        self.prefix(None)

    @property
    def poolings(self) -> tuple[PoolingStrategy, ...]:
        """How token vectors become one vector: all that are laid side by side, of one strategy that one."""
        return (self.pooling,) if isinstance(self.pooling, PoolingStrategy) else self.pooling

    @property
    def pooling_name(self) -> str:
        """The strategies as one text, "cls+mean" say."""
        return "+".join(self.poolings)

    @property
    def dense_text(self) -> str:
        """What the Dense steps are told, as JSON."""
        return json.dumps([{**asdict(step), "activation": str(step.activation)} for step in self.dense])

    @property
    def pooled_dimension(self) -> int:
        """Components of a pooled vector, before any Dense step."""
        return self.dense[0].n_in if self.dense else self.dimension

    @property
    def token_dimension(self) -> int:
        """Components of a token's vector."""
        return self.pooled_dimension // len(self.poolings)

    @property
    def asymmetric(self) -> bool:
        """Whether queries and documents get different prefixes."""
        return self.query_prefix != self.document_prefix

    def prefix(self, embedding_type: str | None = None, prompt: str | None = None) -> str:
        """The text put before an input of this type.

        Args:
            embedding_type: "query", "document", the name of one of the model's prompts, or None for its default.
            prompt: the text itself, whatever prompts the model has.

        Raises:
            InputError: the model has no such prompt; both are given; or the prompt is no text that can be tokenized.
        """
        if prompt is not None:
            return _checked_prompt(prompt, embedding_type)
        known = {**self.prompts, "query": self.query_prefix, "document": self.document_prefix}
        chosen = (self.default_prompt or "document") if embedding_type is None else embedding_type
        if chosen not in known:
            raise InputError(f"{self.name} has no prompt {chosen!r}; it has {', '.join(sorted(known))}")
        return known[chosen]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types, without what is at its default and was not there before: what was made from a
        configuration, and kept with it, stays valid.
        """
        values = {**asdict(self), "pooling": _as_json(self.pooling), "prompts": dict(self.prompts)}
        values["dense"] = tuple({**asdict(dense), "activation": str(dense.activation)} for dense in self.dense)
        return {key: value for key, value in values.items() if key not in _LATER or value != _LATER[key]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The reverse of `to_dict`."""
        return cls(**values)

    def _check_sizes(self) -> None:
        """What one step gives, the next one takes."""
        for before, after in pairwise(self.dense):
            if before.n_out != after.n_in:
                raise InputError(f"a Dense step gives {before.n_out} components, the next one takes {after.n_in}")
        if self.dense and self.dense[-1].n_out != self.dimension:
            raise InputError(f"the last Dense step gives {self.dense[-1].n_out} components, not {self.dimension}")
        if self.pooled_dimension % len(self.poolings):
            n = len(self.poolings)
            raise InputError(
                f"{n} poolings side by side give a multiple of {n} components, not {self.pooled_dimension}"
            )


def _read_pooling(given: Any) -> PoolingStrategy | tuple[PoolingStrategy, ...]:
    """One or several; a list of one is that one."""
    several = tuple(
        map(PoolingStrategy, [given] if isinstance(given, str) or not isinstance(given, Sequence) else given)
    )
    if not several:
        raise InputError("pooling must be one strategy at least")
    return several[0] if len(several) == 1 else several


def _read_dense(given: object) -> tuple[Dense, ...]:
    if isinstance(given, Sequence) and all(isinstance(step, (Dense, Mapping)) for step in given):
        return tuple(step if isinstance(step, Dense) else Dense(**step) for step in given)
    raise InputError(f"dense must be a list of Dense steps, not {given!r}")


def _as_json(pooling: PoolingStrategy | tuple[PoolingStrategy, ...]) -> str | list[str]:
    return str(pooling) if isinstance(pooling, PoolingStrategy) else list(map(str, pooling))


def _checked_prompt(prompt: object, embedding_type: str | None) -> str:
    if embedding_type is not None:
        raise InputError(f"prompt and embedding_type={str(embedding_type)!r} exclude each other: give one of them")
    if not isinstance(prompt, str):
        raise InputError(f"prompt must be a str, not {type(prompt).__name__}")
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"prompt has a lone surrogate at character {error.start}") from error
    return prompt


def _is_whole(number: object) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool)
