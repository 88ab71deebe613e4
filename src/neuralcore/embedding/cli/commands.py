"""The commands of `neuralcore`, and the group they are in."""

from __future__ import annotations

import click

from neuralcore.embedding import __version__

from .convert import convert
from .embed import embed
from .info import info
from .models import models
from .pull import pull
from .serve import serve
from .similarity import similarity
from .verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="neuralcore")
@click.option("--debug", is_flag=True, help="Show where an error was raised.")
def cli(debug: bool) -> None:
    """Local text embeddings on ONNX Runtime."""


for _command in (embed, similarity, serve, models, pull, convert, verify, info):
    cli.add_command(_command)
