"""What the kernels trust of a packed model: sizes, types and ranges, checked once, when it is loaded.

They compute addresses from these and look nothing up twice. Weights may have any value: those can make a vector wrong,
never an address.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from reprlib import repr as shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

PACK_VERSION = 4
"""Raised whenever what is written changes: cached files are then made anew."""

ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "silu")
"""Of the feed-forward network, in the order of `nc_activation` (native/include/neuralcore.h)."""

DENSE_ACTIVATIONS = (*ACTIVATIONS, "identity", "tanh", "sigmoid")
"""Of steps after pooling, in the same order."""

_MULTIPLE = 16  # of every product's sizes and of a head's
_WIDEST = 2**16  # inputs of a product: more could overflow its sums (native/include/neuralcore.h)
_LARGEST_WEIGHT = 128
_INT32 = 2**31 - 1
_SMALLEST_EPSILON = 1e-30  # float32 still tells it from 0

_Tensors = Mapping[str, NDArray[Any]]
_Expected = Iterator[tuple[str, str, tuple[int, ...]]]  # name, dtype, shape


@dataclass(frozen=True, slots=True)
class _Sizes:
    n_words: int
    hidden: int
    wide: int
    n_heads: int
    head_size: int
    n_layers: int
    max_positions: int
    gated: bool


def check_origin(about: Mapping[str, Any]) -> str:
    """What a model was made from.

    Raises:
        ValueError: it does not say.
    """
    made_from: str = _say(about, "made_from", str)
    return made_from


def check_model(tensors: _Tensors, about: Mapping[str, Any]) -> None:
    """Refuse a model that the kernels cannot run safely.

    Args:
        tensors: of the file.
        about: what it says besides.

    Raises:
        ValueError: something is missing, too much, of another type or shape, or out of range; the message says what.
    """
    if (version := _count(about, "pack_version")) != PACK_VERSION:
        raise ValueError(f"version {version} of the format, not {PACK_VERSION}")
    check_origin(about)
    _check_epsilon(about)
    sizes = _sizes(tensors, about)
    _check_positions(tensors, about, sizes)
    _check_tensors(tensors, {name: (dtype, shape) for name, dtype, shape in _expected(sizes, tensors)})
    _check_values(tensors)


def _say(about: Mapping[str, Any], key: str, kind: type[Any]) -> Any:
    value = about.get(key)
    if type(value) is not kind:
        raise ValueError(f"{key} = {shorten(value)} in its header")
    return value


def _count(about: Mapping[str, Any], key: str, *, least: int = 1, most: int = _INT32) -> int:
    value: int = _say(about, key, int)
    if not least <= value <= most:
        raise ValueError(f"{key} = {value} in its header, not {least} to {most}")
    return value


def _check_epsilon(about: Mapping[str, Any]) -> None:
    epsilon = about.get("epsilon")
    if type(epsilon) is not float or not _SMALLEST_EPSILON <= epsilon <= 1:
        raise ValueError(f"epsilon = {shorten(epsilon)} in its header")


def _sizes(tensors: _Tensors, about: Mapping[str, Any]) -> _Sizes:
    if (activation := _say(about, "activation", str)) not in ACTIVATIONS:
        raise ValueError(f"activation = {shorten(activation)} in its header, not {', '.join(ACTIVATIONS)}")
    n_words, hidden = _shape(tensors, "words", 2)
    (wide,) = _shape(tensors, "layers.0.up.column_scale", 1)
    for name, size in (("words", hidden), ("layers.0.up", wide)):
        if size % _MULTIPLE or size > _WIDEST:
            raise ValueError(f"{name} with {size} columns, not a multiple of {_MULTIPLE} up to {_WIDEST}")
    if _say(about, "norm", str) != "layer" or _say(about, "dense", list):
        raise ValueError(f"norm = {shorten(about['norm'])}, dense = {shorten(about['dense'])} in its header")
    n_layers = _count(about, "n_layers", most=len(tensors))
    attention = _attention(about, n_layers)
    n_heads = _count(attention, "n_heads", most=hidden)
    if hidden % n_heads or hidden // n_heads % _MULTIPLE:
        raise ValueError(f"{n_heads} heads for {hidden} components: not multiples of {_MULTIPLE} each")
    found: dict[str, Any] = {"n_heads": n_heads, "n_key_heads": n_heads, "head_size": hidden // n_heads}
    found |= {"rotary": 0 if tensors.keys() & {"cosines.0", "sines.0"} else None, "causal": False, "window": None}
    if attention != found or any(type(attention[key]) is not type(found[key]) for key in found):
        raise ValueError(f"attention = {shorten(attention)} in its header")
    return _Sizes(
        n_words=n_words,
        hidden=hidden,
        wide=wide,
        n_heads=n_heads,
        head_size=hidden // n_heads,
        n_layers=n_layers,
        max_positions=_count(about, "max_positions", most=_INT32 // 2),
        gated=_say(about, "gated", bool),
    )


def _attention(about: Mapping[str, Any], n_layers: int) -> dict[str, Any]:
    """What all layers' attention is."""
    attentions = _say(about, "attentions", list)
    if len(attentions) != n_layers or any(attention != attentions[0] for attention in attentions):
        raise ValueError(f"attentions = {shorten(attentions)} in its header, for {n_layers} layers")
    if type(attentions[0]) is not dict:
        raise ValueError(f"attention = {shorten(attentions[0])} in its header")
    attention: dict[str, Any] = attentions[0]
    return attention


