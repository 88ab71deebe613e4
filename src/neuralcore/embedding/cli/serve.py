"""`neuralcore serve`: a model behind an HTTP port."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import click

from neuralcore.embedding.errors import DependencyMissing

from . import streams
from .options import DEFAULT_MODEL, load_engine, model_options


@click.command()
@click.argument("model", default=DEFAULT_MODEL)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option(
    "--api-key", "api_keys", multiple=True, metavar="KEY",
    help="Needed by clients; may be repeated. Better: NEURALCORE_API_KEY, which `ps` does not show.",
)  # fmt: skip
@click.option(
    "--allowed-host", "hosts", multiple=True, metavar="NAME", callback=lambda _, __, given: _clean("hosts", given),
    help="Answer to this name in the header Host, too: *.example.com is all below it, * any. May be repeated.",
)  # fmt: skip
@click.option(
    "--allow-origin", "origins", multiple=True, metavar="ORIGIN",
    callback=lambda _, __, given: _clean("origins", given),
    help="Let scripts of pages from there call (CORS): https://example.com, * is any. May be repeated.",
)  # fmt: skip
@click.option("--alias", "aliases", multiple=True, metavar="NAME", help="Another name that clients may ask for.")
@click.option("--max-waiting", type=click.IntRange(min=1), default=512, show_default=True, help="Requests; more: 429.")
@click.option("--max-texts", type=click.IntRange(min=1), default=2048, show_default=True, help="Of a request.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=300_000, show_default=True, help="Of a request.")
@click.option(
    "--max-body-bytes", type=click.IntRange(min=1), default=4_000_000, show_default=True, help="Of a request."
)
@click.option(
    "--drain-timeout", "drain_s", type=click.FloatRange(min=0), default=25, show_default=True, metavar="SECONDS",
    help="To finish what was accepted after SIGTERM; what is not finished gets 503.",
)  # fmt: skip
@model_options
def serve(
    model: str,
    host: str,
    port: int,
    api_keys: tuple[str, ...],
    hosts: Sequence[str],
    origins: Sequence[str],
    aliases: tuple[str, ...],
    max_waiting: int,
    max_texts: int,
    max_tokens: int,
    max_body_bytes: int,
    drain_s: float,
    **options: Any,
) -> None:
    """Serve MODEL to clients of OpenAI (/v1/embeddings) and TEI (/embed), with a page at /.

    \b
    neuralcore serve all-MiniLM-L6-v2 --precision int8
    curl localhost:8000/v1/embeddings -d '{"input": "a text"}'
    """  # noqa: D301 - click wants the character itself
    try:
        from neuralcore.embedding.server import process
        from neuralcore.embedding.server.limits import Limits
        from neuralcore.embedding.server.service import Service
    except ModuleNotFoundError as error:
        raise DependencyMissing(str(error.name), "serve") from error
    host, keys = _clean_host(host), _clean_keys(api_keys)
    limits = Limits(max_waiting=max_waiting, max_texts=max_texts, max_tokens=max_tokens, max_body_bytes=max_body_bytes)
    truncate = options.pop("truncation") != "error"
    service = Service(
        model=_public_name(model), aliases=aliases, limits=limits, truncate=truncate, keys=keys,
        hosts=[*hosts, host] if hosts or not keys else [], origins=origins,
    )  # fmt: skip
    with process.listen(host, port) as listener:
        if not keys and not process.is_loopback(listener):
            streams.tell(f"warning: whoever reaches {host} may use this server; --api-key asks for a key")
        streams.announce(f"{service.model} on http://{_address(host)}:{listener.getsockname()[1]} (Ctrl-C ends)")
        process.run(service, lambda: load_engine({"model": model, **options}), listener, drain_s=drain_s)


def _clean_host(host: str) -> str:
    """The empty one would be every address of this machine."""
    if not host.strip():
        raise click.UsageError("--host is empty; 127.0.0.1 is this machine only, 0.0.0.0 every address it has")
    return host.strip()


def _clean_keys(given: Sequence[str]) -> list[str]:
    """Keys without the white space around them, with which files and variables often end.

    Empty ones are refused, not left out: a secret that was not filled in must not open the door.
    """
    from neuralcore.embedding.settings import API_KEY, api_key

    keys = [("--api-key", key.strip()) for key in given]
    if (key := api_key()) is not None:
        keys.append((API_KEY, key.strip()))
    for name, key in keys:
        if not key:
            raise click.UsageError(f"{name} is empty; give a key, or leave it out (unset it) to ask for none")
        if not key.isprintable():
            raise click.UsageError(f"{name} has a character that no header can carry")
    return [key for _, key in keys]


def _clean(kind: Literal["hosts", "origins"], given: Sequence[str]) -> Sequence[str]:
    try:
        from neuralcore.embedding.server.callers import clean_hosts, clean_origins
    except ModuleNotFoundError:
        return given  # the command says what is missing
    try:
        return clean_hosts(given) if kind == "hosts" else clean_origins(given)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _public_name(model: str) -> str:
    """Of a folder its name only: clients need not know this machine's paths."""
    return Path(model).resolve().name if Path(model).is_dir() else model


def _address(host: str) -> str:
    return f"[{host}]" if ":" in host else host
