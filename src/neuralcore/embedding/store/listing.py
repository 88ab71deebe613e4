"""What a commit on the Hub holds: names, sizes and hashes, as a source states them, checked before they are used."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ..files import git_sha1, plain_sha1, sha256
from .transfer import SourceFailure, printable

COMMIT = re.compile(r"[0-9a-f]{40}")
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SEPARATORS = re.compile(r"[/\\]")  # of any system
_DRIVE = re.compile(r"[A-Za-z]:")
_MOST_FILES = 100_000
SMALL_BYTES = 1 << 27
"""Most bytes of a file that only describes a model; the largest tokenizer.json that is known has 35 MB."""

_FOR_OTHERS = ("onnx/*", "openvino/*", "coreml/*", "unigram.json")  # copies of the tokenizer, most of all
_READ = (
    "*config.json", "*tokenizer.json", "*modules.json", "*added_tokens.json", "*special_tokens_map.json",
    "*config_sentence_transformers.json", "*.index.json",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stated:
    """What a source states of one file.

    Args:
        size: in bytes; None if nobody says.
        hash: SHA-256 of the content, or SHA-1 as git computes it; None if nobody says.
        xet_hash: the Hub's own address of it, kept for its client only.
    """

    size: int | None = None
    hash: str | None = None
    xet_hash: str | None = None

    def holds(self, path: Path) -> bool:
        """Whether a file is there and is the one that is meant. One without a hash is never known to be."""
        if self.hash is None or not path.is_file():
            return False
        return self.hash in ([sha256(path)] if len(self.hash) == 64 else [git_sha1(path), plain_sha1(path)])


Listing = Mapping[str, Stated]


def read_tree(entries: Iterable[Any]) -> dict[str, Stated]:
    """What the tree API says.

    Raises:
        SourceFailure: it says what cannot be, or a name that leaves the folder.
    """
    listing: dict[str, Stated] = {}
    for entry in entries:
        if not isinstance(entry, dict):
            raise SourceFailure("the listing holds what is no file")
        if entry.get("type") == "directory":
            continue
        large = entry.get("lfs") or {}
        if not isinstance(large, dict):
            raise SourceFailure("the listing holds what is no file")
        listing[checked_name(entry.get("path"))] = Stated(
            checked_size(large.get("size", entry.get("size"))),
            checked_hash(large.get("oid") or large.get("sha256") or entry.get("oid")),
            entry.get("xetHash"),
        )
    return _bounded(listing)


def read_siblings(entries: Iterable[Any]) -> dict[str, Stated]:
    """What the answer about a revision says, for mirrors without the tree API: names only.

    Raises:
        SourceFailure: as `read_tree`.
    """
    names = [entry.get("rfilename") if isinstance(entry, dict) else None for entry in entries]
    return _bounded({checked_name(name): Stated() for name in names})


def checked_name(name: Any) -> str:
    """A file's name in a repository, which stays inside of the folder it is put into.

    Raises:
        SourceFailure: it would not.
    """
    safe = (
        isinstance(name, str)
        and not _CONTROLS.search(name)  # other marks that do not print are in names of screenshots
        and not _DRIVE.match(name)
        and not any(part in ("", ".", "..") for part in _SEPARATORS.split(name))
    )
    if not safe:
        raise SourceFailure(f"a file is named {printable(repr(name))}, which is no name inside of a folder")
    return str(name)


def checked_hash(value: Any) -> str | None:
    """A hash by which a file can be checked and named: 40 or 64 hex digits.

    Raises:
        SourceFailure: something else.
    """
    if value is None:
        return None
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise SourceFailure(f"a file's hash is given as {printable(repr(value))}, not as 40 or 64 hex digits")
    return value


def checked_commit(value: Any) -> str:
    """A commit: 40 hex digits.

    Raises:
        SourceFailure: something else.
    """
    if not isinstance(value, str) or not COMMIT.fullmatch(value):
        raise SourceFailure(f"a commit is given as {printable(repr(value))}, not as 40 hex digits")
    return value


def checked_size(value: Any) -> int | None:
    """A size in bytes.

    Raises:
        SourceFailure: something else.
    """
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise SourceFailure(f"a file's size is given as {printable(repr(value))}")
    return value


def check_small(name: str, size: int | None) -> None:
    """Refuse a file that only describes a model and is said to be as large as one.

    Raises:
        SourceFailure: it is.
    """
    if name.endswith(".json") and (size or 0) > SMALL_BYTES:
        raise SourceFailure(f"{name} is said to have {size} bytes; at most {SMALL_BYTES} are taken")


def described(listing: Listing) -> list[str]:
    """The names of the files that only describe a model, without data that is in JSON as well, and without what is for
    programs that read other formats.

    One that is read here is among them whatever its size: see `check_small`.
    """
    names = matching(listing, ("*.json", "chat_template.jinja"))  # a template changes what is embedded of a text
    names = [name for name in names if not matching([name], _FOR_OTHERS)]
    read = set(matching(names, _READ))
    return [name for name in names if name in read or (listing[name].size or 0) <= SMALL_BYTES]


def matching(listing: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The names that match one of several patterns; a star matches slashes, too."""
    patterns = list(patterns)
    return [name for name in listing if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _bounded(listing: dict[str, Stated]) -> dict[str, Stated]:
    if len(listing) > _MOST_FILES:
        raise SourceFailure(f"the listing has {len(listing)} files; at most {_MOST_FILES} are taken")
    return listing
