"""Tables for people: coloured and fitted in a terminal, plain and aligned when piped."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence

import click

_GAP = "  "


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    style: Callable[[str], str] = lambda _: "",
) -> None:
    """Print rows under headers; only the first column is folded where a terminal is too narrow.

    Args:
        columns: headers.
        rows: cells, as many as there are columns.
        right: headers of columns that are aligned to the right.
        style: of a cell in such a column, as rich names styles.
    """
    rows = [[_printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty() and _least_width(rows, columns) <= terminal_width():
        _print_rich(columns, rows, right, style)
    else:
        _print_plain(columns, rows, right)


def terminal_width() -> int:
    """Columns of the terminal; 80 if it does not tell."""
    return shutil.get_terminal_size().columns


def fit(text: str, width: int) -> str:
    """A text on one line of at most so many cells (wide characters take two)."""
    from rich.cells import cell_len, set_cell_size

    line = _printable(" ".join(text.split()))
    return line if cell_len(line) <= width else set_cell_size(line, width - 1).rstrip() + "…"


def megabytes(n_bytes: int) -> str:
    """A size for people, in MB of 10^6 bytes."""
    return f"{n_bytes / 1e6:.0f} MB" if n_bytes >= 1_000_000 else f"{n_bytes / 1e3:.0f} kB"


def _printable(cell: str) -> str:
    """Without what could move the cursor or change colours."""
    return "".join(character if character.isprintable() else " " for character in cell)


def _least_width(rows: Sequence[Sequence[str]], columns: Sequence[str]) -> int:
    """Cells needed when the first column is folded to a third of the terminal."""
    first, *others = _widths(rows, columns)
    return min(first, terminal_width() // 3) + sum(width + len(_GAP) for width in others)


def _widths(rows: Sequence[Sequence[str]], columns: Sequence[str]) -> list[int]:
    from rich.cells import cell_len

    return [max(map(cell_len, cells)) for cells in zip(columns, *rows, strict=True)]


def _print_plain(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    from rich.cells import cell_len

    widths = _widths(rows, columns)
    for row in [columns, *rows]:
        spaces = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [
            space + cell if name in right else cell + space
            for name, cell, space in zip(columns, row, spaces, strict=True)
        ]
        click.echo(_GAP.join(cells).rstrip())


def _print_rich(
    columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str], style: Callable[[str], str]
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, len(_GAP), 0, 0), pad_edge=False, header_style="bold")
    for number, name in enumerate(columns):
        justify = "right" if name in right else "left"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=number > 0)  # type: ignore[arg-type]
    for row in rows:
        styles = [style(cell) if name in right else "" for name, cell in zip(columns, row, strict=True)]
        table.add_row(*(Text(cell, style=of) for cell, of in zip(row, styles, strict=True)))
    Console().print(table)
