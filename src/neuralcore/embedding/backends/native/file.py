"""Packed models as safetensors files whose tensors can be used where they are mapped.

The format (https://github.com/huggingface/safetensors) allows no gaps, so tensors of a size that is a multiple of 64
bytes come first, and the header is filled up: all of them begin at a multiple of 64. The library's own writer aligns
to 8.
"""

from __future__ import annotations

import errno
import json
import math
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from reprlib import repr as shorten
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from ...errors import Attempt, ModelCorrupt, ModelUnavailable, OutOfMemory
from ...types import Precision
from .check import check_model, check_origin, check_precision

PACKED_SUFFIX = ".safetensors"

_ALIGNMENT = 64
_TYPES = {"float32": "F32", "float16": "F16", "uint16": "BF16", "int32": "I32", "int8": "I8"}
_DTYPES = {code: np.dtype(name) for name, code in _TYPES.items()}
_KEY = "neuralcore"
_LENGTH_BYTES = 8
_LONGEST_HEADER = 2**24  # a parsed one takes many times its size in memory
_ENTRY_BYTES = 192  # of a tensor in a header, at most
Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """A tensor that is never whole in memory.

    Args:
        dtype: of its numbers.
        shape: of all of it.
        parts: rows of it, one block after the other, made as they are written.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    parts: Iterable[NDArray[Any]]

    @property
    def nbytes(self) -> int:
        """Of all of it."""
        return math.prod(self.shape) * self.dtype.itemsize


Named = tuple[str, NDArray[Any] | Blocks]
"""A tensor and its name."""


def write_packed(path: Path, tensors: Tensors, about: Mapping[str, Any]) -> None:
    """Write a packed model from what is in memory; see `stream_packed`."""
    stream_packed(path, tensors.items(), about, n_tensors=len(tensors))


def stream_packed(path: Path, tensors: Iterable[Named], about: Mapping[str, Any], *, n_tensors: int) -> None:
    """Write a packed model, each tensor when it comes. Where that fails, there is no file.

    Args:
        path: the file.
        tensors: names and float32, float16, int32, int8, or uint16 for bfloat16.
        about: what else there is to know, as plain JSON types.
        n_tensors: so many at most.
    """
    metadata = {_KEY: json.dumps(about)}
    room = _LENGTH_BYTES + len(json.dumps(metadata)) + _ENTRY_BYTES * (n_tensors + 1)
    room += -room % _ALIGNMENT
    try:
        with path.open("wb") as file:
            file.seek(room)
            encoded = json.dumps({"__metadata__": metadata, **_write_tensors(file, tensors)}).encode()
            file.seek(0)
            file.write((room - _LENGTH_BYTES).to_bytes(_LENGTH_BYTES, "little") + encoded.ljust(room - _LENGTH_BYTES))
            if file.tell() > room:
                raise ValueError(f"a header of {len(encoded)} bytes, of {n_tensors} tensors")
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _write_tensors(file: BinaryIO, tensors: Iterable[Named]) -> dict[str, Any]:
    """Their entries of the header."""
    entries: dict[str, Any] = {}
    end = 0
    for name, tensor in _in_order(tensors):
        start, end = end, end + tensor.nbytes
        for part in tensor.parts if isinstance(tensor, Blocks) else (tensor,):
            file.write(np.ascontiguousarray(part).data)  # not copied: a table of words may be most of a model
        entries[name] = {"dtype": _TYPES[tensor.dtype.name], "shape": list(tensor.shape), "data_offsets": [start, end]}
    return entries


def _in_order(tensors: Iterable[Named]) -> Iterator[Named]:
    """Those whose size is odd wait until all others were given."""
    odd = []
    for name, tensor in tensors:
        if not tensor.nbytes % _ALIGNMENT:
            yield name, tensor
        else:
            odd.append((name, _whole(tensor)))
    yield from odd


def _whole(tensor: NDArray[Any] | Blocks) -> NDArray[Any]:
    return np.concatenate(list(tensor.parts)) if isinstance(tensor, Blocks) else tensor


def open_model(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Map a packed model that the kernels can run: as `read_packed`, and nothing in it can lead them astray.

    Raises:
        ModelCorrupt: damaged in any way, or no model.
        ModelUnavailable: it cannot be opened.
        OutOfMemory: it cannot be mapped.
    """
    tensors, about = read_packed(path)
    try:
        check_model(tensors, about)
    except ValueError as error:
        raise _corrupt(path, error) from error
    return tensors, about


def read_origin(path: Path) -> str:
    """What a packed model was made from: a checkpoint's SHA-256. Errors: see `open_model`."""
    _, about = read_packed(path)
    try:
        return check_origin(about)
    except ValueError as error:
        raise _corrupt(path, error) from error


def read_precision(path: Path) -> Precision:
    """How a packed model keeps its numbers. Errors: see `open_model`."""
    _, about = read_packed(path)
    try:
        return check_precision(about)
    except ValueError as error:
        raise _corrupt(path, error) from error


