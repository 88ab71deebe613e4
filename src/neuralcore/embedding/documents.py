"""Reads files that somebody else wrote: says what is wrong with them by their own path, and never leaves their folder.

A file that is there is whole or `ModelCorrupt`; one that this process may not read, or cannot open now, is not damaged.
"""

from __future__ import annotations

import codecs
import errno
import json
import math
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any, BinaryIO, TypeVar

from .errors import ModelCorrupt, ModelUnavailable

MOST_BYTES = 8 << 20
"""The longest document that is read unless said otherwise: Python makes objects of 20 times its size of it at worst."""

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # of a character beyond U+FFFF, escaped; one alone is no text
_AGAIN = "Copy or download it again."
_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}
T = TypeVar("T")


class Document(Mapping[str, Any]):
    """A JSON object. Every getter takes null for absent, as Python's readers of such files do.

    Args:
        path: the file it is in.
        values: its keys and values.
        where: of an object in another: what leads to it, such as "rope_parameters.".
    """

    def __init__(self, path: Path, values: Mapping[str, Any] | None = None, where: str = "") -> None:
        self.path, self._values, self._where = path, dict(values or {}), where

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def integer(self, key: str, default: T, *, least: int = 0, most: int = 2**31 - 1) -> int | T:
        """A whole number; neither true nor false is one.

        Raises:
            ModelCorrupt: it is something else, or out of range.
        """
        value = self._values.get(key)
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        raise self.refused(key, f"a whole number from {least} to {most}")

    def number(self, key: str, default: T, *, least: float = -math.inf) -> float | T:
        """A finite number.

        Raises:
            ModelCorrupt: it is something else, or less than `least`.
        """
        value = self._values.get(key)
        if value is None:
            return default
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300 and value >= least:
            return float(value)
        raise self.refused(key, "a finite number" + (f" of at least {least:g}" if math.isfinite(least) else ""))

    def text(self, key: str, default: T) -> str | T:
        """A text that can be written as UTF-8.

        Raises:
            ModelCorrupt: it is something else.
        """
        value = self._values.get(key)
        if value is None:
            return default
        if isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value):
            return value
        raise self.refused(key, "a text")

    def flag(self, key: str, default: T) -> bool | T:
        """True or false.

        Raises:
            ModelCorrupt: it is something else.
        """
        value = self._values.get(key)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        raise self.refused(key, "true or false")

    def section(self, key: str) -> Document:
        """An object in this one; empty if it is absent.

        Raises:
            ModelCorrupt: it is something else.
        """
        value = self._values.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.refused(key, "an object")
        return Document(self.path, value, f"{self._where}{key}.")

    def sections(self, key: str) -> list[Document]:
        """The objects of a list in this one; none if it is absent.

        Raises:
            ModelCorrupt: it is something else.
        """
        value = self._values.get(key)
        if value is not None and not isinstance(value, list):
            raise self.refused(key, "a list of objects")
        return _documents(self.path, value or [], f"{self._where}{key}")

    def inside(self, key: str, default: str = "") -> str:
        """The name of a file or folder in this document's folder; "" is the folder itself.

        Raises:
            ModelCorrupt: it is something else, or leads out of the folder.
        """
        name = self.text(key, default)
        if leaves_folder(name):
            raise self.refused(key, "a name inside of the model's folder")
        return name

    def refused(self, key: str, expected: str) -> ModelCorrupt:
        """The error that says that a value is not what it has to be.

        Args:
            key: of the value.
            expected: what it should be, such as "a whole number".
        """
        actual = _describe(self._values.get(key))
        return ModelCorrupt(str(self.path), expected=f"{expected} for {self._where}{key}", actual=actual)


def read_object(path: Path, *, required: bool = False, most_bytes: int = MOST_BYTES) -> Document:
    """Read a JSON object; an empty one if there is no such file.

    Args:
        path: the file.
        required: refuse instead, if there is no such file.
        most_bytes: the longest file that is read.

    Raises:
        ModelCorrupt: it is no such object, or no file of this kind.
        ModelUnavailable: this process cannot read it.
    """
    if not required and not is_there(path):
        return Document(path)
    values = _parse(path, most_bytes)
    if not isinstance(values, dict):
        raise ModelCorrupt(str(path), expected="a JSON object", actual=_describe(values), advice=_AGAIN)
    return Document(path, values)


def read_objects(path: Path, *, most_bytes: int = MOST_BYTES) -> list[Document]:
    """Read a JSON list of objects; none if there is no such file. Otherwise as `read_object`."""
    if not is_there(path):
        return []
    values = _parse(path, most_bytes)
    if not isinstance(values, list):
        raise ModelCorrupt(str(path), expected="a JSON list", actual=_describe(values), advice=_AGAIN)
    return _documents(path, values, "")


