"""`neuralcore convert`: an encoder to a folder that loads without PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import as_json, make_store, store_options
from .tables import megabytes

if TYPE_CHECKING:
    from neuralcore.embedding.store import Manifest

_PRECISIONS = ("fp32", "fp16", "int8", "dynamic-int8")
_UNITS = {"n_shapes": "shapes of input run", "n_texts": "texts compared"}


@click.command()
@click.argument("model")
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="Folder to make.")
@click.option("--exporter", type=click.Choice(["builtin", "torch"]), help="Default: builtin where it knows the family.")
@click.option("--opset", type=click.IntRange(min=1), help="Version of ONNX's operators; default: the exporter's.")
@click.option("--precision", type=click.Choice(_PRECISIONS), default="fp32", show_default=True)
@click.option("--revision", help="Branch, tag or commit on the Hub.")
@as_json
@store_options
def convert(
    model: str, as_json: bool, cache_dir: Path | None, endpoint: str | None, offline: bool | None, **options: Any
) -> None:
    """Convert MODEL (a folder, name or Hub id) to ONNX, and check the result. Nothing is left behind if that fails."""
    from neuralcore.embedding.convert import convert_model

    manifest = convert_model(model, store=make_store(cache_dir, endpoint, offline), **options)
    if as_json:
        about = {"folder": str(manifest.folder), "source": dict(manifest.source), "bytes": manifest.n_bytes}
        click.echo(json.dumps({**about, "measured": dict(manifest.measured)}))
    else:
        _print(manifest)


def _print(manifest: Manifest) -> None:
    made = f"{manifest.source['exporter']} exporter, {manifest.precision}, {megabytes(manifest.n_bytes)}"
    click.echo(f"{manifest.config.name}: converted ({made})\n  {manifest.folder}")
    for name, value in manifest.measured.items():
        shown = f"{value:.0f}" if name.startswith("n_") else f"{value:.3g}" if abs(value) < 0.5 else f"{value:.6f}"
        click.echo(f"  {_UNITS.get(name, name.replace('_', ' ')):<22}{shown}")
    if "hidden_difference" not in manifest.measured:
        click.echo("  not compared with PyTorch, which is not installed: pip install 'neuralcore-embedding[convert]'")
