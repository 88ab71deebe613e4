"""Arguments that can be judged before anything is loaded."""

from __future__ import annotations

from typing import Literal, get_args

from .errors import InputError, ProviderUnavailable
from .providers import Device
from .types import Precision

Truncation = Literal["truncate", "warn", "error"]


def refuse_single(texts: object) -> None:
    """Refuse one text where several are taken.

    Raises:
        InputError: a str or bytes.
    """
    if isinstance(texts, (str, bytes)):
        raise InputError(f"expected several texts, got one {type(texts).__name__}; embed takes one")


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
