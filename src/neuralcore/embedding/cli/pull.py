"""`neuralcore pull`: make models ready before they are needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import PRECISIONS, as_json, backend, make_store, store_options
from .tables import megabytes

if TYPE_CHECKING:
    from neuralcore.embedding.store import Manifest


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="MODEL...")
@click.option("--revision", help="Branch, tag or commit on the Hub.")
@click.option("--precision", type=click.Choice(PRECISIONS), default="fp32", show_default=True, help="Make it.")
@backend
@click.option("--refresh", is_flag=True, help="Ask the sources again, though the model is in the cache.")
@click.option("--verify", is_flag=True, help="Compare the SHA-256 of every cached file.")
@as_json
@store_options
def pull(
    names: tuple[str, ...],
    revision: str | None,
    precision: str,
    backend: Any,
    refresh: bool,
    verify: bool,
    as_json: bool,
    cache_dir: Path | None,
    endpoint: str | None,
    offline: bool | None,
) -> None:
    """Fetch models and make what runs them, so that they load at once afterwards, without network."""
    from neuralcore.embedding import Precision
    from neuralcore.embedding.precision.variants import ensure_variant

    store = make_store(cache_dir, endpoint, offline)
    for name in names:
        source = store.ensure(name, revision=revision, refresh=refresh, thorough=verify)
        manifest = ensure_variant(store, source, Precision(precision), backend=backend, thorough=verify)
        click.echo(json.dumps(_describe(manifest)) if as_json else _line(manifest))


def _describe(manifest: Manifest) -> dict[str, object]:
    return {
        "name": manifest.config.name,
        "source": manifest.source["kind"],
        "precision": str(manifest.precision),
        "bytes": manifest.n_bytes,
        "folder": str(manifest.folder),
        "files": {role: record.sha256 for role, record in manifest.files.items()},
    }


def _line(manifest: Manifest) -> str:
    source, size = manifest.source["kind"], megabytes(manifest.n_bytes)
    return f"{manifest.config.name}: ready (from {source}, {manifest.precision}, {size})\n  {manifest.folder}"
