"""`neuralcore verify`: is a model near enough to a reference?"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import PRECISIONS, as_json, backend, store_options
from .tables import print_table

if TYPE_CHECKING:
    from neuralcore.embedding import Agreement


@click.command()
@click.argument("model")
@click.option(
    "--precision", type=click.Choice(PRECISIONS), default="fp32", help="[default: fp32, or that of MODEL's ONNX file]"
)
@backend
@click.option(
    "--reference",
    metavar="WHAT",
    help="fp32, sentence-transformers, or another model's name or folder.  "
    "[default: fp32; for an fp32 model, sentence-transformers]",
)
@click.option("--texts", "path", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="One a line.")
@click.option("--revision", help="Branch, tag or commit on the Hub.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; default: all this process may use.")
@as_json
@store_options
def verify(model: str, precision: str, path: Path | None, as_json: bool, **options: Any) -> None:
    """Compare MODEL with a reference, and leave with exit code 9 if it is too far from it."""
    from neuralcore.embedding import verify_model
    from neuralcore.embedding.verify import BOUNDS, failures

    texts = _read(path) if path else None
    agreement = verify_model(model, precision=precision, texts=texts, **options)  # type: ignore[arg-type]
    assert agreement.precision is not None
    bounds = BOUNDS[agreement.precision]  # of an ONNX file used as it is, what its graph says
    failed = failures(agreement, bounds)
    if as_json:
        verdict = {"precision": agreement.precision, "bounds": asdict(bounds), "passed": not failed}
        click.echo(json.dumps({**agreement.to_dict(), **verdict}))
    else:
        _print(agreement, asdict(bounds), {failure.metric for failure in failed})
    for failure in failed:
        raise failure


def _read(path: Path) -> list[str]:
    try:
        texts = [line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    except UnicodeDecodeError as error:
        raise click.UsageError(f"--texts: {path} is not UTF-8: {error}") from error
    if len(texts) < 3:
        raise click.UsageError("--texts needs at least three lines.")
    return texts


def _print(agreement: Agreement, bounds: dict[str, float], failed: set[str]) -> None:
    values = agreement.to_dict()
    n_texts = values.pop("n_texts")
    rows = []
    for name, value in values.items():
        metric = name.replace("_", " ")
        sign = "<=" if name == "batch_shift" else ">="
        bound = f"{sign} {bounds[name]:g}" if name in bounds else ""
        verdict = ("too far" if metric in failed else "ok") if bound else ""
        rows.append([metric, f"{value:.6f}", bound, verdict])
    print_table([f"over {n_texts:.0f} texts", "measured", "bound", ""], rows, right=("measured", "bound"))
