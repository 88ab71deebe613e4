"""What the kernels trust of a packed model: sizes, types and ranges, checked once, when it is loaded.

They compute addresses from these and look nothing up twice. Weights may have any value: those can make a vector wrong,
never an address.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...types import Precision
from .format import (
    ACTIVATIONS,
    DENSE_ACTIVATIONS,
    EPSILONS,
    FORMS,
    HEAD_NORMS,
    MOST_POSITIONS,
    MULTIPLE,
    NORM_PLACES,
    PACK_VERSION,
    WIDEST,
    WIDEST_HEAD,
    Form,
)
from .panels import PANEL

_NORM_KINDS = ("layer", "rms")
_LARGEST_WEIGHT = 128
_AXES_OF_WEIGHT = 4
_INT32 = 2**31 - 1

_Tensors = Mapping[str, NDArray[Any]]
_Expected = Iterator[tuple[str, str, tuple[int, ...]]]  # name, dtype, shape


@dataclass(frozen=True, slots=True)
class _Attention:
    """What the header says of one layer's."""

    n_heads: int
    n_key_heads: int
    head_size: int
    rotary: int | None

    @property
    def size(self) -> int:
        return self.n_heads * self.head_size


@dataclass(frozen=True, slots=True)
class _Sizes:
    form: Form
    n_words: int
    hidden: int
    wide: int
    max_positions: int
    gated: bool
    attentions: Sequence[_Attention]


def check_origin(about: Mapping[str, Any]) -> str:
    """What a model was made from.

    Raises:
        ValueError: it does not say.
    """
    made_from: str = _say(about, "made_from", str)
    return made_from


def check_precision(about: Mapping[str, Any]) -> Precision:
    """How a model keeps its numbers.

    Raises:
        ValueError: in no way that is known.
    """
    return Precision(_choose(about, "precision", list(FORMS)))


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
    _choose(about, "activation", ACTIVATIONS)
    _choose(about, "norm", _NORM_KINDS)
    sizes = _sizes(tensors, about)
    _check_positions(tensors, about, sizes)
    _check_tensors(tensors, [*_model(sizes, tensors), *_steps(sizes, tensors, about)])
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


def _count_or_none(about: Mapping[str, Any], key: str, *, most: int) -> int | None:
    """From 0. null is a value; a key that is not there is none."""
    return None if about.get(key, 0) is None else _count(about, key, least=0, most=most)


def _choose(about: Mapping[str, Any], key: str, known: Sequence[str]) -> str:
    value: str = _say(about, key, str)
    if value not in known:
        raise ValueError(f"{key} = {shorten(value)} in its header, not {', '.join(known)}")
    return value


