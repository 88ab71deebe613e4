"""`neuralcore models`: what is known by name, and what is ready."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import as_json, make_store, store_options
from .tables import megabytes, print_table

if TYPE_CHECKING:
    from neuralcore.embedding.config import ModelConfig
    from neuralcore.embedding.store import Manifest, Store
    from neuralcore.embedding.store.registry import ModelSpec

_COLUMNS = (
    "model", "dim", "tokens", "pooling", "prefixes", "params", "pinned", "precision", "runs on", "size", "cosine",
    "state",
)  # fmt: skip
_SOURCE_ONLY = "source only"


@click.command()
@as_json
@store_options
def models(as_json: bool, cache_dir: Path | None, endpoint: str | None, offline: bool | None) -> None:
    """List the models known by name, and every other one in the cache."""
    found = list_models(make_store(cache_dir, endpoint, offline))
    if as_json:
        click.echo(json.dumps(found))
        return
    print_table(_COLUMNS, [_row(model) for model in found], right=("dim", "tokens", "params", "size", "cosine"))


def list_models(store: Store) -> list[dict[str, Any]]:
    """Each model's configuration and state: those of the registry, then the others in the cache."""
    from neuralcore.embedding.store.registry import registry

    ready: dict[Path, list[Manifest]] = {}
    for manifest in store.ready():
        ready.setdefault(manifest.folder.parent, []).append(manifest)
    known = []
    for spec in registry():
        made = ready.pop(store.target(spec).parent, [])
        fetched = made or (store.cache / "sources" / spec.name).is_dir()
        assert spec.config is not None
        without = _SOURCE_ONLY if fetched else "not fetched"
        known += [_describe(spec.config, each, without=without) | _of_registry(spec) for each in _runnable(made)]
    others = (
        _describe(made[0].config, each, without=_SOURCE_ONLY) | _place(made[0])
        for made in ready.values()
        for each in _runnable(made)
    )
    return [*known, *others]


def _runnable(manifests: Sequence[Manifest]) -> Sequence[Manifest | None]:
    """Of a model's source and variants, what is run; None where that is nothing yet."""
    return [manifest for manifest in manifests if not manifest.is_checkpoint] or [None]


def _of_registry(spec: ModelSpec) -> dict[str, Any]:
    """What is known before a model is fetched: its size, and what is pinned of it."""
    size = (spec.megabytes or 0) * 1_000_000
    pinned = "hashes" if spec.sha256 else "no" if spec.revision == "main" else "commit"
    return {
        "repository": spec.repository, "parameters": spec.parameters, "pinned": pinned, "download_bytes": size
    }  # fmt: skip


def _state(manifest: Manifest) -> str:
    """Whether the files are still what was written; a manifest alone does not load."""
    from neuralcore.embedding import ModelCorrupt

    try:
        manifest.check()
    except ModelCorrupt:
        return "damaged"
    return "ready"


def _place(manifest: Manifest) -> dict[str, Any]:
    """A folder's own name would tell little: the whole path."""
    return {"name": manifest.source["folder"]} if manifest.source["kind"] == "folder" else {}


def _describe(config: ModelConfig, manifest: Manifest | None, *, without: str = "") -> dict[str, Any]:
    prefixes = {"query": config.query_prefix, "document": config.document_prefix, **config.prompts}
    return {
        "name": config.name,
        "dimension": config.kept_dimensions or config.dimension,
        "max_tokens": config.max_tokens,
        "pooling": config.pooling_name,
        "normalize": config.normalize,
        "prefixes": {name: prefix for name, prefix in prefixes.items() if prefix},
        "precision": manifest.precision if manifest else "fp32",
        "backend": _backend(manifest) if manifest else None,
        "measured": dict(manifest.measured) if manifest else {},
        "bytes": manifest.n_bytes if manifest else 0,
        "state": _state(manifest) if manifest else without,
    }


def _backend(manifest: Manifest) -> str:
    if manifest.model_path.suffix == ".onnx":
        return "onnxruntime"
    return "native" if manifest.folder.name.endswith("-native") else "static"


def _row(model: dict[str, Any]) -> list[str]:
    from neuralcore.embedding.families.positions import UNLIMITED

    n_bytes = model["bytes"] or model.get("download_bytes", 0)
    size = megabytes(n_bytes) if n_bytes else ""
    limit = str(model["max_tokens"]) if model["max_tokens"] < UNLIMITED else "any"
    numbers = [str(model["dimension"]), limit, model["pooling"]]
    prefixes = "yes" if model["prefixes"] else "no"
    parameters = model.get("parameters")
    told = [f"{parameters / 1e6:.0f} M" if parameters else "", model.get("pinned", "")]
    cosine = f"{model['measured']['mean_cosine']:.4f}" if model["measured"] else ""
    made = [model["precision"], model["backend"] or "", size, cosine, model["state"]]
    return [model["name"], *numbers, prefixes, *told, *made]
