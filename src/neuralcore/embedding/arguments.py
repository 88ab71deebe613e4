"""Arguments that can be judged before anything is loaded."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, MappingView, Set
from typing import Literal, get_args

import numpy as np

from .cpu import available_threads
from .errors import InputError, ProviderUnavailable
from .providers import Device
from .types import Backend, Precision

Truncation = Literal["truncate", "warn", "error"]
_log = logging.getLogger(__name__)
_MISSING = {"NAType", "NaTType"}  # what pandas puts into gaps beside None and NaN


def check_text(text: object) -> None:
    """Refuse what is not one text.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(text, str):
        raise InputError(f"embed takes one str, got {type(text).__name__}; embed_batch takes several")


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


def device_for(precision: str, device: Device, backend: str = "auto") -> Device:
    """The device to ask for: INT8, bf16 and what the native kernels run are computed on CPU only, which is then "auto".

    Raises:
        ProviderUnavailable: one of the two precisions on a GPU that was asked for by name.
        InputError: no such precision or back end.
    """
    if backend not in get_args(Backend):
        raise InputError(f"backend must be one of {', '.join(get_args(Backend))}, not {backend!r}")
    if Precision(precision) in (Precision.FP32, Precision.FP16):
        return "cpu" if device == "auto" and backend == "native" else device
    if device in ("cuda", "tensorrt"):
        raise ProviderUnavailable(device, ["cpu"], f"precision={str(precision)!r} is computed on CPU; use 'fp16' there")
    return "cpu"


def check_options(
    threads: int | None, truncation: str, dimensions: int | None, dimension: int, max_memory_bytes: int | None
) -> None:
    """Refuse numbers out of range, what is no whole number, and unknown names.

    Raises:
        InputError: one of them.
    """
    _check_whole("threads", threads, least=1)
    _check_whole("dimensions", dimensions, least=1, most=dimension)
    _check_whole("max_memory_bytes", max_memory_bytes, least=0)
    if truncation not in get_args(Truncation):
        raise InputError(f"truncation must be one of {', '.join(get_args(Truncation))}, not {truncation!r}")


def usable_threads(threads: int | None) -> int:
    """How many threads to use: those asked for, as far as this process may use them; None for all of these.

    More threads than processors make every step wait for those that do not run, and many more cannot be started.
    """
    available = available_threads()
    if threads is not None and threads > available:
        _log.warning("threads=%d: this process may use %d, and uses so many", threads, available)
    return min(threads or available, available)


def _check_whole(name: str, value: int | None, *, least: int, most: int | None = None) -> None:
    if value is None:
        return
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if whole and least <= value and (most is None or value <= most):
        return
    bounds = f"at least {least}" if most is None else f"{least} to {most}"
    wrong = f"{value!r}" if whole else f"{value!r}, which is no int"
    raise InputError(f"{name} must be {bounds}, not {wrong}", limit=least if most is None else most)


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
