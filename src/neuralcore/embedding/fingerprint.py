"""What decides whether two vectors may be compared, to be kept beside an index."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Self

from .config import ModelConfig
from .errors import FingerprintMismatch, InputError

# Two engines that differ only in these give nearly the same vectors: of one space, though not bit for bit.
_TOLERATED = ("model", "precision", "max_tokens", "backend")

_NOTED_LATER = ("tokenizer", "backend")  # None in what earlier versions noted, which tells nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What an engine's vectors depend on.

    Args:
        model: its name. Two names for the same weights are the same model.
        weights: SHA-256 of the fp32 weights it was made from.
        pooling: how token vectors become one, "cls+mean" for two side by side; "graph" where the ONNX file does it by
            itself.
        normalize: whether vectors have unit length.
        query_prefix, document_prefix: what is put before texts.
        default_prefix: what is put before a text whose type is not named, if that is not `document_prefix`.
        precision: "fp32", "fp16", "bf16", "int8" or "dynamic-int8".
        dimension: components of a vector.
        max_tokens: where texts are cut.
        tokenizer: digest of the ids of some texts, and of which end of a long text is kept; None in fingerprints of
            earlier versions.
        backend: what computed them, as `EmbeddingEngine.backend` names it; None where that was not
            noted.
        dense: what the Dense steps are told, as JSON; None where there are none.

    Example:
        >>> stored = engine.fingerprint.to_json()  # doctest: +SKIP
        >>> check_fingerprint(stored, engine.fingerprint)  # doctest: +SKIP
    """

    model: str
    weights: str
    pooling: str
    normalize: bool
    query_prefix: str
    document_prefix: str
    precision: str
    dimension: int
    max_tokens: int
    default_prefix: str | None = None
    tokenizer: str | None = None
    backend: str | None = None
    dense: str | None = None

    @classmethod
    def of(cls, config: ModelConfig, weights: str, precision: str, dimensions: int | None, tokenizer: str) -> Self:
        """That of a model as it is configured; `dimensions` is as in an engine, the other arguments as in the class."""
        return cls(
            model=config.name,
            weights=weights,
            pooling=config.pooling_name,
            normalize=config.normalize and (dimensions is not None or config.kept_dimensions is None),
            query_prefix=config.query_prefix,
            document_prefix=config.document_prefix,
            precision=precision,
            dimension=dimensions or config.kept_dimensions or config.dimension,
            max_tokens=config.max_tokens,
            default_prefix=None if config.default_prompt is None else config.prefix(None),
            tokenizer=tokenizer,
            dense=config.dense_text if config.dense else None,
        )

    @property
    def space(self) -> str:
        """SHA-256 (hex) of what decides whether vectors may be compared: what `check_fingerprint` does not tolerate."""
        told = {name: value for name, value in asdict(self).items() if value is not None}  # not what later versions add
        decisive = {name: value for name, value in told.items() if name not in _TOLERATED}
        return sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The reverse of `to_json`.

        Raises:
            InputError: not a fingerprint.
        """
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise InputError(f"not a fingerprint: {error}") from error


def check_fingerprint(stored: Fingerprint | str, current: Fingerprint, *, strict: bool = False) -> None:
    """Refuse to mix two vector spaces.

    What passes unless `strict` is asked for: another name; another limit, where only texts beyond it differ; another
    precision (INT8 against fp32: cosine 0.9997 on average, 0.998 at least); another backend. INT8 on two instruction
    sets differs by up to 6e-3 in a component, since a last bit of fp32 can move a rounding (cosine 0.9999 on average,
    0.9993 at least, all-MiniLM-L6-v2, AVX2 against AVX-512 VNNI on 1,000 texts): neighbours whose scores are that near
    may change places. Texts that must be found bit for bit need one backend: `NEURALCORE_ISA` names it.

    Args:
        stored: of the vectors that are there, as kept beside them (`to_json`).
        current: of the engine that is about to add to them or to search them.
        strict: refuse what passes otherwise, too.

    Raises:
        FingerprintMismatch: they differ in something that changes the space.
        InputError: `stored` is no fingerprint.

    Example:
        >>> check_fingerprint(open("index.json").read(), engine.fingerprint)  # doctest: +SKIP
    """
    before = Fingerprint.from_json(stored) if isinstance(stored, str) else stored
    found = _differences(asdict(before), asdict(current))
    decisive = {name: pair for name, pair in found.items() if strict or name not in _TOLERATED}
    if decisive:
        raise FingerprintMismatch(decisive, same_space=set(decisive) <= set(_TOLERATED))


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        name: (value, now[name])
        for name, value in before.items()
        if value != now[name] and not (value is None and name in _NOTED_LATER)
    }
