"""The wall around the native library: describe a model to it, run it.

The library itself never fails and checks nothing (native/include/neuralcore.h): what is given to it here was checked
when the model was loaded (check.py) and, for each call, above.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from ctypes import POINTER, Structure, c_float, c_int32, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import settings
from ...config import ModelConfig
from ...errors import InferenceError, ProviderUnavailable
from ...types import Precision, Vectors
from .format import ACTIVATIONS, DENSE_ACTIVATIONS, FORMS
from .groups import Group
from .isas import absence, choose_isa, compiled_isas, is_usable, try_isas
from .library import find_kernels, load_library
from .stages import report_at_exit

__all__ = ["NativeModel", "Team", "absence", "choose_isa", "compiled_isas", "is_usable", "try_isas"]

_ALIGNMENT = 64
_NORMS = ("layer", "rms")  # in the order of `nc_norm_kind`
_POOLINGS: Mapping[str, int] = {
    "cls": 0,
    "mean": 1,
    "mean_with_attention": 1,
    "max": 2,
    "last_token": 3,
    "weightedmean": 4,
    "mean_sqrt_len": 5,
}
_UNBOUNDED = -1
_WORDS = tuple(form.dtype for form in FORMS.values())  # in the order of `nc_precision`

_Ints, _Floats = POINTER(c_int32), POINTER(c_float)
_POINTERS: Mapping[str, tuple[str, Any]] = {"int32": ("i4", _Ints), "float32": ("f4", _Floats)}


class _Product(Structure):
    _fields_ = (
        ("weight", c_void_p),
        ("column_scale", _Floats),
        ("column_sum", _Ints),
        ("bias", _Floats),
        ("n_in", c_int32),
        ("n_out", c_int32),
    )


class _Norm(Structure):
    _fields_ = (("weight", _Floats), ("bias", _Floats))


class _Norms(Structure):
    _fields_ = (("before", _Norm), ("inner", _Norm), ("after", _Norm))


class _Attention(Structure):
    _fields_ = (
        ("qkv", _Product),
        ("out", _Product),
        *((name, _Norm) for name in ("query_norm", "key_norm", "value_norm")),
        ("cosines", _Floats),
        ("sines", _Floats),
        *((name, c_int32) for name in ("n_heads", "n_key_heads", "head_size", "causal", "window")),
    )


class _Layer(Structure):
    _fields_ = (
        ("attention", _Attention),
        ("attention_norms", _Norms),
        *((name, _Product) for name in ("up", "gate", "down")),
        ("feed_forward_norms", _Norms),
    )


class _Dense(Structure):
    _fields_ = (
        *((name, _Floats) for name in ("weight", "bias", "residual")),
        *((name, c_int32) for name in ("n_in", "n_out", "activation", "is_residual")),
    )


class _Model(Structure):
    _fields_ = (
        ("words", c_void_p),
        *((name, _Floats) for name in ("word_scale", "positions", "distance_bias")),
        ("embedding_norm", _Norm),
        ("end_norm", _Norm),
        ("layers", POINTER(_Layer)),
        ("poolings", _Ints),
        ("dense", POINTER(_Dense)),
        ("epsilon", c_float),
        *((name, c_int32) for name in ("n_layers", "n_poolings", "n_dense", "hidden", "max_positions")),
        *((name, c_int32) for name in ("norm", "activation", "normalize", "word_precision")),
    )


class _Batch(Structure):
    _fields_ = (*((name, c_void_p) for name in ("ids", "positions", "offsets")), ("n_texts", c_int32))


class NativeModel:
    """A packed model, described to the library.

    Args:
        tensors: those of a packed file, checked (file.py); they stay mapped as long as this object lives.
        about: what the file says besides.
        config: how token vectors become one vector, and whether it has unit length.

    Raises:
        ProviderUnavailable: there are no kernels.
    """

    def __init__(self, tensors: Mapping[str, NDArray[Any]], about: Mapping[str, Any], config: ModelConfig) -> None:
        self.precision = Precision(about["precision"])
        isa = choose_isa(self.precision)
        if isa is None:
            raise ProviderUnavailable(f"native {self.precision}", compiled_isas(), absence(self.precision))
        if settings.profile():
            report_at_exit()
        self.isa = isa
        self._kernels = find_kernels(isa, self.precision)
        self._tensors = tensors
        self.n_words, self.hidden = tensors["words"].shape
        self.pad_position: int | None = about["pad_position"]
        # Rows of the tables of positions; those up to the pad position belong to no token that counts.
        n_positions: int = about["max_positions"]
        self.max_tokens = n_positions - (0 if self.pad_position is None else self.pad_position + 1)
        self._poolings = np.array([_POOLINGS[pooling] for pooling in config.poolings], np.int32)
        self._layers = _array(_Layer, (self._layer(number, said) for number, said in enumerate(about["attentions"])))
        self._dense = _array(_Dense, (self._dense_step(number, said) for number, said in enumerate(about["dense"])))
        self.pooled_size = len(config.poolings) * self.hidden
        self.size = self._dense[-1].n_out if len(self._dense) else self.pooled_size
        self._model = _Model(
            words=self._address("words"),
            word_scale=self._pointer("word_scale"),
            positions=self._pointer("positions"),
            distance_bias=self._pointer("distance_bias"),
            embedding_norm=self._norm("embedding_norm"),
            end_norm=self._norm("end_norm"),
            layers=self._layers,
            poolings=_pointer_to(self._poolings),
            dense=self._dense,
            epsilon=about["epsilon"],
            n_layers=len(self._layers),
            n_poolings=len(self._poolings),
            n_dense=len(self._dense),
            hidden=self.hidden,
            max_positions=n_positions,
            norm=_NORMS.index(about["norm"]),
            activation=ACTIVATIONS.index(about["activation"]),
            normalize=config.normalize,
            word_precision=_WORDS.index(tensors["words"].dtype.name),
        )

    def _layer(self, number: int, attention: Mapping[str, Any]) -> _Layer:
        name = f"layers.{number}"
        return _Layer(
            attention=self._attention(name, attention),
            attention_norms=self._norms(f"{name}.attention"),
            up=self._product(f"{name}.up"),
            gate=self._product(f"{name}.gate"),
            down=self._product(f"{name}.down"),
            feed_forward_norms=self._norms(f"{name}.feed_forward"),
        )

    def _attention(self, name: str, said: Mapping[str, Any]) -> _Attention:
        return _Attention(
            qkv=self._product(f"{name}.qkv"),
            out=self._product(f"{name}.out"),
            query_norm=self._norm(f"{name}.query_norm"),
            key_norm=self._norm(f"{name}.key_norm"),
            value_norm=self._norm(f"{name}.value_norm"),
            cosines=self._pointer(f"cosines.{said['rotary']}"),
            sines=self._pointer(f"sines.{said['rotary']}"),
            n_heads=said["n_heads"],
            n_key_heads=said["n_key_heads"],
            head_size=said["head_size"],
            causal=said["causal"],
            window=_UNBOUNDED if said["window"] is None else said["window"],
        )

    def _dense_step(self, number: int, said: Mapping[str, Any]) -> _Dense:
        name = f"dense.{number}"
        n_in, n_out = self._tensors[f"{name}.weight"].shape
        return _Dense(
            *(self._pointer(f"{name}.{part}") for part in ("weight", "bias", "residual")),
            n_in=n_in,
            n_out=n_out,
            activation=DENSE_ACTIVATIONS.index(said["activation"]),
            is_residual=said["residual"],
        )

    def _product(self, name: str) -> _Product:
        if f"{name}.weight" not in self._tensors:
            return _Product()
        n_panels, n_groups, width, depth = self._tensors[f"{name}.weight"].shape
        parts = (self._pointer(f"{name}.{part}") for part in ("column_scale", "column_sum", "bias"))
        weight = self._address(f"{name}.weight")
        return _Product(weight, *parts, n_in=n_groups * depth, n_out=n_panels * width)

    def _norms(self, name: str) -> _Norms:
        return _Norms(*(self._norm(f"{name}_{place}") for place in ("before", "inner", "after")))

    def _norm(self, name: str) -> _Norm:
        return _Norm(self._pointer(f"{name}.weight"), self._pointer(f"{name}.bias"))

    def _address(self, name: str) -> int:
        return self._tensors[name].ctypes.data

    def _pointer(self, name: str) -> Any:
        return _pointer_to(self._tensors[name]) if name in self._tensors else None

    def workspace_bytes(self, n_tokens: int, n_texts: int, longest: int, n_threads: int) -> int:
        """Working memory of a run."""
        library = load_library()
        assert library is not None
        model = ctypes.byref(self._model)
        return int(library.nc_workspace_bytes(self._kernels, model, n_tokens, n_texts, longest, n_threads)) + _ALIGNMENT

    def encode(self, group: Group, out: Vectors, workspace: NDArray[np.uint8], team: Team | None = None) -> None:
        """Vectors of texts; the GIL is free meanwhile.

        Args:
            group: texts with tokens, ids below `n_words`, none longer than `max_tokens`.
            out: float32 (n, size), contiguous, for the vectors.
            workspace: at least `workspace_bytes`.
            team: threads to share the work; None for the caller alone.

        Raises:
            InferenceError: a vector is not finite, or the team's threads cannot be started.
        """
        library = load_library()
        assert library is not None
        tokens = _address_of(group.ids, "i4"), _address_of(group.positions, "i4")
        batch = _Batch(*tokens, _address_of(group.offsets, "i8"), len(group))
        memory = workspace.ctypes.data
        failed = library.nc_encode(
            self._kernels,
            ctypes.byref(self._model),
            ctypes.byref(batch),
            _address_of(out, "f4"),
            memory + -memory % _ALIGNMENT,
            team.handle if team else None,
        )
        if failed and team:
            raise InferenceError("native", f"{team.n_threads} threads cannot be started; pass threads=1")
        if not np.isfinite(out).all():
            raise InferenceError.not_finite(f"native {self.isa}")


class Team:
    """Threads that share the work of one run; they start with the first one. While one caller has them, others do
    without. The library takes them and gives them back, so that no signal handler can come between.

    Args:
        n_threads: the calling one included.

    Raises:
        MemoryError: there is none.
    """

    def __init__(self, n_threads: int) -> None:
        library = load_library()
        assert library is not None
        self._stop, self._free = library.nc_stop_team, library.nc_free_team
        self.n_threads, self.handle = n_threads, library.nc_make_team(n_threads)
        if not self.handle:
            raise MemoryError("no memory for a team of threads")

    def stop(self) -> None:
        """Wait for who uses them, and end the threads; runs that come later do without. Twice is fine."""
        self._stop(self.handle)

    def __del__(self) -> None:
        if handle := getattr(self, "handle", None):
            self._free(handle)


def _array(kind: Any, items: Iterable[Any]) -> Any:
    made = tuple(items)
    return (kind * len(made))(*made)


def _pointer_to(array: NDArray[Any]) -> Any:
    kind, pointer = _POINTERS[array.dtype.name]
    return ctypes.cast(_address_of(array, kind), pointer)


def _address_of(array: NDArray[Any], kind: str) -> int:
    """Of numbers of a kind as `dtype.str` has it: `dtype.name` takes 10 us, and a typed pointer two."""
    if array.dtype.str[1:] != kind or not array.flags.c_contiguous:
        raise ValueError(f"an array of {array.dtype}, not {kind}, or not contiguous")
    return array.ctypes.data