def parse_json(path: Path, data: bytes, expected: str) -> Any:
    """What a piece of JSON in a file says. Of a key that is there twice, the last one counts, as for Python's readers.

    Args:
        path: the file.
        data: the piece.
        expected: what the file should be.

    Raises:
        ModelCorrupt: it is not JSON.
    """
    if data.startswith(_ORDER_MARKS):
        advice = "Save it again without one."
        raise ModelCorrupt(str(path), expected=f"{expected} in UTF-8", actual="a byte-order mark", advice=advice)
    try:
        values = json.loads(data.decode("utf-8"))
        if _HALF.search(data):  # rarely: then look whether the other half is there
            json.dumps(values, ensure_ascii=False).encode()
        return values
    except (ValueError, RecursionError) as error:
        actual = "too many brackets in brackets" if isinstance(error, RecursionError) else str(error)
        raise ModelCorrupt(str(path), expected=expected, actual=actual, advice=_AGAIN) from error


def open_file(path: Path, expected: str) -> BinaryIO:
    """Open a file to be read from its beginning.

    Args:
        path: the file; it may be a link.
        expected: what it should be, such as "a safetensors file".

    Raises:
        ModelCorrupt: there is no such file, or it is a folder, a device, empty, or what git puts in the place of a file
            that it has not fetched.
        ModelUnavailable: this process cannot read it.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would wait for somebody to write
            kind = "a folder" if path.is_dir() else "neither file nor folder"
            raise ModelCorrupt(str(path), expected=expected, actual=kind, advice=_AGAIN)
        file = path.open("rb")
    except (OSError, ValueError) as error:
        raise _unopened(path, expected, error) from error
    try:
        start = file.read(len(_LFS_POINTER))
        file.seek(0)
    except OSError as error:
        file.close()
        raise _unopened(path, expected, error) from error
    if not start or start == _LFS_POINTER:
        file.close()
        actual = "a pointer of git-LFS" if start else "an empty file"
        advice = "Fetch what it stands for: run `git lfs pull` in its folder." if start else _AGAIN
        raise ModelCorrupt(str(path), expected=expected, actual=actual, advice=advice)
    return file


def is_there(path: Path) -> bool:
    """Whether something of this name is there, be it a link to nothing or a folder: to read it says what is wrong."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True
    return True


def leaves_folder(name: str) -> bool:
    """Whether a name from a file, taken for a path beside that file, would lead elsewhere, on any system.

    A link that lies in the folder may point out of it, as all files of the Hub's cache do: whoever could put it there
    could have put the file there. A name that leads out is another matter: it comes with the file.
    """
    path = PureWindowsPath(name)  # splits at both kinds of slashes, and knows drives
    return bool(path.drive or path.root) or ".." in path.parts or "\0" in name


def _parse(path: Path, most_bytes: int) -> Any:
    with open_file(path, "JSON") as file:
        try:
            data = file.read(most_bytes + 1)
        except OSError as error:
            raise _unopened(path, "JSON", error) from error
    if len(data) > most_bytes:
        raise ModelCorrupt(str(path), expected=f"JSON of at most {most_bytes} bytes", actual="a longer file")
    return parse_json(path, data, "JSON")


def _documents(path: Path, values: list[Any], where: str) -> list[Document]:
    for number, value in enumerate(values):
        if not isinstance(value, dict):
            expected = f"an object for {where}[{number}]"
            raise ModelCorrupt(str(path), expected=expected, actual=_describe(value))
    return [Document(path, value, f"{where}[{number}].") for number, value in enumerate(values)]


def _unopened(path: Path, expected: str, error: OSError | ValueError) -> ModelCorrupt | ModelUnavailable:
    if isinstance(error, OSError) and error.errno not in _NO_FILE:
        return ModelUnavailable.not_readable(str(path), error)
    actual = "no such file"
    if link := _link_of(path):
        actual = f"a link to {link}, which leads to no file"
    elif not isinstance(error, FileNotFoundError):
        actual = str(error)
    return ModelCorrupt(str(path), expected=expected, actual=actual, advice=_AGAIN)


def _link_of(path: Path) -> Path | None:
    try:
        return path.readlink()
    except (OSError, ValueError):  # no link; or a name that no system takes
        return None


def _describe(value: object) -> str:
    kinds = {dict: "an object", list: "a list", bool: str(value).lower(), type(None): "null"}
    if type(value) in kinds:
        return kinds[type(value)]
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:80]}..."
