"""The native library: where it lies, and its functions.

It never fails and checks nothing (native/include/neuralcore.h).
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_double, c_int32, c_int64, c_size_t, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

from ...types import Precision
from .format import FORMS

_ABI_VERSION = 5
_FILES = ("libneuralcore.so", "libneuralcore.dylib")
_PRECISIONS = tuple(FORMS)  # in the order of `nc_precision`


@cache
def load_library() -> Any:
    """The library of this installation; None if it has none, or one of another version."""
    path = _library_path()
    if path is None:
        return None
    library = ctypes.CDLL(str(path))
    if library.nc_abi_version() != _ABI_VERSION:
        return None
    library.nc_compiled.restype = c_char_p
    library.nc_find.argtypes, library.nc_find.restype = [c_char_p, c_int32], c_void_p
    library.nc_self_test.argtypes, library.nc_self_test.restype = [c_void_p], c_int32
    library.nc_measure.argtypes, library.nc_measure.restype = [c_void_p], c_double
    library.nc_workspace_bytes.argtypes = [c_void_p, c_void_p, c_int64, c_int64, c_int64, c_int32]
    library.nc_workspace_bytes.restype = c_size_t
    library.nc_make_team.argtypes, library.nc_make_team.restype = [c_int32], c_void_p
    library.nc_stop_team.argtypes, library.nc_stop_team.restype = [c_void_p], None
    library.nc_free_team.argtypes, library.nc_free_team.restype = [c_void_p], None
    library.nc_count_cycles.argtypes, library.nc_count_cycles.restype = [c_int32], None
    library.nc_read_cycles.argtypes, library.nc_read_cycles.restype = [POINTER(c_int64)], None
    library.nc_encode.argtypes = [c_void_p] * 6
    library.nc_encode.restype = c_int32
    return library


def find_kernels(isa: str, precision: Precision) -> Any:
    """Kernels of an instruction set; None if it is not compiled in or knows no such precision, or this CPU lacks it."""
    library = load_library()
    return library.nc_find(isa.encode(), _PRECISIONS.index(precision)) if library else None


def read_counts(n_stages: int) -> list[int]:
    """Cycles of each stage of the encoder since counting began."""
    cycles = (c_int64 * n_stages)()
    load_library().nc_read_cycles(cycles)
    return list(cycles)


def _library_path() -> Path | None:
    """Beside this module or, where the package is installed in editable mode, in the package's second folder."""
    import neuralcore.embedding as package

    candidates = (Path(folder) / "native" / name for folder in package.__path__ for name in _FILES)
    return next((path for path in candidates if path.is_file()), None)
