"""Standard input, output and error as they are found: closed, full, left by their reader, or short of characters."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING, TextIO, cast

if TYPE_CHECKING:
    from click import ClickException

# A closed stream gets a stand-in that fails as the closed one would (it is open the other way round), so that no file
# takes its number and is written into by whoever prints. Only messages may get lost.
_STAND_INS = (("stdin", "r", os.O_WRONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY))


def secure() -> None:
    """Give closed streams stand-ins, and show what a console has no character for as a question mark."""
    for number, (name, mode, flags) in enumerate(_STAND_INS):
        if getattr(sys, name) is None:
            setattr(sys, name, _stand_in(number, mode, flags))
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def tell(message: str | ClickException) -> None:
    """Write a message to standard error; nothing happens where nobody can read it."""
    import click

    try:
        if isinstance(message, str):
            click.echo(message, err=True)
        else:
            message.show()
    except OSError:
        discard(sys.stderr)


def announce(message: str) -> None:
    """Write to standard output what is not the command's result: it is no error if nobody can read it."""
    import click

    try:
        click.echo(message)
    except OSError:
        discard(sys.stdout)


def discard(stream: TextIO) -> None:
    """Send what is left to flush nowhere: it could not be written, and would fail again at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _stand_in(number: int, mode: str, flags: int) -> TextIO:
    found = os.open(os.devnull, flags)
    if found != number:
        os.dup2(found, number)
        os.close(found)
    return cast("TextIO", open(number, mode, encoding="utf-8", errors="replace", closefd=False))