def is_packed(path: Path) -> bool:
    """Whether a safetensors file says that it is a packed model, damaged or not."""
    try:
        with path.open("rb") as file:
            n_bytes = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            return f'"{_KEY}"'.encode() in file.read(min(n_bytes, _LONGEST_HEADER))
    except OSError:
        return False


def read_packed(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Map a packed file: its tensors, read-only and read from the file as they are used, and what `about` said.

    Raises:
        ModelCorrupt: no such file, truncated, or not a packed one.
        ModelUnavailable: it cannot be opened.
        OutOfMemory: it cannot be mapped.
    """
    try:
        data = _map(path)
        start, header = _read_header(data)
        about = _parse(_metadata(header))
        places = _places(header, len(data) - start, start)
    except (ValueError, RecursionError) as error:
        raise _corrupt(path, error) from error
    return {name: place.view(data[start:]) for name, place in places.items()}, about


def _corrupt(path: Path, reason: Exception) -> ModelCorrupt:
    advice = "Remove it and load the model again: it is made anew from the checkpoint."
    return ModelCorrupt(str(path), expected="a packed model", actual=str(reason) or repr(reason), advice=advice)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor lies in the data."""

    first: int
    last: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def view(self, data: NDArray[np.uint8]) -> NDArray[Any]:
        return data[self.first : self.last].view(self.dtype).reshape(self.shape)


def _map(path: Path) -> NDArray[np.uint8]:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise ValueError("no regular file")  # a pipe would be waited for
        return np.asarray(np.memmap(path, np.uint8, mode="r"))
    except FileNotFoundError as error:
        raise ValueError("no such file") from error
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise OutOfMemory(0, 0, f"the model {path} itself: {error}") from error
        advice = "The file itself may be well: see the reason."
        raise ModelUnavailable(str(path), [Attempt("file", str(error))], advice=advice) from error


def _read_header(data: NDArray[np.uint8]) -> tuple[int, dict[str, Any]]:
    """Where the data begins, and the header."""
    n_bytes = int.from_bytes(data[:_LENGTH_BYTES].tobytes(), "little")
    if not 0 < n_bytes <= min(_LONGEST_HEADER, len(data) - _LENGTH_BYTES):
        raise ValueError(f"a header of {n_bytes} bytes in a file of {len(data)}")
    start = _LENGTH_BYTES + n_bytes
    return start, _parse(data[_LENGTH_BYTES:start].tobytes().decode())


def _parse(text: str) -> dict[str, Any]:
    parsed = json.loads(text, object_pairs_hook=_without_twins, parse_constant=_refuse_constant)
    if not isinstance(parsed, dict):
        raise ValueError(f"a header that is no JSON object but {type(parsed).__name__}")
    return parsed


def _without_twins(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name that stands twice in its header")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} in its header")


def _metadata(header: dict[str, Any]) -> str:
    metadata = header.pop("__metadata__", None)
    about = metadata.get(_KEY) if isinstance(metadata, dict) else None
    if not isinstance(about, str):
        raise ValueError(f"a safetensors file that does not say {_KEY!r} in its metadata")
    return about


def _places(header: Mapping[str, Any], n_bytes: int, start: int) -> dict[str, _Place]:
    """The places of all tensors, which fill the data without gap or overlap."""
    places = {name: _place(name, entry, start) for name, entry in header.items()}
    ordered = sorted((place.first, place.last) for place in places.values())
    if not ordered or ordered[0][0] != 0 or any(before[1] != after[0] for before, after in pairwise(ordered)):
        raise ValueError("tensors with gaps between them, or that overlap")
    if ordered[-1][1] != n_bytes:
        raise ValueError(f"{n_bytes} bytes of tensors, of {ordered[-1][1]}: it was cut off, or written over")
    return places


def _place(name: str, entry: object, start: int) -> _Place:
    fields = entry if isinstance(entry, dict) else {}
    code, shape, offsets = (fields.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(code, str) or code not in _DTYPES:
        raise ValueError(f"{shorten(name)} of the type {shorten(code)}, not {', '.join(_DTYPES)}")
    sizes, (first, last) = _whole_numbers(name, shape, least=1), _whole_numbers(name, offsets, least=0, n=2)
    place = _Place(first, last, _DTYPES[code], sizes)
    if last - first != math.prod(sizes) * place.dtype.itemsize:
        raise ValueError(f"{shorten(name)} of the shape {shorten(shape)} in {last - first} bytes")
    if (start + first) % place.dtype.itemsize:
        raise ValueError(f"{shorten(name)} at an odd address")
    return place


def _whole_numbers(name: str, values: object, *, least: int, n: int | None = None) -> tuple[int, ...]:
    found = values if isinstance(values, list) else []
    if not found or (n or len(found)) != len(found) or not all(type(v) is int and v >= least for v in found):
        raise ValueError(f"{shorten(name)} with {shorten(values)} for a shape or place")
    return tuple(found)
