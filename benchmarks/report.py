"""Tables for people."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

_PIPE_COLUMNS = 320  # a pipe has no width; do not fold the table to 80


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: names left, numbers right."""
    table = Table()
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else _PIPE_COLUMNS, highlight=False)
    console.print(title, table, sep="\n")


def show_progress(message: str) -> None:
    """Say what is being done, to whoever watches."""
    if sys.stderr.isatty():
        print(message, file=sys.stderr)


def seconds(value: float) -> str:
    """A duration with its unit, three digits."""
    return f"{value * 1000:.3g} ms" if value < 0.9995 else f"{value:.3g} s" if value < 99.5 else f"{value:.0f} s"


def mebibytes(n_bytes: int) -> str:
    """A size in MiB."""
    return f"{n_bytes / 2**20:,.0f} MiB"
