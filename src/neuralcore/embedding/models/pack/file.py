"""Packed models as safetensors files whose tensors can be used where they are mapped.

The format (https://github.com/huggingface/safetensors) allows no gaps, so tensors of a size that is a multiple of 64
bytes come first, and the header is filled up: all of them begin at a multiple of 64. The library's own writer aligns
to 8.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelCorrupt

_ALIGNMENT = 64
_TYPES = {"float32": "F32", "int32": "I32", "int8": "I8"}
_DTYPES = {code: np.dtype(name) for name, code in _TYPES.items()}
_KEY = "neuralcore"
Tensors = Mapping[str, NDArray[Any]]


def write_packed(path: Path, tensors: Tensors, about: Mapping[str, Any]) -> None:
    """Write a packed model.

    Args:
        path: the file.
        tensors: by name; float32, int32 or int8.
        about: what else there is to know, as plain JSON types.
    """
    ordered = dict(sorted(tensors.items(), key=lambda item: (item[1].nbytes % _ALIGNMENT != 0, item[0])))
    header: dict[str, Any] = {"__metadata__": {_KEY: json.dumps(about)}}
    end = 0
    for name, tensor in ordered.items():
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": _TYPES[tensor.dtype.name], "shape": list(tensor.shape), "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-(8 + len(encoded)) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for tensor in ordered.values():
            file.write(np.ascontiguousarray(tensor).tobytes())


def read_packed(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Map a packed model: its tensors, read-only and read from the file as they are used, and what `about` said.

    Raises:
        ModelCorrupt: no such file, truncated, or not a packed model.
    """
    try:
        data = np.memmap(path, np.uint8, mode="r")
        start = 8 + int.from_bytes(data[:8].tobytes(), "little")
        header = json.loads(data[8:start].tobytes())
        about: dict[str, Any] = json.loads(header.pop("__metadata__")[_KEY])
        return {name: _tensor(data, start, entry) for name, entry in header.items()}, about
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelCorrupt(str(path), expected="a packed INT8 model", actual=str(error) or repr(error)) from error


def _tensor(data: NDArray[np.uint8], start: int, entry: Mapping[str, Any]) -> NDArray[Any]:
    first, last = entry["data_offsets"]
    dtype, shape = _DTYPES[entry["dtype"]], entry["shape"]
    if not 0 <= first <= last <= len(data) - start or last - first != math.prod(shape) * dtype.itemsize:
        raise ValueError("it is truncated, or its header is damaged")
    return np.asarray(data)[start + first : start + last].view(dtype).reshape(shape)
