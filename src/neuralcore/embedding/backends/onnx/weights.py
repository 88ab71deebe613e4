"""Tensors of an ONNX model that lie in a file beside it: found and checked, read one at a time, and written.

A model need never be whole in memory: what is not looked at is copied from file to file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from ...documents import open_file
from ...errors import ModelCorrupt

_PAGE, _LINE = 4096, 64  # weights are mapped into memory, and maps begin at pages; small ones would waste most of one
_FEW_BYTES = 1 << 14
_INLINE_BYTES = 1024  # smaller tensors stay in the .onnx file
_BLOCK_BYTES = 1 << 22


def read_array(tensor: TensorProto, path: Path) -> NDArray[Any]:
    """The values of a tensor, wherever they lie. Links are followed, unlike by onnx: the Hub's cache consists of them.

    Args:
        tensor: of a model's graph.
        path: the model's file.

    Raises:
        ModelCorrupt: a file is missing or too short, or the tensor has more or fewer bytes than its shape needs.
    """
    if tensor.data_location != TensorProto.EXTERNAL:
        return np.asarray(numpy_helper.to_array(tensor))
    data = bytearray()  # one copy: a word table may be most of what memory there is
    for block in read_blocks(tensor, path):
        data += block
    if _bits(tensor) % 8:
        whole = TensorProto(dims=tensor.dims, data_type=tensor.data_type, raw_data=bytes(data))
        return np.asarray(numpy_helper.to_array(whole))
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.frombuffer(data, kind).reshape(tensor.dims)


def check_place(tensor: TensorProto, path: Path) -> None:
    """See that a tensor is where its model says. As `read_array`, without reading."""
    _find(tensor, path)


def read_blocks(tensor: TensorProto, path: Path) -> Iterator[bytes]:
    """The bytes of a tensor that lies in a file beside its model, some at a time. As `read_array`."""
    file_path, offset, length = _find(tensor, path)
    with open_file(file_path, "weights of the graph") as file:
        file.seek(offset)
        for start in range(0, length, _BLOCK_BYTES):
            wanted = min(_BLOCK_BYTES, length - start)
            block = file.read(wanted)
            if len(block) < wanted:
                raise _cut(tensor, file_path, offset, length)
            yield block


def _find(tensor: TensorProto, path: Path) -> tuple[Path, int, int]:
    """File, offset and length."""
    about = {entry.key: entry.value for entry in tensor.external_data}
    file_path = path.parent / about.get("location", "")
    needed = prod(tensor.dims) * _bits(tensor) // 8
    try:
        offset, length = (int(about.get(key) or default) for key, default in (("offset", 0), ("length", needed)))
    except ValueError as error:
        raise ModelCorrupt(str(path), expected=f"a place of {tensor.name}", actual=str(error)) from error
    if length != needed or offset < 0:
        expected = f"{needed} bytes for {tensor.name}"
        raise ModelCorrupt(str(path), expected=expected, actual=f"{length} from {offset} on")
    with open_file(file_path, "weights of the graph") as file:
        if offset + length > file.seek(0, 2):
            raise _cut(tensor, file_path, offset, length)
    return file_path, offset, length


def _cut(tensor: TensorProto, file_path: Path, offset: int, length: int) -> ModelCorrupt:
    expected = f"{length} bytes of {tensor.name} from {offset} on"
    return ModelCorrupt(str(file_path), expected=expected, actual="the end of the file")


def _bits(tensor: TensorProto) -> int:
    try:
        numbers = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, ValueError):
        return 0
    narrow = {TensorProto.INT4, TensorProto.UINT4}
    return 4 if tensor.data_type in narrow else int(numbers.itemsize) * 8


class WeightsFile:
    """The file beside a model that is being written: `<path>.data`. It appears when it is closed, if anything lies in
    it, so that it can take the place of one that is still read.

    Args:
        path: the .onnx file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + ".data")
        self._partial_path = path.with_name(path.name + ".data.partial")
        self._file = self._partial_path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()
            self._partial_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let the file appear. Safe to call twice."""
        if self._file.closed:
            return
        is_empty = not self._file.tell()
        self._file.close()
        if is_empty:
            self._partial_path.unlink()
            self._path.unlink(missing_ok=True)
        else:
            self._partial_path.replace(self._path)

    def add(self, name: str, values: NDArray[Any]) -> TensorProto:
        """A tensor that says where its values were put: here, or into itself where they are few."""
        if values.nbytes < _INLINE_BYTES:
            return numpy_helper.from_array(values, name)
        kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
        proto = TensorProto(name=name, dims=values.shape, data_type=kind)
        return self._put(proto, [np.ascontiguousarray(values).data], values.nbytes)

    def take(self, tensor: TensorProto, path: Path) -> TensorProto:
        """The same for a tensor of another model, whose file is `path`."""
        proto = TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
        if tensor.data_location == TensorProto.EXTERNAL:
            return self._put(proto, read_blocks(tensor, path), _find(tensor, path)[2])
        if len(tensor.raw_data) >= _INLINE_BYTES:
            return self._put(proto, [tensor.raw_data], len(tensor.raw_data))
        return tensor

    def _put(self, proto: TensorProto, blocks: Iterable[bytes | memoryview], n_bytes: int) -> TensorProto:
        alignment = _PAGE if n_bytes >= _FEW_BYTES else _LINE
        self._file.write(b"\0" * (-self._file.tell() % alignment))
        where = {"location": self._path.name, "offset": self._file.tell(), "length": n_bytes}
        for block in blocks:
            self._file.write(block)
        proto.data_location = TensorProto.EXTERNAL
        entries = [onnx.StringStringEntryProto(key=key, value=str(value)) for key, value in where.items()]
        proto.external_data.extend(entries)
        return proto
