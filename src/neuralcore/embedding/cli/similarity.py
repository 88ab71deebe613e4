"""`neuralcore similarity`: how alike a few texts are."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from .options import as_json, engine_options, load_engine

_LABEL_WIDTH = 40


@click.command()
@click.argument("texts", nargs=-1, required=True)
@as_json
@engine_options
def similarity(texts: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Print the cosine similarity of each pair of TEXTS."""
    import numpy as np

    if len(texts) < 2:
        raise click.UsageError("similarity takes at least two texts.")
    with load_engine(options) as engine:
        vectors = engine.embed_batch(texts)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    matrix = np.clip(vectors @ vectors.T, -1, 1).round(4).tolist()
    if as_json:
        click.echo(json.dumps({"texts": texts, "similarity": matrix}, ensure_ascii=False))
    else:
        _print(texts, matrix)


def _print(texts: tuple[str, ...], matrix: list[list[float]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Piped: as wide as it needs, since there is no terminal to fit.
    console = Console() if sys.stdout.isatty() else Console(width=60 + 8 * len(texts))
    table = Table(box=None, padding=(0, 1), header_style="bold")
    table.add_column("")
    table.add_column("cosine similarity", max_width=_LABEL_WIDTH, no_wrap=True, overflow="ellipsis")
    for number in range(1, len(texts) + 1):
        table.add_column(str(number), justify="right", no_wrap=True)
    for number, (text, row) in enumerate(zip(texts, matrix, strict=True), 1):
        values = [Text(f"{value:.2f}", style=_style(value)) for value in row]
        table.add_row(str(number), Text(" ".join(text.split())), *values)
    console.print(table)


def _style(value: float) -> str:
    """Green for what is alike, grey for what is not."""
    if value >= 0.5:
        return "bold green"
    return "yellow" if value >= 0.25 else "bright_black"
