"""Which instruction set the kernels use: of those that prove themselves on this CPU, the fastest one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from ... import settings
from ...errors import ProviderUnavailable
from ...types import Precision
from .format import FORMS
from .library import find_kernels, load_library

_PORTABLE = "scalar"  # for tests: ONNX Runtime's INT8 is faster
_NEEDED: Mapping[Precision, str] = {Precision.BF16: "avx512_bf16"}  # as CPUs call it; others have it all
_AS_FAST = 1.1


@dataclass(frozen=True, slots=True)
class Trial:
    """A small product, computed and timed at load.

    Attributes:
        isa: the instruction set.
        is_right: whether its kernels computed what plain loops do; others are never used.
        speed: operations a second (a multiplication and an addition are two) of a thread; 0 where it was not measured.
    """

    isa: str
    is_right: bool
    speed: float = 0

    def __str__(self) -> str:
        speed = f", {self.speed / 1e9:.0f} GOP/s" if self.speed else ""
        return f"{self.isa} {'right' if self.is_right else 'WRONG, never used'}{speed}"


def choose_fastest(trials: Sequence[Trial]) -> str | None:
    """The fastest of those that are right; None without one.

    Vectors of two instruction sets differ in their last bits. So where several are as fast, within what a busy machine
    blurs, the first of them is taken, in every process the same.

    Args:
        trials: in the order of preference.

    Example:
        >>> choose_fastest([Trial("a", False, 9e11), Trial("b", True, 4e11), Trial("c", True, 4.1e11)])
        'b'
    """
    right = [trial for trial in trials if trial.is_right]
    most = max((trial.speed for trial in right), default=0)
    return next((trial.isa for trial in right if trial.speed * _AS_FAST >= most), None)


def absence(precision: Precision = Precision.INT8) -> str:
    """Why no kernels of a precision can be used in this process; empty if they can.

    Example:
        >>> absence()  # doctest: +SKIP
        ''
    """
    if settings.isa() == "none":
        return "switched off by NEURALCORE_ISA=none"
    if load_library() is None:
        return "not in this installation: there was no C++ compiler when it was built, or not on this platform"
    if choose_isa(precision):
        return ""
    wrong = ", ".join(trial.isa for trial in try_isas(precision) if not trial.is_right)
    if needed := _NEEDED.get(precision):
        forced = f", or not in NEURALCORE_ISA={settings.isa()}" if settings.isa() else ""
        why = f"{precision} is computed by {needed}, which is not in this CPU{forced}"
    else:
        why = f"this CPU has none of the instruction sets {', '.join(compiled_isas()[:-1])}"
    return f"{why}, or computes wrongly with it ({wrong})" if wrong else why


def compiled_isas() -> Sequence[str]:
    """The instruction sets that were compiled in, best first; empty without the library."""
    library = load_library()
    return library.nc_compiled().decode().split() if library else ()


def is_usable(isa: str, precision: Precision | None = None) -> bool:
    """Whether an instruction set is compiled in, and this CPU has it and computes a precision (or any) right."""
    return any(bool(find_kernels(isa, each)) and is_right(isa, each) for each in ([precision] if precision else FORMS))


@cache
def is_right(isa: str, precision: Precision) -> bool:
    """Whether an instruction set of this CPU computes a small product as plain loops do, in every bit."""
    return bool(load_library().nc_self_test(find_kernels(isa, precision)))


@cache
def try_isas(precision: Precision = Precision.INT8) -> Sequence[Trial]:
    """What became of each instruction set that was compiled in and that this CPU says it has, best first.

    Each computes a small product and is timed, once a process: a millisecond in all. The portable one is not
    timed: it is used only where it is named.
    """
    return tuple(_try(isa, precision) for isa in compiled_isas() if find_kernels(isa, precision))


def _try(isa: str, precision: Precision) -> Trial:
    if not is_right(isa, precision):
        return Trial(isa, is_right=False)
    if isa == _PORTABLE:
        return Trial(isa, is_right=True)
    return Trial(isa, is_right=True, speed=load_library().nc_measure(find_kernels(isa, precision)))


def choose_isa(precision: Precision = Precision.INT8) -> str | None:
    """The instruction set to use for a precision; None for no kernels.

    NEURALCORE_ISA names the best that may be used: where it does not know the precision, the fastest of those behind it
    is taken. Without it, the fastest of this CPU is.

    Raises:
        ProviderUnavailable: the one that was named is not here, or computes wrongly.
    """
    forced, compiled = settings.isa(), compiled_isas()
    if forced == "none":
        return None
    if forced and is_usable(forced, precision):
        return forced
    if forced and not is_usable(forced):
        raise ProviderUnavailable(forced, [isa for isa in compiled if is_usable(isa)], _why_not(forced))
    allowed = compiled[compiled.index(forced) :] if forced else compiled
    return choose_fastest([trial for trial in try_isas(precision) if trial.isa in allowed and trial.isa != _PORTABLE])


def _why_not(forced: str) -> str:
    if any(find_kernels(forced, precision) for precision in FORMS):
        return "NEURALCORE_ISA asks for it, and this CPU computes wrongly with it"
    return f"NEURALCORE_ISA asks for it; compiled: {', '.join(compiled_isas()) or 'none'}"
