"""`neuralcore embed`: texts from anywhere to vectors anywhere, in bounded memory."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neuralcore.embedding.errors import DependencyMissing

from .options import engine_options, load_engine

if TYPE_CHECKING:
    from neuralcore.embedding import EmbeddingEngine
    from neuralcore.embedding.distributed.ray import RayEngine
    from neuralcore.embedding.types import Advance, Vectors

    from .records import Chunk, Source

_STDIN = "-"


@click.command()
@click.argument("texts", nargs=-1)
@click.option(
    "--input", "-i", "input_path", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="A .txt (a line is a text, an empty one too), .jsonl (blank lines are skipped), .csv or .parquet file; "
    "- for the lines of standard input.",
)  # fmt: skip
@click.option("--column", "-c", default="text", show_default=True, help="Column of the text (not for .txt).")
@click.option(
    "--output", "-o", "output_path", type=click.Path(dir_okay=False, path_type=Path),
    help="A .npy (vectors only), .jsonl or .parquet file (with the input's columns; `embedding` is replaced); "
    "default: JSON lines on standard output.",
)  # fmt: skip
@click.option("--query/--document", "is_query", default=None, help="What the texts are; default: as the model says.")
@click.option("--type", "type_name", metavar="NAME", help="Another prompt of the model, e.g. clustering.")
@click.option("--prompt", metavar="TEXT", help="Put this before each text, instead of a prompt of the model.")
@click.option(
    "--engine", "where", type=click.Choice(["local", "ray"]), default="local", show_default=True,
    help="Embed in this process, or on a Ray cluster (RAY_ADDRESS, or one that is started here).",
)  # fmt: skip
@click.option("--workers", type=click.IntRange(min=1), help="Of --engine ray; default: one for each node.")
@engine_options
def embed(
    texts: tuple[str, ...],
    input_path: Path | None,
    column: str,
    output_path: Path | None,
    is_query: bool | None,
    type_name: str | None,
    prompt: str | None,
    where: str,
    workers: int | None,
    **options: Any,
) -> None:
    """Embed TEXTS, or --input, or the lines of standard input.

    \b
    neuralcore embed "a text" "another"
    neuralcore embed --input docs.csv --column body --output docs.npy
    cat lines.txt | neuralcore embed --output vectors.parquet
    """  # noqa: D301 - click wants the character itself
    from .writers import check_output, open_writer

    before = _before(is_query, type_name, prompt)
    check_output(output_path)
    if workers and where != "ray":
        raise click.UsageError("--workers goes with --engine ray.")
    with (
        _open_source(texts, input_path, column) as source,
        _open_engine(options, where, workers) as engine,
        open_writer(output_path, source, engine.dimension) as write,
        _progress(source, to_screen=output_path is None) as advance,
    ):
        for chunk, vectors in _embedded(engine, source, before):
            write(chunk, vectors)
            advance(len(vectors))


def _before(is_query: bool | None, name: str | None, prompt: str | None) -> dict[str, str | None]:
    """What is put before each text, as the engine is told it."""
    if sum(given is not None for given in (is_query, name, prompt)) > 1:
        raise click.UsageError("--query or --document, --type and --prompt exclude each other.")
    if is_query is not None:
        name = "query" if is_query else "document"
    return {"embedding_type": name, "prompt": prompt}


def _open_source(texts: tuple[str, ...], path: Path | None, column: str) -> AbstractContextManager[Source]:
    from .readers import line_source, open_source, text_source

    if texts and path:
        raise click.UsageError("TEXTS and --input exclude each other.")
    if path and str(path) != _STDIN:
        return open_source(path, column)
    if texts and texts != (_STDIN,):
        return nullcontext(text_source(texts))
    if sys.stdin.isatty():
        click.echo("Reading texts from the terminal, one a line; Ctrl-D ends.", err=True)
    return nullcontext(line_source(sys.stdin.buffer))


def _open_engine(options: dict[str, Any], where: str, n_workers: int | None) -> EmbeddingEngine | RayEngine:
    if where == "local":
        return load_engine(options)
    if options.pop("threads"):
        raise click.UsageError("--threads is not for --engine ray, which shares the cluster's CPUs among --workers.")
    try:
        from neuralcore.embedding.distributed.ray import RayEngine
    except ModuleNotFoundError as error:
        raise DependencyMissing(str(error.name), "ray") from error
    from neuralcore.embedding.distributed.recipe import EngineRecipe

    cache_dir = options.pop("cache_dir")
    return RayEngine(EngineRecipe(cache_dir=cache_dir and str(cache_dir), **options), n_workers=n_workers)


def _progress(source: Source, *, to_screen: bool) -> AbstractContextManager[Advance]:
    """A bar, unless nobody sees it or it would run through the vectors on the same screen."""
    if not sys.stderr.isatty() or (to_screen and sys.stdout.isatty()):
        return nullcontext(lambda _: None)
    from neuralcore.embedding.progress import progress_bar

    return progress_bar("Embedding", source.n_texts)


def _embedded(
    engine: EmbeddingEngine | RayEngine, source: Source, before: dict[str, str | None]
) -> Iterator[tuple[Chunk, Vectors]]:
    """Each chunk with its vectors: the engine cuts its blocks elsewhere than the source its chunks."""
    import numpy as np

    waiting: deque[Chunk] = deque()

    def texts() -> Iterator[str]:
        for chunk in source.chunks:
            waiting.append(chunk)
            yield from chunk.texts

    rest = np.empty((0, engine.dimension), np.float32)
    for block in engine.embed_stream(texts(), **before):
        rest = np.concatenate([rest, block])
        while waiting and len(waiting[0].texts) <= len(rest):
            chunk = waiting.popleft()
            yield chunk, rest[: len(chunk.texts)]
            rest = rest[len(chunk.texts) :]
