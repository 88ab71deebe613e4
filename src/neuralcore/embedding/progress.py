"""A progress bar on standard error: for people only, silent when piped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from .types import Advance


class _Unfailing:
    """A stream whose terminal may be closed while work goes on: what cannot be shown any more is no error."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


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

    console = Console(file=_Unfailing(sys.stderr))  # type: ignore[arg-type]  # a file as far as rich needs one
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda n: bar.advance(task, n)


@dataclass(slots=True)
class Transfer:
    """What a fetch shows while it runs."""

    say: Callable[[str], object]
    """Name what is waited for, and from whom."""
    expect: Callable[[int], object]
    """So many bytes more will come."""
    advance: Advance
    """So many bytes have come."""


@contextmanager
def transfer_bar(label: str) -> Iterator[Transfer]:
    """Show what is fetched from whom while the block runs.

    Args:
        label: what is waited for at first.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(file=_Unfailing(sys.stderr))  # type: ignore[arg-type]  # a file as far as rich needs one
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(label, total=0)
        yield Transfer(
            say=lambda what: bar.update(task, description=what),
            expect=lambda n: bar.update(task, total=(bar.tasks[0].total or 0) + n),
            advance=lambda n: bar.advance(task, n),
        )