def _list(about: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    values: list[Any] = _say(about, key, list)
    for value in values:
        if type(value) is not dict:
            raise ValueError(f"{shorten(value)} among {key} in its header")
    return values


def _check_epsilon(about: Mapping[str, Any]) -> None:
    epsilon = about.get("epsilon")
    if type(epsilon) is not float or not EPSILONS[0] <= epsilon <= EPSILONS[1]:
        raise ValueError(f"epsilon = {shorten(epsilon)} in its header")


def _sizes(tensors: _Tensors, about: Mapping[str, Any]) -> _Sizes:
    n_words, hidden = _shape(tensors, "words", 2)
    (wide,) = _shape(tensors, "layers.0.up.bias", 1)
    for name, size in (("words", hidden), ("layers.0.up", wide)):
        if size % MULTIPLE or size > WIDEST:
            raise ValueError(f"{name} with {size} columns, not a multiple of {MULTIPLE} up to {WIDEST}")
    n_layers = _count(about, "n_layers", most=len(tensors))
    max_positions = _count(about, "max_positions", most=MOST_POSITIONS)
    attentions = _list(about, "attentions")
    if len(attentions) != n_layers:
        raise ValueError(f"{len(attentions)} attentions in its header, for {n_layers} layers")
    return _Sizes(
        form=FORMS[check_precision(about)],
        n_words=n_words,
        hidden=hidden,
        wide=wide,
        max_positions=max_positions,
        gated=_say(about, "gated", bool),
        attentions=[_attention(attention, max_positions) for attention in attentions],
    )


def _attention(about: Mapping[str, Any], max_positions: int) -> _Attention:
    """A layer's, whose numbers fit each other."""
    n_heads, n_key_heads = (_count(about, key, most=WIDEST) for key in ("n_heads", "n_key_heads"))
    head_size = _count(about, "head_size", most=WIDEST_HEAD)
    if head_size % MULTIPLE or n_heads * head_size > WIDEST:
        raise ValueError(f"{n_heads} heads of {head_size} components: not multiples of {MULTIPLE}, or beyond {WIDEST}")
    if n_heads % n_key_heads:
        raise ValueError(f"{n_heads} heads that cannot share {n_key_heads} key heads")
    _say(about, "causal", bool)
    _count_or_none(about, "window", most=max_positions)
    return _Attention(n_heads, n_key_heads, head_size, _count_or_none(about, "rotary", most=_INT32))


def _shape(tensors: _Tensors, name: str, n_axes: int) -> tuple[int, ...]:
    shape = tensors[name].shape if name in tensors else ()
    if len(shape) != n_axes:
        raise ValueError(f"{name} of the shape {shape}" if name in tensors else f"no {name}")
    return shape


def _check_positions(tensors: _Tensors, about: Mapping[str, Any], sizes: _Sizes) -> None:
    """Counting past a pad position needs a table with room behind it; a bias is of as many heads as every layer has."""
    if _count_or_none(about, "pad_position", most=sizes.max_positions - 2) is not None and "positions" not in tensors:
        raise ValueError("a pad position and no positions")
    if "distance_bias" in tensors and len({attention.n_heads for attention in sizes.attentions}) > 1:
        raise ValueError("a bias of distances, and layers that differ in their number of heads")


def _model(sizes: _Sizes, tensors: _Tensors) -> _Expected:
    """Every tensor of a model of these sizes, its steps aside."""
    hidden, positions = sizes.hidden, sizes.max_positions
    yield "words", sizes.form.words, (sizes.n_words, hidden)
    if sizes.form.has_scales:
        yield "word_scale", "float32", (sizes.n_words,)
    if "positions" in tensors:
        yield "positions", "float32", (positions, hidden)
    if "distance_bias" in tensors:
        yield "distance_bias", "float32", (sizes.attentions[0].n_heads, 2 * positions - 1)
    for name in ("embedding_norm", "end_norm"):
        yield from _norm(name, hidden, tensors)
    for number, attention in enumerate(sizes.attentions):
        yield from _layer(f"layers.{number}", sizes, attention, tensors)


def _layer(name: str, sizes: _Sizes, attention: _Attention, tensors: _Tensors) -> _Expected:
    hidden, wide = sizes.hidden, sizes.wide
    yield from _product(
        sizes.form, f"{name}.qkv", hidden, attention.size + 2 * attention.n_key_heads * attention.head_size
    )
    yield from _product(sizes.form, f"{name}.out", attention.size, hidden)
    yield from _product(sizes.form, f"{name}.up", hidden, wide)
    if sizes.gated:
        yield from _product(sizes.form, f"{name}.gate", hidden, wide)
    yield from _product(sizes.form, f"{name}.down", wide, hidden)
    for norm in NORM_PLACES:
        yield from _norm(f"{name}.{norm}", hidden, tensors)
    for norm in HEAD_NORMS:
        yield from _norm(f"{name}.{norm}", attention.head_size, tensors)
    if attention.rotary is not None:
        for table in (f"cosines.{attention.rotary}", f"sines.{attention.rotary}"):
            yield table, "float32", (sizes.max_positions, attention.head_size // 2)


def _product(form: Form, name: str, n_in: int, n_out: int) -> _Expected:
    yield f"{name}.weight", form.dtype, (n_out // PANEL, n_in // form.group, PANEL, form.group)
    if form.has_scales:
        yield f"{name}.column_scale", "float32", (n_out,)
        yield f"{name}.column_sum", "int32", (n_out,)
    yield f"{name}.bias", "float32", (n_out,)


def _norm(name: str, size: int, tensors: _Tensors) -> _Expected:
    """A norm may be absent, or have no bias; never a bias alone."""
    has_bias = f"{name}.bias" in tensors
    if f"{name}.weight" in tensors or has_bias:
        yield f"{name}.weight", "float32", (size,)
    if has_bias:
        yield f"{name}.bias", "float32", (size,)


def _steps(sizes: _Sizes, tensors: _Tensors, about: Mapping[str, Any]) -> _Expected:
    """Tensors of the steps behind the poolings, of which each takes what the one before it gives."""
    n_in: int | None = None
    for number, step in enumerate(_list(about, "dense")):
        name = f"dense.{number}"
        _choose(step, "activation", DENSE_ACTIVATIONS)
        actual, n_out = _shape(tensors, f"{name}.weight", 2)
        if n_in is None and actual % sizes.hidden:
            raise ValueError(f"{name} of {actual} inputs, for poolings of {sizes.hidden} components")
        n_in = n_in or actual
        yield f"{name}.weight", "float32", (n_in, n_out)
        if f"{name}.bias" in tensors:
            yield f"{name}.bias", "float32", (n_out,)
        if _say(step, "residual", bool):
            if f"{name}.residual" in tensors:
                yield f"{name}.residual", "float32", (n_in, n_out)
            elif n_in != n_out:
                raise ValueError(f"{name} that adds its {n_in} inputs to {n_out} outputs")
        n_in = n_out


def _check_tensors(tensors: _Tensors, expected: Sequence[tuple[str, str, tuple[int, ...]]]) -> None:
    for name, dtype, shape in expected:
        if name not in tensors:
            raise ValueError(f"no {name}")
        if (found := tensors[name]).dtype.name != dtype or found.shape != shape:
            raise ValueError(f"{name} is {found.dtype.name} {found.shape}, not {dtype} {shape}")
    if unknown := tensors.keys() - {name for name, _, _ in expected}:
        raise ValueError(f"{min(unknown)} as well, which no such model has")


def _check_values(tensors: _Tensors) -> None:
    """All numbers but words and the weights of products: few, and each reaches a whole column or row."""
    for name, values in tensors.items():
        if (
            values.dtype == np.float32
            and name != "words"
            and values.ndim < _AXES_OF_WEIGHT
            and not np.isfinite(values).all()
        ):
            raise ValueError(f"NaN or infinity in {name}")
        if name.endswith(".column_sum"):
            weight = tensors[f"{name.removesuffix('.column_sum')}.weight"]
            most = _LARGEST_WEIGHT * math.prod(weight.shape[1::2])
            if int(values.min()) < -most or int(values.max()) > most:
                raise ValueError(f"{name} beyond {most}, the most that its weights can add up to")
