"""The wall around ONNX Runtime: open a model on a device, check what was obtained, run it, translate its errors."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import memory, settings
from ...errors import InferenceError, ModelCorrupt, OutOfMemory, ProviderUnavailable, UnsupportedModel
from ...forks import reset_in_children
from ...providers import GpuOptions, provider_list
from .external_data import external_files

with memory.loading("onnxruntime", 64 * memory.MIB), settings.without_telemetry():
    import onnxruntime as ort

_FATAL = 4  # ONNX Runtime would print every error that is raised here anyway
_OUT_OF_MEMORY = ("Failed to allocate memory", "bad_alloc", "out of memory", "ALLOC_FAILED", "BFCArena")
_INPUTS = ("attention_mask", "input_ids", "position_ids", "token_type_ids")
_TOO_NEW = ("is not a registered function/op", "is under development", "Unsupported model IR version")
_STATE = ort.capi.onnxruntime_pybind11_state
_DTYPES: dict[str, type[np.integer[Any]]] = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


def _positions(ids: NDArray[np.int64], pad_position: int | None) -> NDArray[np.int64]:
    if pad_position is None:
        return np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    counted = (
        ids != pad_position
    )  # as create_position_ids_from_input_ids of transformers: a typed pad token, too, is none
    positions: NDArray[np.int64] = counted.cumsum(axis=1) * counted + pad_position
    return positions


def _runtime_errors() -> tuple[type[BaseException], ...]:
    # They derive from Exception directly, with no common base. RuntimeError is what is thrown as std::exception.
    names = ("Fail", "InvalidArgument", "NoSuchFile", "NoModel", "EngineError", "RuntimeException", "InvalidProtobuf",
             "ModelLoaded", "NotImplemented", "InvalidGraph", "EPFail")  # fmt: skip
    return (RuntimeError, *(getattr(_STATE, name) for name in names if hasattr(_STATE, name)))


_RUNTIME_ERRORS = _runtime_errors()
_RUN_ERRORS: tuple[type[BaseException], ...] = (MemoryError, *_RUNTIME_ERRORS)


def _shrinking() -> ort.RunOptions:
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


_SHRINK = _shrinking()


class OnnxSession:
    """An ONNX model on one device.

    Args:
        path: the model; its external data lies beside it.
        device: "cpu", "cuda" or "tensorrt".
        n_threads: threads of one run.
        gpu: options of the GPU providers.

    Raises:
        ModelCorrupt: the file cannot be loaded.
        UnsupportedModel: ONNX Runtime cannot run it, or its inputs are not those of an encoder.
        ProviderUnavailable: ONNX Runtime fell back to another provider.
    """

    def __init__(self, path: Path, *, device: str, n_threads: int, gpu: GpuOptions) -> None:
        providers = provider_list(device, gpu)
        if device != "cpu":
            ort.preload_dlls()  # finds CUDA and cuDNN that came as Python packages
        self._session = _open(path, _options(n_threads), providers)
        reset_in_children(self)
        self.provider: str = self._session.get_providers()[0]
        if self.provider != providers[0][0]:
            available = ort.get_available_providers()
            reason = f"ONNX Runtime fell back to {self.provider}: a driver or a CUDA library is missing or too old"
            raise ProviderUnavailable(device, available, reason)
        self.inputs: dict[str, type[np.integer[Any]]] = _input_types(self._session.get_inputs(), path)
        self.outputs: dict[str, list[Any]] = {node.name: node.shape for node in self._session.get_outputs()}
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map

    def forget_threads(self) -> None:
        """See `forks.HasThreads`: never destroy it in a child. Its threads are not here, and would be waited for."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))

    def feeds(
        self, ids: NDArray[np.int64], mask: NDArray[np.int64], *, pad_position: int | None = None
    ) -> dict[str, NDArray[np.integer[Any]]]:
        """The inputs of a run, those that this model takes.

        Args:
            ids: (texts, tokens).
            mask: the same shape, 1 on real tokens.
            pad_position: as in `ModelConfig`.
        """
        values = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(ids),
            "position_ids": _positions(ids, pad_position),
        }
        return {name: np.ascontiguousarray(values[name], dtype) for name, dtype in self.inputs.items()}

    def run(self, output: str, feeds: Mapping[str, NDArray[Any]], *, shrink: bool = False) -> NDArray[np.float32]:
        """Run the model and return one output. As `run_many`, for one name."""
        return np.asarray(self.run_many([output], feeds, shrink=shrink)[0], np.float32)

    def run_many(
        self, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]], *, shrink: bool = False
    ) -> list[NDArray[Any]]:
        """Run the model and return several outputs.

        Args:
            outputs: their names.
            feeds: arrays by the names of the inputs.
            shrink: give the working memory kept for later runs back to the system afterwards.

        Raises:
            OutOfMemory: the run did not fit; the session can still be used.
            InferenceError: anything else went wrong.
        """
        try:
            found: list[NDArray[Any]] = self._session.run(outputs, dict(feeds), _SHRINK if shrink else None)
            return found
        except _RUN_ERRORS as error:
            message = str(error)
            if isinstance(error, MemoryError) or any(sign in message for sign in _OUT_OF_MEMORY):
                n_texts, n_tokens = next(iter(feeds.values())).shape
                raise OutOfMemory(n_texts, n_tokens, message) from error
            raise InferenceError(self.provider, message) from error


def check_inputs(names: Collection[str], path: Path) -> None:
    """Refuse a model that takes anything else than an encoder's inputs: nobody here could tell what to feed it.

    Raises:
        UnsupportedModel: it does.
    """
    if not {"input_ids", "attention_mask"} <= set(names) <= set(_INPUTS):
        raise UnsupportedModel(str(path), f"its inputs are {sorted(names)}; an encoder takes {list(_INPUTS)}")


def available_providers() -> Sequence[str]:
    """The execution providers of the installed ONNX Runtime."""
    return list(ort.get_available_providers())


def _input_types(inputs: Sequence[Any], path: Path) -> dict[str, type[np.integer[Any]]]:
    check_inputs([node.name for node in inputs], path)
    for node in inputs:
        if node.type not in _DTYPES:
            raise UnsupportedModel(str(path), f"its inputs are not integers: {node.name} is a {node.type}")
    return {node.name: _DTYPES[node.type] for node in inputs}


def _options(n_threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    # Plans memory for shapes seen before; every micro-batch has a new shape, so there is nothing to plan.
    options.enable_mem_pattern = False
    # Without VNNI, products of u8 and s8 would overflow their 16-bit sums; this takes slower ones that do not.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def _open(path: Path, options: ort.SessionOptions, providers: list[Any]) -> ort.InferenceSession:
    external_files(path)  # a name that leads elsewhere is refused before ONNX Runtime sees it
    try:
        # SkipLayerNormalization is slower on CPU than the Add and LayerNormalization it replaces.
        return ort.InferenceSession(path, options, providers, disabled_optimizers=["SkipLayerNormFusion"])
    except _RUNTIME_ERRORS as error:
        if any(sign in str(error) for sign in _OUT_OF_MEMORY):
            raise OutOfMemory.before_texts(f"loading {path}: {error}") from error
        if isinstance(error, _STATE.NotImplemented) or any(sign in str(error) for sign in _TOO_NEW):
            raise UnsupportedModel(str(path), f"ONNX Runtime cannot run it: {error}") from error
        raise ModelCorrupt(str(path), expected="an ONNX model that loads", actual=str(error)) from error
