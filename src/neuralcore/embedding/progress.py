"""A progress bar on standard error: for people only, silent when piped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .types import Advance


@contextmanager
def progress_bar(label: str, total: int | None) -> Iterator[Advance]:
    """Show a bar while the block runs.

    Args:
        label: what is being done.
        total: how many steps there are; None if that is not known.

    Yields:
        What to call with the number of steps just done, from any thread.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda n: bar.advance(task, n)
