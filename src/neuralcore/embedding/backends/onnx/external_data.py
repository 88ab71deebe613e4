"""Which files an ONNX model keeps its weights in, read from its bytes before any library opens one of them.

onnx could say so, too, but is not loaded where a model is only run; and what an ONNX Runtime does with a name that
leads elsewhere depends on its version. No more of the format (https://protobuf.dev/programming-guides/encoding and
onnx.proto) is read than leads to the names; tensors are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ...documents import leaves_folder, open_file
from ...errors import ModelCorrupt

_KIND = "an ONNX model"
_ENTRY = "StringStringEntryProto"
# By message: fields that hold messages, and of which kind those are, as far as a tensor can be in them.
MESSAGES = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto", 6: "GraphProto", 10: "TensorProto", 11: "GraphProto", 22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: _ENTRY},
}  # fmt: skip
_MOST_FIELDS = 5_000_000  # a graph of 10,000 nodes has some 200,000
_LONGEST_NAME = 4096
_WINDOW = 1 << 16


def external_files(path: Path) -> list[Path]:
    """The files besides its own that hold an ONNX model's weights, sorted; each of them can be opened.

    Raises:
        ModelCorrupt: it is no ONNX model, or names a file that would lie elsewhere than beside it, or is not there.
        ModelUnavailable: this process cannot read one of them.
    """
    files = [path.parent / name for name in external_names(path)]
    for file in files:
        open_file(file, "weights of the graph").close()
    return files


def external_names(path: Path) -> list[str]:
    """As `external_files`, but only the names, relative to the model's folder; the files need not be there."""
    with open_file(path, _KIND) as file:
        try:
            names = sorted(set(_Scan(file).names()))
        except (ValueError, IndexError) as error:
            raise ModelCorrupt(str(path), expected=_KIND, actual=str(error) or "a file that was cut") from error
    for name in names:
        # ONNX Runtime takes */_ORT_MEM_ADDR_/* for the process's own memory.
        if leaves_folder(name) or "*" in name or name in ("", "."):
            raise ModelCorrupt(str(path), expected="weights in files beside it", actual=repr(name))
    return names


class _Scan:
    """One walk through a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        self._window, self._start = b"", 0
        self._left = _MOST_FIELDS

    def names(self) -> Iterator[str]:
        """Every value of an entry of external_data that has a key `location`."""
        waiting = [("ModelProto", 0, self._size)]
        while waiting:
            kind, start, end = waiting.pop()
            if kind == _ENTRY:
                yield from self._locations(start, end)
                continue
            inner = MESSAGES[kind]
            waiting += [(inner[field], first, last) for field, first, last in self._parts(start, end) if field in inner]

    def _locations(self, start: int, end: int) -> list[str]:
        """Which of several values or keys counts is the parser's to know, so all of them do."""
        found = [(field, self._read(first, last)) for field, first, last in self._parts(start, end)]
        is_location = any(field == 1 and data == b"location" for field, data in found)
        return [data.decode("utf-8") for field, data in found if field == 2 and is_location]

    def _parts(self, position: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Number, begin and end of each part of a message that is bytes, a text or a message."""
        while position < end:
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"more than {_MOST_FIELDS} parts")
            tag, position = self._varint(position)
            match tag & 7:
                case 0:
                    _, position = self._varint(position)
                case 1:
                    position += 8
                case 5:
                    position += 4
                case 2:
                    length, position = self._varint(position)
                    if position + length > end:
                        raise ValueError("a part that is longer than what it is in")
                    yield tag >> 3, position, position + length
                    position += length
                case _:
                    raise ValueError("something else")
        if position != end:
            raise ValueError("a part that is longer than what it is in")

    def _varint(self, position: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte(position)
            position += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, position
        raise ValueError("a number that does not end")

    def _byte(self, position: int) -> int:
        if not 0 <= position - self._start < len(self._window):
            self._file.seek(position)
            self._window, self._start = self._file.read(_WINDOW), position
        return self._window[position - self._start]

    def _read(self, start: int, end: int) -> bytes:
        if end - start > _LONGEST_NAME:
            raise ValueError(f"a name of {end - start} bytes")
        self._file.seek(start)
        return self._file.read(end - start)
