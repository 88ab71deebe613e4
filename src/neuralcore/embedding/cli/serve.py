"""`neuralcore serve`: a model behind an HTTP port."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from neuralcore.embedding.errors import DependencyMissing

from .options import DEFAULT_MODEL, load_engine, model_options


@click.command()
@click.argument("model", default=DEFAULT_MODEL)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option(
    "--api-key", "api_keys", multiple=True, metavar="KEY",
    help="Needed by clients; may be repeated. Better: NEURALCORE_API_KEY, which `ps` does not show.",
)  # fmt: skip
@click.option("--alias", "aliases", multiple=True, metavar="NAME", help="Another name that clients may ask for.")
@click.option("--max-waiting", type=click.IntRange(min=1), default=512, show_default=True, help="Requests; more: 429.")
@click.option("--max-texts", type=click.IntRange(min=1), default=2048, show_default=True, help="Of a request.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=300_000, show_default=True, help="Of a request.")
@click.option(
    "--max-body-bytes", type=click.IntRange(min=1), default=4_000_000, show_default=True, help="Of a request."
)
@model_options
def serve(
    model: str,
    host: str,
    port: int,
    api_keys: tuple[str, ...],
    aliases: tuple[str, ...],
    max_waiting: int,
    max_texts: int,
    max_tokens: int,
    max_body_bytes: int,
    **options: Any,
) -> None:
    r"""Serve MODEL to clients of OpenAI (/v1/embeddings) and TEI (/embed), with a page at /.

    \b
    neuralcore serve all-MiniLM-L6-v2 --precision int8
    curl localhost:8000/v1/embeddings -d '{"input": "a text"}'
    """
    try:
        from neuralcore.embedding.server import process
        from neuralcore.embedding.server.limits import Limits
        from neuralcore.embedding.server.service import Service
    except ModuleNotFoundError as error:
        raise DependencyMissing(str(error.name), "serve") from error
    from neuralcore.embedding.settings import api_key

    keys = [*api_keys, *filter(None, [api_key()])]
    limits = Limits(max_waiting=max_waiting, max_texts=max_texts, max_tokens=max_tokens, max_body_bytes=max_body_bytes)
    truncate = options.pop("truncation") != "error"
    service = Service(model=_public_name(model), aliases=aliases, limits=limits, truncate=truncate, keys=keys)
    with process.listen(host, port) as listener:
        click.echo(f"{service.model} on http://{_address(host)}:{listener.getsockname()[1]} (Ctrl-C ends)")
        process.run(service, lambda: load_engine({"model": model, **options}), listener)


def _public_name(model: str) -> str:
    """Of a folder its name only: clients need not know this machine's paths."""
    return Path(model).resolve().name if Path(model).is_dir() else model


def _address(host: str) -> str:
    return f"[{host}]" if ":" in host else host
