"""The command line `neuralcore`."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

import click

from neuralcore.embedding import EmbeddingError, __version__
from neuralcore.embedding.errors import status_of

from .convert import convert
from .embed import embed
from .info import info
from .models import models
from .pull import pull
from .serve import serve
from .similarity import similarity
from .verify import verify

_FAILED = 1
_INTERRUPTED = 130
_TERMINATED = 143


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="neuralcore")
@click.option("--debug", is_flag=True, help="Show where an error was raised.")
def cli(debug: bool) -> None:
    """Local text embeddings on ONNX Runtime."""


for _command in (embed, similarity, serve, models, pull, convert, verify, info):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and leave with its exit code: that of the error, 2 for wrong usage, 130 when interrupted."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    warnings.showwarning = lambda message, *_, **__: click.echo(f"warning: {message}", err=True)
    signal.signal(signal.SIGTERM, _leave)
    sys.exit(_run(arguments))


def _leave(*_: object) -> NoReturn:
    """Stopped by `kill` or a container's end: unwind, so that half-made files go, where the default would not."""
    raise SystemExit(_TERMINATED)


def _run(arguments: Sequence[str]) -> int:
    try:
        cli.main(args=list(arguments), prog_name="neuralcore", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _INTERRUPTED
    except BrokenPipeError:
        _discard_output()
    except (EmbeddingError, OSError) as error:
        return _report(error, with_place="--debug" in arguments)
    return 0


def _report(error: EmbeddingError | OSError, *, with_place: bool) -> int:
    if with_place:
        import traceback

        traceback.print_exc()
    click.echo(f"error: {error}", err=True)
    if isinstance(error, EmbeddingError):
        return status_of(error).exit_code
    _discard_output()  # a full disk would fail a second time when the interpreter flushes
    return _FAILED


def _discard_output() -> None:
    """Send what is left to flush nowhere: whoever read our output has left, and it would raise again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
