"""Tables for people: fitted to a terminal, plain and unfolded when piped."""

from __future__ import annotations

import sys
from collections.abc import Sequence

_WIDE = 200


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Print rows under headers.

    Args:
        columns: headers.
        rows: cells, as many as there are columns.
        right: headers of columns that are aligned to the right.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    (Console() if sys.stdout.isatty() else Console(width=_WIDE)).print(table)


def megabytes(n_bytes: int) -> str:
    """A size for people, in MB of 10^6 bytes."""
    return f"{n_bytes / 1e6:.0f} MB" if n_bytes >= 1_000_000 else f"{n_bytes / 1e3:.0f} kB"
