"""What a model's files are read into before anything runs them: a configuration, a tokenizer, where the weights are."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..backends.onnx.external_data import external_files
from ..documents import open_file
from ..errors import UnsupportedModel
from ..families import MODEL_TYPES
from ..files import staged_folder
from .folder import ModelFolder
from .manifest import FOLDER_VERSION, FileRecord, Manifest
from .registry import ModelSpec


def prepare(model: ModelFolder, target: Path, source: Mapping[str, Any], spec: ModelSpec | None = None) -> Manifest:
    """Record a model under its final name: its checkpoint, from which others are made, or the file that it has.

    Args:
        model: its files.
        target: a folder of the cache, whose lock is held.
        source: where its files came from.
        spec: what the registry knows of it.

    Raises:
        UnsupportedModel, ModelCorrupt: it cannot be run.
    """
    source = source if spec and spec.replaces_files else {**source, "read_by": FOLDER_VERSION}
    with staged_folder(target) as staging:
        if model.is_static:
            manifest = _of_table(model, staging, source, spec)
        elif can_build(model):
            manifest = _of_checkpoint(model, staging, source, spec)
        else:
            manifest = as_found(model, source, spec)
        manifest.write(staging)
    return replace(manifest, folder=target)


def _of_checkpoint(model: ModelFolder, staging: Path, source: Mapping[str, Any], spec: ModelSpec | None) -> Manifest:
    from ..tokenizer import write_effective

    config = spec.configure(model.config) if spec else model.config()
    model.stack()  # which refuses by name what is not run here, as does
    model.dense_steps(config)
    if spec and spec.replaces_files:
        shutil.copyfile(model.tokenizer_path, staging / "tokenizer.json")  # no other file tells of it
    else:
        write_effective(model.tokenizer_path, staging / "tokenizer.json")
    return Manifest(
        folder=staging,
        files={"tokenizer": FileRecord.of(staging / "tokenizer.json", staging)},
        config=config,
        max_positions=_max_positions(model, spec),
        source={**source, "sha256": {"model.safetensors": model.weights_sha256}},
    )


def _of_table(model: ModelFolder, staging: Path, source: Mapping[str, Any], spec: ModelSpec | None) -> Manifest:
    """A table and its tokenizer, used where they lie."""
    config = spec.configure(model.config) if spec else model.config()
    assert model.safetensors_path is not None
    paths = {"model": model.safetensors_path, "tokenizer": model.tokenizer_path}
    files = {role: FileRecord.of(path, staging) for role, path in paths.items()}
    return Manifest(
        folder=staging,
        files=files,
        config=config,
        max_positions=_max_positions(model, spec),
        source={**source, "sha256": {"model.safetensors": files["model"].sha256}},
    )


def as_found(model: ModelFolder, source: Mapping[str, Any], spec: ModelSpec | None = None) -> Manifest:
    """A model with an ONNX file, used where it lies.

    Args:
        model: its files.
        source: where they came from.
        spec: what the registry knows of it.

    Raises:
        UnsupportedModel: it has none, and no checkpoint that could be used.
        ModelCorrupt: it is damaged, or names files elsewhere.
    """
    if model.onnx_path is None:
        raise UnsupportedModel(model.name, why_not_run(model))
    config = spec.configure(model.config_of_graph) if spec else model.config_of_graph()
    files = {"model": model.onnx_path, "tokenizer": model.tokenizer_path}
    weights = external_files(model.onnx_path)  # which says what is wrong before anything is hashed
    open_file(model.tokenizer_path, "a tokenizer.json").close()
    if source["kind"] != "folder":  # what the cache holds can be made again, so all of it is recorded
        files |= {f"weights {number}": path for number, path in enumerate(weights)}
    return Manifest(
        folder=model.path,
        files={role: FileRecord.of(path, model.path / "elsewhere") for role, path in files.items()},
        config=config,
        max_positions=_max_positions(model, spec),
        source=source,
    )


def _max_positions(model: ModelFolder, spec: ModelSpec | None) -> int:
    return spec.max_positions if spec and spec.replaces_files and spec.max_positions else model.max_positions


def can_build(model: ModelFolder) -> bool:
    """Whether what runs it is made here, from its checkpoint; else what it has is used as it was found."""
    is_encoder = model.safetensors_path is not None and not model.is_static
    return is_encoder and model.architecture.get("model_type") in MODEL_TYPES


def why_not_run(model: ModelFolder) -> str:
    """What a model lacks that has neither a checkpoint of a known family nor an ONNX file."""
    if not model.architecture:
        return f"{model.path} is no model folder: it has neither config.json nor an ONNX model"
    kind = model.architecture.get("model_type")
    if kind not in MODEL_TYPES:
        return f"model_type {kind!r} has no builder, and {model.path} has no ONNX model; export one to onnx/model.onnx"
    advice = "where PyTorch is, SentenceTransformer(folder).save_pretrained(other) writes a model.safetensors"
    return f"{model.path} has neither model.safetensors nor an ONNX model, and pickled weights are not opened; {advice}"