def _shape(tensors: _Tensors, name: str, n_axes: int) -> tuple[int, ...]:
    shape = tensors[name].shape if name in tensors else ()
    if len(shape) != n_axes:
        raise ValueError(f"{name} of the shape {shape}" if name in tensors else f"no {name}")
    return shape


def _check_positions(tensors: _Tensors, about: Mapping[str, Any], sizes: _Sizes) -> None:
    """Every text's length is bound by a table; counting past a pad position needs one with room behind it."""
    if not tensors.keys() & {"positions", "cosines.0", "sines.0"}:
        raise ValueError("no table of positions")
    if about.get("pad_position", 0) is not None:
        _count(about, "pad_position", least=0, most=sizes.max_positions - 2)
        if "positions" not in tensors:
            raise ValueError("a pad position and no positions")


def _expected(sizes: _Sizes, tensors: _Tensors) -> _Expected:
    """Every tensor of a model of these sizes."""
    hidden, positions = sizes.hidden, sizes.max_positions
    yield "words", "int8", (sizes.n_words, hidden)
    yield "word_scale", "float32", (sizes.n_words,)
    if "positions" in tensors:
        yield "positions", "float32", (positions, hidden)
    if "distance_bias" in tensors:
        yield "distance_bias", "float32", (sizes.n_heads, 2 * positions - 1)
    if "cosines.0" in tensors or "sines.0" in tensors:
        yield "cosines.0", "float32", (positions, sizes.head_size // 2)
        yield "sines.0", "float32", (positions, sizes.head_size // 2)
    yield from _norm("embedding_norm", hidden)
    for number in range(sizes.n_layers):
        yield from _layer(f"layers.{number}", sizes)


def _layer(name: str, sizes: _Sizes) -> _Expected:
    hidden, wide = sizes.hidden, sizes.wide
    yield from _product(f"{name}.qkv", hidden, 3 * hidden)
    yield from _product(f"{name}.out", hidden, hidden)
    yield from _product(f"{name}.up", hidden, wide)
    if sizes.gated:
        yield from _product(f"{name}.gate", hidden, wide)
    yield from _product(f"{name}.down", wide, hidden)
    yield from _norm(f"{name}.attention_after", hidden)
    yield from _norm(f"{name}.feed_forward_after", hidden)


def _product(name: str, n_in: int, n_out: int) -> _Expected:
    yield f"{name}.weight", "int8", (n_out // 16, n_in // 4, 16, 4)
    yield f"{name}.column_scale", "float32", (n_out,)
    yield f"{name}.column_sum", "int32", (n_out,)
    yield f"{name}.bias", "float32", (n_out,)


def _norm(name: str, hidden: int) -> _Expected:
    yield f"{name}.weight", "float32", (hidden,)
    yield f"{name}.bias", "float32", (hidden,)


def _check_tensors(tensors: _Tensors, expected: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    for name, (dtype, shape) in expected.items():
        if name not in tensors:
            raise ValueError(f"no {name}")
        if (found := tensors[name]).dtype.name != dtype or found.shape != shape:
            raise ValueError(f"{name} is {found.dtype.name} {found.shape}, not {dtype} {shape}")
    if unknown := tensors.keys() - expected.keys():
        raise ValueError(f"{min(unknown)} as well, which no such model has")


def _check_values(tensors: _Tensors) -> None:
    """All numbers but the weights themselves: few, and each reaches a whole column or row."""
    for name, values in tensors.items():
        if values.dtype == np.float32 and not np.isfinite(values).all():
            raise ValueError(f"NaN or infinity in {name}")
        if name.endswith(".column_sum"):
            weight = tensors[f"{name.removesuffix('.column_sum')}.weight"]
            most = _LARGEST_WEIGHT * math.prod(weight.shape[1::2])
            if int(values.min()) < -most or int(values.max()) > most:
                raise ValueError(f"{name} beyond {most}, the most that its weights can add up to")
