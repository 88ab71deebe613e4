"""Arguments that can be judged before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping, MappingView, Set
from typing import Literal, get_args

from .errors import InputError, ProviderUnavailable
from .providers import Device
from .types import Precision

Truncation = Literal["truncate", "warn", "error"]
_MISSING = {"NAType", "NaTType"}  # what pandas puts into gaps beside None and NaN


def check_texts(texts: object) -> None:
    """Refuse what can be iterated, but does not give texts in an order that the vectors could keep.

    Raises:
        InputError: one text, a mapping, a set, a table, an array of other than one dimension, or nothing of the kind;
            with what to pass instead.
    """
    if reason := _why_no_texts(texts):
        raise InputError(f"expected several texts, got {reason}")


def describe_other(value: object) -> str:
    """What stands in a text's place, and what to do about it."""
    found = f"expected a str, got {type(value).__name__}"
    if isinstance(value, (bytes, bytearray)):
        return f"{found}; decode it, e.g. text.decode('utf-8')"
    if value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ in _MISSING:
        return f"{found}, a missing value; leave such rows out, or fill them, e.g. with ''"
    return found


def device_for(precision: str, device: Device) -> Device:
    """The device to ask for: INT8 is computed on CPU only, so "auto" means the CPU.

    Raises:
        ProviderUnavailable: INT8 on a GPU that was asked for by name.
        InputError: no such precision.
    """
    if Precision(precision) not in (Precision.INT8, Precision.DYNAMIC_INT8):
        return device
    if device in ("cuda", "tensorrt"):
        raise ProviderUnavailable(device, ["cpu"], f"precision={str(precision)!r} is computed on CPU; use 'fp16' there")
    return "cpu"


def check_options(threads: int | None, truncation: str, dimensions: int | None, dimension: int) -> None:
    """Refuse numbers out of range and unknown names.

    Raises:
        InputError: one of them.
    """
    if threads is not None and threads < 1:
        raise InputError(f"threads must be at least 1, not {threads}", limit=1)
    if truncation not in get_args(Truncation):
        raise InputError(f"truncation must be one of {', '.join(get_args(Truncation))}, not {truncation!r}")
    if dimensions is not None and not 1 <= dimensions <= dimension:
        raise InputError(f"dimensions must be 1 to {dimension}, not {dimensions}", limit=dimension)


def _why_no_texts(texts: object) -> str | None:
    name = type(texts).__name__
    match texts:
        case str():
            return f"one {name}; embed takes one"
        case bytes() | bytearray() | memoryview():
            return f"one {name}; embed takes one, decoded: data.decode('utf-8')"
        case Mapping():
            return f"a {name}, of which the keys would be embedded; pass list(texts.values())"
        case Set() if not isinstance(texts, MappingView):
            return f"a {name}, which has no order; pass a list, e.g. sorted(texts)"
        case None | type():
            return repr(texts)
    return _why_no_column(texts, name)


def _why_no_column(texts: object, name: str) -> str | None:
    """Of what libraries make that need not be installed: known by what it has, not by its class."""
    if hasattr(texts, "columns") or hasattr(texts, "column_names"):
        return f"a {name}, which is a table; pass one column, e.g. list(frame['text'])"
    if (n_dimensions := getattr(texts, "ndim", 1)) != 1:
        return f"a {name} of {n_dimensions} dimensions, not one; pass one column, e.g. list(array[:, 0])"
    if not (hasattr(texts, "__iter__") or hasattr(texts, "__getitem__")):
        return f"one {name}"
    return None
