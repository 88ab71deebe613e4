"""Which back end runs INT8 of a model, and why, before anything is made."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal

from .. import settings
from ..backends.native.kernels import absence, choose_isa
from ..backends.native.pack import why_not
from ..config import ModelConfig
from ..errors import UnsupportedModel
from ..store import Manifest, Store, can_build, why_not_run
from ..store.folder import ModelFolder
from ..store.registry import find_spec
from ..types import Precision

NATIVE = "int8-native"
"""What the store calls INT8 for the native kernels."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A back end, and why it is not another.

    Attributes:
        backend: what INT8 runs on; None where there is no INT8, or it is not known yet.
        reason: why the kernels do not run it; None where they do.
    """

    backend: Literal["native", "onnxruntime"] | None
    reason: str | None = None


def choose_backend(store: Store, model: str | PathLike[str]) -> Choice:
    """What INT8 of a model would run on. Nothing is fetched or made for it.

    Args:
        store: where models are kept.
        model: a folder, a registry name or a Hub id.

    Raises:
        UnsupportedModel: no such model, or one that is not run here at all.
        ModelCorrupt: a file is damaged.
    """
    folder = settings.expanded(model)
    if folder.is_dir():
        return _of_files(ModelFolder(folder))
    manifest = Manifest.read(store.target(find_spec(str(model))))
    if manifest is None:
        return Choice(None, "it is not fetched yet; its files will tell")
    return _of_ready(store, manifest) if manifest.graph_version else _of_files(original_of(manifest))


def runs_natively(store: Store, source: Manifest) -> bool:
    """Whether INT8 of a model that is ready runs on the native kernels.

    Its checkpoint is opened only where nothing in the cache tells, and fetched again if it is gone.

    Args:
        store: where models are kept.
        source: the fp32 model.
    """
    if not source.graph_version or choose_isa() is None:
        return False
    choice = _of_ready(store, source)
    if choice.backend is None:
        choice = _of_checkpoint(fetch_original(store, source), source.config)
    return choice.backend == "native"


def _of_ready(store: Store, source: Manifest) -> Choice:
    """Of a model that was built here, by what the cache has of it."""
    if store.has_variant(source, NATIVE) and choose_isa():
        return Choice("native")
    original = original_of(source)
    if original.safetensors_path is not None:
        return _of_checkpoint(original, source.config)
    gone = f"its checkpoint is gone from {original.path}"
    if store.has_variant(source, str(Precision.INT8)):
        return Choice("onnxruntime", f"that is what the cache has of it; {gone}")
    return Choice(None, f"{gone}; it is fetched again when INT8 is asked for")


def original_of(source: Manifest) -> ModelFolder:
    """The files that a model was made from, as far as they are still there."""
    return ModelFolder(Path(source.source["folder"]), source.config.name)


def fetch_original(store: Store, source: Manifest) -> ModelFolder:
    """The files that a model was made from, fetched again where the cache was copied or cleaned in part."""
    original = original_of(source)
    if original.safetensors_path is None and "repository" in source.source:
        return ModelFolder(store.fetch(source.source["repository"], revision=source.source["revision"]))
    return original


def _of_files(model: ModelFolder) -> Choice:
    if model.is_static:
        return Choice(None, "a table of vectors has none")
    if can_build(model):
        return _of_checkpoint(model, model.config())
    if model.onnx_path is None:
        raise UnsupportedModel(model.name, why_not_run(model))
    return Choice("onnxruntime", f"{model.onnx_path} is used as it was found")


def _of_checkpoint(model: ModelFolder, config: ModelConfig) -> Choice:
    if choose_isa() is None:
        return Choice("onnxruntime", f"no native kernels: {absence()}")
    reason = why_not(model.stack(), config.dense)
    return Choice("onnxruntime", f"the native kernels do not know {reason}") if reason else Choice("native")
