"""Which back end runs a model, and why: known before anything is made."""

from __future__ import annotations

import os
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Literal

from .. import settings
from ..backends.native.isas import absence, choose_isa
from ..errors import EmbeddingError, ProviderUnavailable, UnsupportedModel
from ..providers import Device, choose_device
from ..store import Manifest, Store
from ..store.registry import find_spec
from ..types import Backend, Precision

if TYPE_CHECKING:
    from ..config import ModelConfig
    from ..store.folder import ModelFolder

Runner = Literal["native", "onnxruntime"]
NATIVE = (Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8)
"""Precisions that the kernels compute in, where there are any."""
_OF_BOTH = (Precision.FP32, Precision.FP16, Precision.INT8)


@dataclass(frozen=True, slots=True)
class Choice:
    """A back end, and why it is not another.

    Attributes:
        backend: what runs a model in some precision; None where nothing does, or it is not known yet.
        reason: why the kernels do not run it; None where they do.
    """

    backend: Runner | Literal["static"] | None
    reason: str | None = None


def native_name(precision: Precision) -> str:
    """What the store calls a model packed for the kernels.

    Example:
        >>> native_name(Precision.INT8)
        'int8-native'
    """
    return f"{precision}-native"


def choose_backend(store: Store, model: str | PathLike[str], precision: Precision) -> Choice:
    """What a model would run on. Nothing is fetched or made for it.

    Args:
        store: where models are kept.
        model: a folder, a registry name or a Hub id.
        precision: in which precision.

    Raises:
        UnsupportedModel: no such model, or one that is not run here at all.
        ModelCorrupt: a file is damaged.
    """
    from ..store.folder import ModelFolder

    folder = settings.expanded(model)
    if folder.is_dir():
        return _of_files(ModelFolder(folder), precision)
    source = Manifest.read(store.target(find_spec(str(model))))
    if source is None:
        return Choice(None, "it is not fetched yet; its files will tell")
    if source.is_checkpoint:
        return _of_source(store, source, precision)
    from .originals import original_of

    return _of_files(original_of(source), precision)


def name_of(choice: Choice, precision: Precision) -> str | None:
    """The back end, and of the kernels the instruction set."""
    return f"native {choose_isa(precision)}" if choice.backend == "native" else choice.backend


def decide(store: Store, source: Manifest, precision: Precision, backend: Backend, device: Device) -> Runner:
    """What is to run a model that is no table.

    Its checkpoint is opened only where nothing in the cache tells, and fetched again if it is gone.

    Args:
        store: where models are kept.
        source: the model.
        precision: in which precision.
        backend: what was asked for.
        device: where it is to run.

    Raises:
        ProviderUnavailable: a back end or precision that was named is not here.
        UnsupportedModel: the kernels were named, or are the only ones to compute so, and do not know a part of it.
    """
    if precision not in NATIVE or backend == "onnxruntime":
        return _without_kernels(precision, backend)
    is_free = backend == "auto" and precision in _OF_BOTH
    if is_free and (_is_gpu(device) or _only_graph_is_here(store, source, precision)):
        return "onnxruntime"
    reason = _why_not_native(store, source, precision, device)
    if reason is None:
        return "native"
    if not is_free:
        raise reason
    return "onnxruntime"


def runs_natively(store: Store, source: Manifest, precision: Precision) -> bool:
    """Whether the native kernels run a model in a precision."""
    return _why_not_native(store, source, precision, "cpu") is None


def _without_kernels(precision: Precision, backend: Backend) -> Runner:
    if precision not in NATIVE and backend == "native":
        reason = f"precision={str(precision)!r} is computed by ONNX Runtime only"
        raise ProviderUnavailable(backend, ["onnxruntime"], reason, kind="backend")
    if precision in NATIVE and precision not in _OF_BOTH:
        reason = f"precision={str(precision)!r} is computed by the native kernels only"
        raise ProviderUnavailable(backend, ["native"], reason, kind="backend")
    return "onnxruntime"


def _is_gpu(device: Device) -> bool:
    """Whether a device is one; what "auto" is, only ONNX Runtime tells."""
    if device != "auto":
        return device != "cpu"
    from ..backends.onnx.session import available_providers

    return choose_device(device, available_providers()) != "cpu"


def _only_graph_is_here(store: Store, source: Manifest, precision: Precision) -> bool:
    """Whether a cache that cannot be written, as of a container, holds what ONNX Runtime runs and not the kernels."""
    has_graph = source.is_checkpoint and store.has_variant(source, str(precision))
    is_alone = has_graph and not store.has_variant(source, native_name(precision))
    return is_alone and not os.access(source.folder.parent, os.W_OK)


def _why_not_native(store: Store, source: Manifest, precision: Precision, device: Device) -> EmbeddingError | None:
    name = source.config.name
    if device not in ("cpu", "auto"):
        return _no_kernels(precision, f"they run on the CPU, not on device={device!r}")
    if not source.is_checkpoint:
        return UnsupportedModel(name, f"the native kernels run checkpoints, and this is {source.model_path}")
    if choose_isa(precision) is None:
        return _no_kernels(precision, absence(precision))
    if store.has_variant(source, native_name(precision)):
        return None
    from .originals import find_original

    choice = _of_source(store, source, precision)
    if choice.backend is None:
        choice = _of_checkpoint(find_original(store, source), source.config, precision)
    return None if choice.backend == "native" else UnsupportedModel(name, choice.reason or "")


def _no_kernels(precision: Precision, reason: str) -> ProviderUnavailable:
    if precision in _OF_BOTH:
        return ProviderUnavailable("native", ["onnxruntime"], f"no native kernels: {reason}", kind="backend")
    others = [str(other) for other in _OF_BOTH]
    return ProviderUnavailable(str(precision), others, f"no native kernels: {reason}", kind="precision")


def _of_source(store: Store, source: Manifest, precision: Precision) -> Choice:
    """Of a checkpoint, by what the cache has of it."""
    from .originals import original_of

    if precision in NATIVE and store.has_variant(source, native_name(precision)) and choose_isa(precision):
        return Choice("native")
    original = original_of(source)
    if original.safetensors_path is not None:
        return _of_checkpoint(original, source.config, precision)
    gone = f"its checkpoint is gone from {original.path}"
    if store.has_variant(source, str(precision)):
        return Choice("onnxruntime", f"that is what the cache has of it; {gone}")
    return Choice(None, f"{gone}; it is fetched again when {precision} is asked for")


def _of_files(model: ModelFolder, precision: Precision) -> Choice:
    from ..store.preparation import can_build, why_not_run

    if model.is_static:
        return Choice("static") if precision is Precision.FP32 else Choice(None, "a table of vectors has none")
    if can_build(model):
        return _of_checkpoint(model, model.config(), precision)
    if model.onnx_path is None:
        raise UnsupportedModel(model.name, why_not_run(model))
    return _without(precision, f"{model.onnx_path} is used as it was found")


def _of_checkpoint(model: ModelFolder, config: ModelConfig, precision: Precision) -> Choice:
    from ..backends.native.pack import why_not

    if precision not in NATIVE:
        return Choice("onnxruntime", "the native kernels do not compute so")
    if choose_isa(precision) is None:
        return _without(precision, f"no native kernels: {absence(precision)}")
    reason = why_not(model.stack(), config.dense)
    return _without(precision, f"the native kernels do not know {reason}") if reason else Choice("native")


def _without(precision: Precision, reason: str) -> Choice:
    return Choice("onnxruntime" if precision in _OF_BOTH else None, reason)
