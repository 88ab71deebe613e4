"""`neuralcore embed`: texts from anywhere to vectors anywhere, in bounded memory."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import engine_options, load_engine
from .readers import Record, read_lines, read_records
from .writers import check_output, open_writer

if TYPE_CHECKING:
    from neuralcore.embedding import EmbeddingEngine


@click.command()
@click.argument("texts", nargs=-1)
@click.option(
    "--input", "-i", "input_path", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A .txt (a line is a text, an empty one too), .jsonl, .csv or .parquet file.",
)  # fmt: skip
@click.option("--column", "-c", default="text", show_default=True, help="Column of the text (not for .txt).")
@click.option(
    "--output", "-o", "output_path", type=click.Path(dir_okay=False, path_type=Path),
    help="A .npy, .jsonl or .parquet file; default: JSON lines on standard output.",
)  # fmt: skip
@click.option(
    "--type", "embedding_type", default="document", show_default=True,
    help="document, query, or another prompt of the model.",
)  # fmt: skip
@engine_options
def embed(
    texts: tuple[str, ...],
    input_path: Path | None,
    column: str,
    output_path: Path | None,
    embedding_type: str,
    **options: Any,
) -> None:
    r"""Embed TEXTS, or --input, or the lines of standard input.

    \b
    neuralcore embed "a text" "another"
    neuralcore embed --input docs.csv --column body --output docs.npy
    cat lines.txt | neuralcore embed --output vectors.parquet
    """
    if texts and input_path:
        raise click.UsageError("TEXTS and --input exclude each other.")
    check_output(output_path)
    records = _records(texts, input_path, column)
    with load_engine(options) as engine, open_writer(output_path, engine.dimension) as writer:
        for fields, vectors in _embedded(engine, records, embedding_type, len(texts) or None):
            writer.write(fields, vectors)


def _records(texts: tuple[str, ...], path: Path | None, column: str) -> Iterable[Record]:
    if texts:
        return [Record(text, {"text": text}) for text in texts]
    if path:
        return read_records(path, column)
    if sys.stdin.isatty():
        click.echo("Reading texts from the terminal, one a line; Ctrl-D ends.", err=True)
    return read_lines(sys.stdin.buffer)


def _embedded(
    engine: EmbeddingEngine, records: Iterable[Record], embedding_type: str, total: int | None
) -> Iterator[tuple[list[dict[str, Any]], Any]]:
    """Blocks of vectors with the fields of their records, which wait here for as long as a block takes."""
    from neuralcore.embedding.progress import progress_bar

    waiting: deque[dict[str, Any]] = deque()

    def texts() -> Iterator[str]:
        for record in records:
            waiting.append(record.fields)
            yield record.text

    with progress_bar("Embedding", total) as advance:
        for vectors in engine.embed_stream(texts(), embedding_type=embedding_type):
            yield [waiting.popleft() for _ in vectors], vectors
            advance(len(vectors))
