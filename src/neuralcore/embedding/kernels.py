"""The wall around the native library: find it, choose an instruction set, describe a model to it, run it.

All checks are made here or above: the library itself never fails (native/include/neuralcore.h).
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import POINTER, Structure, c_char_p, c_float, c_int8, c_int32, c_int64, c_size_t, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import settings
from .config import PoolingStrategy
from .errors import InferenceError, ModelCorrupt, ProviderUnavailable
from .types import TokenBatch, Vectors

_ABI_VERSION = 2
_PORTABLE = "scalar"  # for tests: ONNX Runtime's INT8 is faster
_ALIGNMENT = 64
_FILES = ("libneuralcore.so", "libneuralcore.dylib")
_ACTIVATIONS = {"gelu": 0, "gelu_tanh": 1, "relu": 2, "swiglu": 3}
_POOLINGS = {
    PoolingStrategy.CLS: 0,
    PoolingStrategy.MEAN: 1,
    PoolingStrategy.MEAN_WITH_ATTENTION: 1,
    PoolingStrategy.MAX: 2,
    PoolingStrategy.LAST_TOKEN: 3,
}

_Bytes, _Ints, _Floats, _Longs = POINTER(c_int8), POINTER(c_int32), POINTER(c_float), POINTER(c_int64)
_POINTERS: Mapping[str, Any] = {"int8": _Bytes, "int32": _Ints, "float32": _Floats, "int64": _Longs}


class _Product(Structure):
    _fields_ = (
        ("weight", _Bytes),
        ("column_scale", _Floats),
        ("column_sum", _Ints),
        ("bias", _Floats),
        ("n_in", c_int32),
        ("n_out", c_int32),
    )


class _Norm(Structure):
    _fields_ = (("weight", _Floats), ("bias", _Floats))


class _Layer(Structure):
    _fields_ = (
        *((name, _Product) for name in ("qkv", "out", "up", "gate", "down")),
        ("attention_norm", _Norm),
        ("output_norm", _Norm),
    )


class _Model(Structure):
    _fields_ = (
        ("words", _Bytes),
        *((name, _Floats) for name in ("word_scale", "positions", "distance_bias", "cosines", "sines")),
        ("embedding_norm", _Norm),
        ("layers", POINTER(_Layer)),
        ("epsilon", c_float),
        *((name, c_int32) for name in ("n_layers", "hidden", "wide", "n_heads", "max_positions")),
        *((name, c_int32) for name in ("activation", "pooling", "normalize")),
    )


class _Batch(Structure):
    _fields_ = (("ids", _Ints), ("positions", _Ints), ("offsets", _Longs), ("n_texts", c_int32))


def absence() -> str:
    """Why no kernels can be used in this process; empty if they can.

    Example:
        >>> absence()  # doctest: +SKIP
        ''
    """
    if settings.isa() == "none":
        return "switched off by NEURALCORE_ISA=none"
    if _library() is None:
        return "not in this installation: there was no C++ compiler when it was built, or not on this platform"
    return "" if choose_isa() else f"this CPU has none of the instruction sets {', '.join(compiled_isas()[:-1])}"


def compiled_isas() -> Sequence[str]:
    """The instruction sets that were compiled in, best first; empty without the library."""
    library = _library()
    return library.nc_compiled().decode().split() if library else ()


def is_usable(isa: str) -> bool:
    """Whether an instruction set was compiled in and this CPU has it."""
    return bool(_find(isa))


def choose_isa() -> str | None:
    """The instruction set to use: the one that NEURALCORE_ISA names, else the best of this CPU; None for no kernels.

    Raises:
        ProviderUnavailable: the one that was named is not here.
    """
    forced = settings.isa()
    usable = [name for name in compiled_isas() if is_usable(name)]
    if forced and forced != "none" and forced not in usable:
        reason = f"NEURALCORE_ISA asks for it; compiled: {', '.join(compiled_isas()) or 'none'}"
        raise ProviderUnavailable(forced, usable, reason)
    if forced:
        return None if forced == "none" else forced
    return next((name for name in usable if name != _PORTABLE), None)


class NativeModel:
    """A packed model, described to the library.

    Args:
        tensors: those of a packed file (models/pack/), which stay mapped as long as this object lives.
        about: what the file says besides.
        pooling: how token vectors become one vector.
        normalize: whether vectors have unit length.

    Raises:
        ModelCorrupt: a tensor is missing or has another shape.
        ProviderUnavailable: there are no kernels.
    """

    def __init__(
        self,
        tensors: Mapping[str, NDArray[Any]],
        about: Mapping[str, Any],
        pooling: PoolingStrategy,
        *,
        normalize: bool,
    ) -> None:
        isa = choose_isa()
        if isa is None:
            raise ProviderUnavailable("native", compiled_isas(), absence())
        self.isa = isa
        self._kernels = _find(isa)
        self._tensors = tensors
        try:
            self._describe(about, pooling, normalize=normalize)
        except (KeyError, ValueError) as error:
            raise ModelCorrupt("the packed model", expected="all its tensors", actual=f"{error}") from error

    def _describe(self, about: Mapping[str, Any], pooling: PoolingStrategy, *, normalize: bool) -> None:
        self.n_words, self.hidden = self._tensors["words"].shape
        self.max_positions: int = about["max_positions"]
        wide = self._tensors["layers.0.up.column_scale"].shape[0]
        n_layers, n_heads = about["n_layers"], about["n_heads"]
        gated = about["activation"] == "swiglu"
        half_head = self.hidden // n_heads // 2
        self._layers = (_Layer * n_layers)(*(self._layer(number, wide, gated=gated) for number in range(n_layers)))
        self._model = _Model(
            words=self._pointer("words", (self.n_words, self.hidden)),
            word_scale=self._pointer("word_scale", (self.n_words,)),
            positions=self._optional("positions", (self.max_positions, self.hidden)),
            distance_bias=self._optional("distance_bias", (n_heads, 2 * self.max_positions - 1)),
            cosines=self._optional("cosines", (self.max_positions, half_head)),
            sines=self._optional("sines", (self.max_positions, half_head)),
            embedding_norm=self._norm("embedding_norm"),
            layers=self._layers,
            epsilon=about["epsilon"],
            n_layers=n_layers,
            hidden=self.hidden,
            wide=wide,
            n_heads=n_heads,
            max_positions=self.max_positions,
            activation=_ACTIVATIONS[about["activation"]],
            pooling=_POOLINGS[pooling],
            normalize=normalize,
        )

    def _layer(self, number: int, wide: int, *, gated: bool) -> _Layer:
        def product(name: str, n_in: int, n_out: int) -> _Product:
            return self._product(f"layers.{number}.{name}", n_in, n_out)

        return _Layer(
            qkv=product("qkv", self.hidden, 3 * self.hidden),
            out=product("out", self.hidden, self.hidden),
            up=product("up", self.hidden, wide),
            gate=product("gate", self.hidden, wide) if gated else _Product(),
            down=product("down", wide, self.hidden),
            attention_norm=self._norm(f"layers.{number}.attention_norm"),
            output_norm=self._norm(f"layers.{number}.output_norm"),
        )

    def _product(self, name: str, n_in: int, n_out: int) -> _Product:
        return _Product(
            weight=self._pointer(f"{name}.weight", (n_out // 16, n_in // 4, 16, 4)),
            column_scale=self._pointer(f"{name}.column_scale", (n_out,)),
            column_sum=self._pointer(f"{name}.column_sum", (n_out,)),
            bias=self._pointer(f"{name}.bias", (n_out,)),
            n_in=n_in,
            n_out=n_out,
        )

    def _norm(self, name: str) -> _Norm:
        parts = (self._pointer(f"{name}.{part}", (self.hidden,)) for part in ("weight", "bias"))
        return _Norm(*parts)

    def _pointer(self, name: str, shape: tuple[int, ...]) -> Any:
        tensor = self._tensors[name]
        if tensor.shape != shape:
            raise ValueError(f"{name} has the shape {tensor.shape}, not {shape}")
        return _pointer_to(tensor)

    def _optional(self, name: str, shape: tuple[int, ...]) -> Any:
        return self._pointer(name, shape) if name in self._tensors else None

    def workspace_bytes(self, n_tokens: int, longest: int, n_threads: int) -> int:
        """Working memory of a run."""
        library = _library()
        assert library is not None
        return int(library.nc_workspace_bytes(ctypes.byref(self._model), n_tokens, longest, n_threads)) + _ALIGNMENT

    def encode(
        self, tokens: TokenBatch, positions: NDArray[np.int32], workspace: NDArray[np.uint8], team: Team | None = None
    ) -> Vectors:
        """Vectors of texts; the GIL is free meanwhile.

        Args:
            tokens: none without tokens, ids below `n_words`, none longer than `max_positions`.
            positions: int32 (total,), rows of the table of positions.
            workspace: at least `workspace_bytes`.
            team: threads to share the work; None for the caller alone.

        Returns:
            float32 (n, hidden).

        Raises:
            InferenceError: a vector is not finite.
        """
        library = _library()
        assert library is not None
        out = np.empty((len(tokens), self.hidden), np.float32)
        start = -workspace.ctypes.data % _ALIGNMENT
        batch = _Batch(
            _pointer_to(tokens.ids), _pointer_to(positions), _pointer_to(tokens.offsets), n_texts=len(tokens)
        )
        library.nc_encode(
            self._kernels,
            ctypes.byref(self._model),
            ctypes.byref(batch),
            _pointer_to(out),
            workspace.ctypes.data + start,
            team.handle if team else None,
        )
        if not np.isfinite(out).all():
            raise InferenceError(f"native {self.isa}", "a vector is not finite: the model's weights are damaged")
        return out


class Team:
    """Threads that share the work of one run. One run at a time.

    Args:
        n_threads: the calling one included.

    Raises:
        InferenceError: they cannot be started.
    """

    def __init__(self, n_threads: int) -> None:
        library = _library()
        assert library is not None
        self.handle = library.nc_start_team(n_threads)
        if not self.handle:
            raise InferenceError("native", f"{n_threads} threads cannot be started; pass threads=1")

    def stop(self) -> None:
        """End the threads. Never in a forked child, where they are not."""
        library, handle = _library(), self.handle
        self.handle = None
        if library and handle:
            library.nc_stop_team(handle)


@cache
def _library() -> Any:
    """The library of this installation; None if it has none, or one of another version."""
    path = _library_path()
    if path is None:
        return None
    library = ctypes.CDLL(str(path))
    library.nc_compiled.restype = c_char_p
    library.nc_find.argtypes, library.nc_find.restype = [c_char_p], c_void_p
    library.nc_workspace_bytes.argtypes = [POINTER(_Model), c_int64, c_int64, c_int32]
    library.nc_workspace_bytes.restype = c_size_t
    library.nc_start_team.argtypes, library.nc_start_team.restype = [c_int32], c_void_p
    library.nc_stop_team.argtypes, library.nc_stop_team.restype = [c_void_p], None
    library.nc_encode.argtypes = [c_void_p, POINTER(_Model), POINTER(_Batch), _Floats, c_void_p, c_void_p]
    library.nc_encode.restype = None
    return library if library.nc_abi_version() == _ABI_VERSION else None


def _library_path() -> Path | None:
    """Beside this module or, where the package is installed in editable mode, in the package's second folder."""
    import neuralcore.embedding as package

    candidates = (Path(folder) / "native" / name for folder in package.__path__ for name in _FILES)
    return next((path for path in candidates if path.is_file()), None)


def _find(isa: str) -> Any:
    library = _library()
    return library.nc_find(isa.encode()) if library else None


def _pointer_to(array: NDArray[Any]) -> Any:
    if not array.flags.c_contiguous:
        raise ValueError("an array is not contiguous")
    return ctypes.cast(array.ctypes.data, _POINTERS[array.dtype.name])
