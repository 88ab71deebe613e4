"""`neuralcore info`: what this installation is and has, for people who ask for help."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from .models import list_models
from .options import as_json, make_store, store_options
from .tables import megabytes, print_table

_PACKAGES = ("neuralcore-embedding", "onnxruntime", "onnx", "tokenizers", "huggingface-hub", "safetensors", "numpy")
_CPU_FEATURES = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm")
_CPUINFO = Path("/proc/cpuinfo")


@click.command()
@as_json
@store_options
def info(as_json: bool, cache_dir: Path | None, endpoint: str | None, offline: bool | None) -> None:
    """Print versions, CPU, threads, devices, cache, and each model's state."""
    store = make_store(cache_dir, endpoint, offline)
    facts = {**_versions(), **_machine(), **_cache(store.cache)}
    models = list_models(store)
    if as_json:
        click.echo(json.dumps({**facts, "models": models}))
        return
    print_table(("", ""), [(name.replace("_", " "), _shown(value)) for name, value in facts.items()])
    print_table(("model", "state"), [(model["name"], model["state"]) for model in models])


def _versions() -> dict[str, Any]:
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _machine() -> dict[str, Any]:
    from neuralcore.embedding.cpu import available_threads
    from neuralcore.embedding.session import available_providers

    model, features = _cpu()
    return {
        "system": platform.platform(),
        "cpu": model,
        "cpu_features": features,
        "threads": available_threads(),
        "machine_cores": os.cpu_count(),
        "providers": available_providers(),
    }


def _cpu() -> tuple[str, list[str]]:
    """Model and the features that matter here, as far as the system tells."""
    try:
        lines = _CPUINFO.read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine(), []
    values = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = (values.get("flags") or values.get("Features") or "").split()
    return values.get("model name", platform.machine()), [name for name in _CPU_FEATURES if name in flags]


def _cache(folder: Path) -> dict[str, Any]:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {"cache": str(folder), "cache_bytes": sum(path.stat().st_size for path in files)}


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return megabytes(value) if isinstance(value, int) and value >= 1000 else str(value)
