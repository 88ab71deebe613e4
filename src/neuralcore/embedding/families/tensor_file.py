"""Reads a safetensors file (https://github.com/huggingface/safetensors): a header of JSON, then the tensors' bytes.

Everything in the header is checked when the file is opened, so a tensor that is read later is where it should be. Bytes
are read, not mapped: a file that another program cuts meanwhile is an error, not the end of the process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..documents import Document, open_file, parse_json
from ..errors import ModelCorrupt, ModelUnavailable, UnsupportedModel

_KIND = "a safetensors file"
_MOST_HEADER_BYTES = 16 << 20
_MOST_AXES = 32  # NumPy has no more; sizes are multiplied before any is believed
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
    "C64": 64,
}  # fmt: skip
_FLOATS: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
_MAPPED = _FLOATS | {
    kind: np.dtype(name) for kind, name in (("I8", "i1"), ("U8", "u1"), ("I16", "<i2"), ("I32", "<i4"), ("I64", "<i8"))
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor is: bytes `start` to `end` of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class TensorFile:
    """The tensors of one file, by name.

    Args:
        path: the file.

    Raises:
        ModelCorrupt: it is no such file, or not whole.
        ModelUnavailable: this process cannot read it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_file(path, _KIND) as file:
            n_bytes = int.from_bytes(file.read(8), "little")
            if n_bytes > _MOST_HEADER_BYTES:
                raise self._corrupt(f"a header of {n_bytes} bytes")
            header = file.read(n_bytes)
            size = file.seek(0, 2)
        if size < 8 + n_bytes:
            raise self._corrupt(f"only {size} bytes, fewer than its header has")
        values = parse_json(path, header, f"{_KIND} whose header is JSON")
        if not isinstance(values, dict):
            raise self._corrupt("a header that is no JSON object")
        values.pop("__metadata__", None)
        self.places = {name: self._place(Document(path, values), name, 8 + n_bytes) for name in values}
        self._check_places(8 + n_bytes, size)

    def read(self, name: str) -> NDArray[np.float32]:
        """A tensor as float32.

        Raises:
            UnsupportedModel: it does not hold floats of 16, 32 or 64 bits.
            ModelCorrupt: the file was cut since it was opened.
            ModelUnavailable: this process cannot read it.
        """
        place = self.places[name]
        if place.dtype not in _FLOATS:
            reason = f"its tensor {name} holds {place.dtype} numbers; weights have to be {', '.join(_FLOATS)}"
            raise UnsupportedModel(str(self.path), reason)
        try:
            with open_file(self.path, _KIND) as file:
                file.seek(place.start)
                values = np.fromfile(file, _FLOATS[place.dtype], math.prod(place.shape))
        except OSError as error:
            raise ModelUnavailable.not_readable(str(self.path), error) from error
        if len(values) < math.prod(place.shape):
            raise self._corrupt(f"only {len(values)} numbers of {name}")
        return _as_float32(values, place.dtype).reshape(place.shape)

    def map(self, name: str) -> NDArray[Any]:
        """A tensor as it is in the file, read from it as it is used: bf16 as its bits, uint16.

        For what is too large to be copied; another program must not cut the file meanwhile.

        Raises:
            UnsupportedModel: it holds numbers that NumPy does not know.
            ModelUnavailable: it cannot be mapped.
        """
        place = self.places[name]
        if place.dtype not in _MAPPED:
            raise UnsupportedModel(str(self.path), f"its tensor {name} holds {place.dtype} numbers")
        try:
            return np.memmap(self.path, _MAPPED[place.dtype], mode="r", offset=place.start, shape=place.shape)
        except OSError as error:
            raise ModelUnavailable.not_readable(str(self.path), error) from error

    def _place(self, header: Document, name: str, base: int) -> Place:
        entry = header.section(name)
        dtype, shape, offsets = entry.text("dtype", ""), _sizes(entry, "shape"), _sizes(entry, "data_offsets")
        if dtype not in _BITS:
            raise entry.refused("dtype", f"one of {', '.join(_BITS)}")
        if len(offsets) != 2:
            raise entry.refused("data_offsets", "two whole numbers")
        start, end = offsets
        if (end - start) * 8 != math.prod(shape) * _BITS[dtype]:
            raise self._corrupt(f"{end - start} bytes for the {dtype} numbers of {name}, whose shape is {shape}")
        return Place(dtype, shape, base + start, base + end)

    def _check_places(self, base: int, size: int) -> None:
        """One tensor follows the other, without gaps, from the header to the end of the file."""
        end = base
        for place in sorted(self.places.values(), key=lambda place: (place.start, place.end)):
            if place.start != end:
                raise self._corrupt("tensors that do not follow one another")
            end = place.end
        if end != size:
            raise self._corrupt(f"{size} bytes where its header tells of {end}")

    def _corrupt(self, actual: str) -> ModelCorrupt:
        return ModelCorrupt(str(self.path), expected=_KIND, actual=actual, advice="Copy or download it again.")


def _sizes(entry: Document, key: str) -> tuple[int, ...]:
    values = entry.get(key)
    sizes = values if isinstance(values, list) else [None]
    if len(sizes) > _MOST_AXES:
        raise entry.refused(key, f"{_MOST_AXES} whole numbers at most")
    if all(type(size) is int and 0 <= size < 2**63 for size in sizes):
        return tuple(sizes)
    raise entry.refused(key, "a list of whole numbers")


def _as_float32(values: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    if dtype == "BF16":  # the upper half of a float32; in place, as a table of words may take a gigabyte
        bits = values.astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)
    with np.errstate(over="ignore"):  # who reads it looks for infinity
        return values.astype(np.float32, copy=False)
