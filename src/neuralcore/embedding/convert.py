"""From a checkpoint to a folder that loads without PyTorch: graph, tokenizer, configuration, and what was checked."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from .backends.onnx.export import TorchEncoder, torch_is_installed
from .backends.onnx.graph_file import note_origin
from .backends.onnx.quantize.model import Model
from .backends.onnx.write import GRAPH_VERSION, write_onnx
from .config import ModelConfig
from .errors import InputError, UnsupportedModel
from .families import MODEL_TYPES
from .precision.conversion_check import Hidden, check_conversion
from .precision.graphs import quantize_checked
from .progress import progress_bar
from .settings import expanded
from .store import FileRecord, Manifest, Store, staging_beside, sync_all
from .store.folder import ModelFolder, write_config
from .store.registry import find_spec
from .tokenizer import read_passed_on
from .types import Precision

Exporter = Literal["builtin", "torch"]

_GRAPH = "onnx/model.onnx"
_KEPT = (".json", ".txt", ".model", ".jinja")  # tokenizer and configuration; weights are in the graph
_INDEX = ".index.json"  # of weights in several files


def convert_model(
    model: str | PathLike[str],
    output: str | PathLike[str],
    *,
    store: Store,
    exporter: Exporter | None = None,
    opset: int | None = None,
    precision: str = "fp32",
    revision: str | None = None,
) -> Manifest:
    """Convert an encoder to a folder that `EmbeddingEngine.from_pretrained` and sentence-transformers' tools can read.

    Args:
        model: a folder with config.json and model.safetensors, a registry name or a Hub id.
        output: the folder to make. It appears when everything in it was checked, or not at all.
        store: where a model that is named is had (`make_store`).
        exporter: "builtin" needs no PyTorch and knows the kinds of `families.MODEL_TYPES`; "torch" takes any encoder
            that transformers loads. None takes the built-in one where it knows the family.
        opset: version of ONNX's operators; None takes the exporter's default.
        precision: of the result; another than fp32 is compared with fp32 and refused when too far from it.
        revision: branch, tag or commit on the Hub.

    Returns:
        What was written, with what was measured.

    Raises:
        InputError: the folder exists, or an argument is out of range.
        UnsupportedModel: no exporter can write it.
        VerificationFailed: the result differs from the source.
        DependencyMissing: PyTorch is needed and not installed.

    Example:
        >>> convert_model("all-MiniLM-L6-v2", "minilm", store=make_store())  # doctest: +SKIP
    """
    target = expanded(output).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target} exists already; name a folder that does not, or remove it first")
    wanted = Precision(precision)
    folder, config = _source(model, store, revision)
    if folder.is_static:
        reason = "it is a table of vectors, which loads as it is: there is no graph to write"
        raise UnsupportedModel(folder.name, reason)
    origin = {"from": str(folder.path.resolve() if expanded(model).is_dir() else model), "revision": revision}
    chosen = exporter or ("builtin" if _can_build(folder) else "torch")
    with staging_beside(target) as parent, progress_bar(f"Converting {folder.name}", None):
        staging = parent / target.name
        staging.mkdir(mode=0o755)
        about = _write(folder, config, staging, chosen, opset)
        checked = check_conversion(staging / _GRAPH, folder.tokenizer_path, config, _reference(folder, chosen))
        measured = checked.to_dict()
        if wanted is not Precision.FP32:
            measured |= _quantize(staging, config, wanted)
        manifest = _manifest(folder, config, staging, origin | about, measured, wanted)
        manifest.write(staging)
        sync_all(staging)
        if target.exists():
            target.rmdir()
        staging.rename(target)
    return replace(manifest, folder=target)


def _source(model: str | PathLike[str], store: Store, revision: str | None) -> tuple[ModelFolder, ModelConfig]:
    path = expanded(model)
    if path.is_dir():
        folder = ModelFolder(path)
        return folder, folder.config()
    spec = find_spec(str(model), revision)
    folder = ModelFolder(store.fetch(str(model), revision=revision), spec.name)
    return folder, spec.config or folder.config()


def _can_build(folder: ModelFolder) -> bool:
    return folder.architecture.get("model_type") in MODEL_TYPES


def _write(
    folder: ModelFolder, config: ModelConfig, staging: Path, exporter: Exporter, opset: int | None
) -> dict[str, Any]:
    """Write all files; returns how the graph was made."""
    if folder.safetensors_path is None:
        reason = f"{folder.path} has no model.safetensors; pickled weights are not opened"
        raise UnsupportedModel(folder.name, reason)
    _copy_settings(folder, staging)
    dense = folder.dense_steps(config)
    passed_on = read_passed_on(folder.tokenizer_path.parent)
    write_config(config, staging, passed_on=passed_on, dense_paths=folder.dense_paths)
    path = staging / _GRAPH
    path.parent.mkdir()
    if exporter == "builtin":
        write_onnx(folder.stack(), config, path, dense=dense, opset=opset)
        return {"exporter": "builtin", "graph_version": GRAPH_VERSION}
    if config.dense:
        raise UnsupportedModel(folder.name, "its Dense steps are written by the built-in exporter only")
    kind = TorchEncoder(folder.encoder_path).export(path, opset=opset)
    Model(path).save(path)  # all weights in one file, whichever exporter wrote them
    return {"exporter": kind, "torch": version("torch"), "transformers": version("transformers")}


def _copy_settings(folder: ModelFolder, staging: Path) -> None:
    for source in dict.fromkeys((folder.path, folder.encoder_path)):
        for path in source.iterdir():
            if path.is_file() and path.suffix in _KEPT and not path.name.endswith(_INDEX):
                shutil.copyfile(path, staging / path.name)


def _reference(folder: ModelFolder, exporter: Exporter) -> Hidden | None:
    """What to compare with. The built-in exporter needs no PyTorch, and does without where it cannot be had."""
    if exporter == "builtin" and not torch_is_installed():
        return None
    try:
        return TorchEncoder(folder.encoder_path).hidden
    except UnsupportedModel:  # transformers may want remote code for what is built in here
        if exporter == "builtin":
            return None
        raise


def _quantize(staging: Path, config: ModelConfig, precision: Precision) -> dict[str, float]:
    """Put another precision in the place of fp32."""
    path, tokenizer_path = staging / _GRAPH, staging / "tokenizer.json"
    quantized = path.with_name("quantized") / path.name
    agreement = quantize_checked(path, quantized, tokenizer_path, config, precision)
    for written in quantized.parent.iterdir():
        written.replace(path.parent / written.name)
    quantized.parent.rmdir()
    return agreement.to_dict()


def _manifest(
    folder: ModelFolder,
    config: ModelConfig,
    staging: Path,
    about: Mapping[str, Any],
    measured: Mapping[str, float],
    precision: Precision,
) -> Manifest:
    path = staging / _GRAPH
    files = {"model": path, "weights": path.with_name("model.onnx.data"), "tokenizer": staging / "tokenizer.json"}
    made_from = {"model.safetensors": folder.weights_sha256}
    note_origin(path, made_from["model.safetensors"])
    return Manifest(
        folder=staging,
        files={role: FileRecord.of(file, staging) for role, file in files.items()},
        config=config,
        max_positions=folder.max_positions,
        source={"kind": "converted", "model": folder.name, "sha256": made_from, **about},
        graph_version=about.get("graph_version", 0),
        precision=str(precision),
        measured=measured,
    )
