"""`neuralcore similarity`: how alike a few texts are."""

from __future__ import annotations

import json
from typing import Any

import click

from .options import as_json, engine_options, load_engine
from .tables import fit, print_table, terminal_width

_MOST_LABEL, _LEAST_LABEL = 44, 12
_VALUE_WIDTH = 7  # "-0.12" and the gap


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
        click.echo(json.dumps({"texts": texts, "similarity": matrix}))
    else:
        _print(texts, matrix)


def _print(texts: tuple[str, ...], matrix: list[list[float]]) -> None:
    left = terminal_width() - 5 - _VALUE_WIDTH * len(texts)
    width = min(_MOST_LABEL, max(_LEAST_LABEL, left))
    numbers = [f"{number:>5}" for number in range(1, len(texts) + 1)]
    labels = [f"{number:>2}  {fit(text, width)}" for number, text in enumerate(texts, 1)]
    rows = [[label, *(f"{value:.2f}" for value in row)] for label, row in zip(labels, matrix, strict=True)]
    print_table(["cosine similarity", *numbers], rows, right=numbers, style=_style)


def _style(value: str) -> str:
    """Green for what is alike, grey for what is not; a text is always like itself."""
    if float(value) >= 0.995:
        return "bright_black"
    if float(value) >= 0.5:
        return "bold green"
    return "yellow" if float(value) >= 0.25 else "bright_black"
