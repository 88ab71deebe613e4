"""Where the kernels' time goes: cycles by stage of the encoder, when NEURALCORE_PROFILE or benchmarks ask for them."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache

from .library import load_library, read_counts

STAGES = (
    "embed",
    "queries, keys, values",
    "attention",
    "out of attention",
    "into the network",
    "settle",
    "out of the network",
    "prepare",
    "pool",
)
"""In the order of `nc_stage`."""


@contextmanager
def counting() -> Iterator[None]:
    """Count from 0 in this block, over all threads and models of the process."""
    library = load_library()
    library.nc_count_cycles(1)
    try:
        yield
    finally:
        library.nc_count_cycles(0)


def read_cycles() -> Mapping[str, int]:
    """Ticks of the CPU's clock that each stage took since counting began, summed over threads."""
    return dict(zip(STAGES, read_counts(len(STAGES)), strict=True))


@cache
def report_at_exit() -> None:
    """Count from now on, and write a table to standard error when the process ends."""
    load_library().nc_count_cycles(1)
    atexit.register(lambda: print(format_stages(read_cycles()), file=sys.stderr))  # noqa: T201 - that is what was asked for


def format_stages(cycles: Mapping[str, int]) -> str:
    """A table of shares, one stage a line.

    Example:
        >>> print(format_stages({"attention": 1_000_000, "pool": 3_000_000}))
        stage                      Mcycles   share
        attention                      1.0   25.0%
        pool                           3.0   75.0%
    """
    total = sum(cycles.values()) or 1
    rows = [f"{name:<24}{n / 1e6:>10,.1f}{n / total:>8.1%}" for name, n in cycles.items()]
    return "\n".join([f"{'stage':<24}{'Mcycles':>10}{'share':>8}", *rows])
