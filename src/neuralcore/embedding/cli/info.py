"""`neuralcore info`: what this installation is and has, for people who ask for help."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISLNK
from typing import TYPE_CHECKING, Any

import click

from neuralcore.embedding.errors import InputError

from .models import list_models
from .options import as_json, make_store, store_options
from .tables import megabytes, print_table

if TYPE_CHECKING:
    from neuralcore.embedding.store import Store

_PACKAGES = ("neuralcore-embedding", "onnxruntime", "onnx", "tokenizers", "tokie", "huggingface-hub", "safetensors",
             "numpy")  # fmt: skip
_CPU_FEATURES = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16",
                 "asimddp", "i8mm")  # fmt: skip
_LABELS = {
    "cache_bytes": "cache size",
    "threads": "threads available",
}
_CPUINFO = Path("/proc/cpuinfo")


@click.command()
@click.argument("model", required=False)
@as_json
@store_options
def info(model: str | None, as_json: bool, cache_dir: Path | None, endpoint: str | None, offline: bool | None) -> None:
    """Print versions, CPU, threads, devices, cache, and each model's state.

    Of a MODEL (a name, a Hub id or a folder), print what each precision of it runs on, and why it is not the native
    kernels. Nothing is fetched or made for it.
    """
    if model is not None:
        _print_facts(_runners_of(model, make_store(cache_dir, endpoint, offline)), as_json=as_json)
        return
    facts = {**_versions(), **_machine()}
    try:
        store = make_store(cache_dir, endpoint, offline)
        facts, models = {**facts, **_cache(store.cache)}, list_models(store)
    except InputError as error:  # no home, say: who asks for help needs the rest all the more
        facts, models = {**facts, "cache": f"none: {error}"}, []
    if as_json:
        click.echo(json.dumps({**facts, "models": models}))
        return
    _print_facts(facts, as_json=False)
    click.echo()
    rows = [(model["name"], model["precision"], model["backend"] or "", model["state"]) for model in models]
    print_table(("model", "precision", "runs on", "state"), rows)


def _print_facts(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        if value is not None:
            click.echo(f"{_label(name, facts):<22}{_shown(name, value)}")


def _label(name: str, facts: dict[str, Any]) -> str:
    precision, _, what = name.partition("_")
    if what == "backend":
        return f"{precision} runs on"
    if what == "reason":
        return f"{precision} is not native" if facts[f"{precision}_backend"] else precision
    return _LABELS.get(name, name.replace("_", " "))


def _runners_of(model: str, store: Store) -> dict[str, Any]:
    """The back end of each precision, and why it is not another."""
    from neuralcore.embedding.precision.choice import NATIVE, choose_backend, name_of

    facts: dict[str, Any] = {"model": model}
    for precision in NATIVE:
        choice = choose_backend(store, model, precision)
        facts |= {f"{precision}_backend": name_of(choice, precision), f"{precision}_reason": choice.reason}
    return facts


def _versions() -> dict[str, Any]:
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # 45 ms, which --help need not wait for

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _machine() -> dict[str, Any]:
    from neuralcore.embedding.cpu import available_threads

    model, features = _cpu()
    return {
        "system": platform.platform(),
        "cpu": model,
        "cpu_features": features,
        "threads": available_threads(),
        "machine_cores": os.cpu_count(),
        "providers": _providers(),
        "native_kernels": _kernels(),
        "kernels_tried": _trials(),
    }


def _providers() -> list[str]:
    """Execution providers; what hinders ONNX Runtime from loading is worth telling here more than anywhere."""
    try:
        from neuralcore.embedding.backends.onnx.session import available_providers

        return list(available_providers())
    except Exception as error:  # noqa: BLE001 - whatever is broken, the rest of the report is what one needs
        return [f"none: {type(error).__name__}: {error}"]


def _kernels() -> str:
    """The instruction set that each precision uses, or why all is left to ONNX Runtime."""
    from neuralcore.embedding.backends.native.isas import absence, choose_isa
    from neuralcore.embedding.errors import ProviderUnavailable
    from neuralcore.embedding.precision.choice import NATIVE

    try:
        chosen = {precision: choose_isa(precision) for precision in NATIVE}
        if not any(chosen.values()):
            return f"none ({absence()}); ONNX Runtime runs all"
        return ", ".join(f"{precision} {isa or 'none'}" for precision, isa in chosen.items())
    except ProviderUnavailable as error:
        return f"none ({error})"


def _trials() -> list[str]:
    """Each instruction set of this CPU: whether it computed a small product right, and how fast."""
    from neuralcore.embedding.backends.native.isas import try_isas

    return [str(trial) for trial in try_isas()]


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
    return {"cache": str(folder), "cache_bytes": sum(_sizes(folder))}


def _sizes(folder: Path) -> Iterator[int]:
    """Sizes of the files, as far as they can be read: another process may take one away meanwhile."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                stat = (Path(parent) / name).lstat()
                yield 0 if S_ISLNK(stat.st_mode) else stat.st_size


def _shown(name: str, value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return megabytes(value) if name.endswith("_bytes") else str(value)
