"""Which ONNX Runtime execution providers a device needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from .errors import InputError, ProviderUnavailable

Device = Literal["cpu", "cuda", "tensorrt", "auto"]
Provider = tuple[str, dict[str, Any]]

_PROVIDER = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuOptions:
    """Options of the CUDA and TensorRT providers.

    Args:
        device_id: which GPU.
        memory_limit_bytes: most device memory ONNX Runtime may take; None for no limit.
        engine_cache: folder where TensorRT keeps its built engines; None builds them at every start.
    """

    device_id: int = 0
    memory_limit_bytes: int | None = None
    engine_cache: Path | None = None


def choose_device(device: Device, available: Sequence[str]) -> str:
    """The device to use.

    Args:
        device: what was asked for; "auto" takes CUDA where it is there and the CPU otherwise.
        available: the execution providers of the installed ONNX Runtime.

    Raises:
        InputError: no such device.
        ProviderUnavailable: the installed ONNX Runtime cannot use it.
    """
    if device not in get_args(Device):
        raise InputError(f"device must be one of {', '.join(get_args(Device))}, not {device!r}")
    if device == "auto":
        return "cuda" if _PROVIDER["cuda"] in available else "cpu"
    if _PROVIDER[device] not in available:
        reason = "the installed onnxruntime was built without it; install onnxruntime-gpu in its place"
        raise ProviderUnavailable(device, available, reason)
    return device


def provider_list(device: str, gpu: GpuOptions) -> list[Provider]:
    """The providers to ask ONNX Runtime for, first choice first: the first one must be obtained."""
    cpu: Provider = (_PROVIDER["cpu"], {})
    if device == "cpu":
        return [cpu]
    cuda: Provider = (_PROVIDER["cuda"], _cuda_options(gpu))
    return [cuda, cpu] if device == "cuda" else [(_PROVIDER["tensorrt"], _tensorrt_options(gpu)), cuda, cpu]


def _cuda_options(gpu: GpuOptions) -> dict[str, Any]:
    # Growing by just what is needed keeps the limit sharp; the default doubles the arena at every growth.
    options: dict[str, Any] = {"device_id": gpu.device_id, "arena_extend_strategy": "kSameAsRequested"}
    if gpu.memory_limit_bytes is not None:
        options["gpu_mem_limit"] = gpu.memory_limit_bytes
    return options


def _tensorrt_options(gpu: GpuOptions) -> dict[str, Any]:
    options: dict[str, Any] = {"device_id": gpu.device_id}
    if gpu.memory_limit_bytes is not None:
        options["trt_max_workspace_size"] = gpu.memory_limit_bytes
    if gpu.engine_cache is not None:
        options |= {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(gpu.engine_cache)}
    return options
