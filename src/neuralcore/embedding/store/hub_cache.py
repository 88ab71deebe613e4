"""The Hub client's cache, shared with every program that uses it: blobs named by their hashes, and links to them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..files import write_whole
from .listing import COMMIT, Stated, checked_hash, checked_name, checked_size
from .transfer import SourceFailure

_LISTING_FORMAT = 1


@dataclass(frozen=True, slots=True)
class CachedRepository:
    """One model repository in the cache.

    Args:
        cache: the folder of all repositories.
        name: the Hub id.
    """

    cache: Path
    name: str

    @property
    def folder(self) -> Path:
        """Everything of this repository."""
        return self.cache / self._folder_name

    @property
    def _folder_name(self) -> str:
        return "--".join(("models", *self.name.split("/")))

    def blob(self, digest: str) -> Path:
        """Where the content with this hash is kept."""
        return self.folder / "blobs" / digest

    def lock(self, digest: str) -> Path:
        """The lock that every program holds while it fetches a blob."""
        return self.cache / ".locks" / self._folder_name / f"{digest}.lock"

    def snapshot(self, commit: str) -> Path:
        """The files of a commit by their names, as far as they are here."""
        return self.folder / "snapshots" / commit

    def commit(self, revision: str) -> str | None:
        """The commit that a branch or tag was at when it was last asked for."""
        if COMMIT.fullmatch(revision):
            return revision
        try:
            commit = (self.folder / "refs" / revision).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return None
        return commit if COMMIT.fullmatch(commit) else None

    def note_commit(self, revision: str, commit: str) -> None:
        """Note where a branch or tag is now. A cache that cannot be written keeps what it says."""
        if self.commit(revision) != commit:
            with suppress(OSError):
                write_whole(self.folder / "refs" / revision, commit)

    def listing(self, commit: str) -> Mapping[str, Stated] | None:
        """What the commit holds in all, if it was noted."""
        try:
            values = json.loads((self.folder / "trees" / f"{commit}.json").read_bytes())
            if values["format_version"] != _LISTING_FORMAT:
                return None
            return {
                checked_name(name): Stated(
                    checked_size(entry.get("lfs_size", entry["size"])),
                    checked_hash(entry.get("lfs_sha256") or entry["blob_id"]),
                    entry.get("xet_hash"),
                )
                for name, entry in values["files"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SourceFailure):
            return None

    def note_listing(self, commit: str, listing: Mapping[str, Stated]) -> None:
        """Note what the commit holds, in the form that the Hub's client keeps it in, too."""
        files = {name: _entry(stated) for name, stated in listing.items() if stated.hash and stated.size is not None}
        if len(files) == len(listing):
            text = json.dumps({"format_version": _LISTING_FORMAT, "files": files}, indent=1)
            write_whole(self.folder / "trees" / f"{commit}.json", text)

    def present(self, commit: str) -> dict[str, Stated]:
        """The files of a commit that are here, each with the hash that its blob is named by."""
        folder = self.snapshot(commit)
        paths = [path for path in folder.rglob("*") if not path.is_dir()]
        return {path.relative_to(folder).as_posix(): Stated(hash=_hash_of_link(path)) for path in paths}

    def link(self, commit: str, name: str, digest: str) -> None:
        """Put a blob's content under its name, replacing what is there."""
        blob, path = self.blob(digest), self.snapshot(commit) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        fresh.unlink(missing_ok=True)
        try:
            _link(blob, fresh)
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)


def _link(blob: Path, path: Path) -> None:
    with suppress(OSError, NotImplementedError):
        path.symlink_to(os.path.relpath(blob, path.parent))
        return
    with suppress(OSError, NotImplementedError):
        path.hardlink_to(blob)
        return
    shutil.copyfile(blob, path)


def _hash_of_link(path: Path) -> str | None:
    with suppress(SourceFailure):
        return checked_hash(path.resolve().name) if path.is_symlink() else None
    return None


def _entry(stated: Stated) -> dict[str, object]:
    entry: dict[str, object] = {"size": stated.size, "blob_id": stated.hash}
    if stated.hash and len(stated.hash) == 64:
        entry |= {"lfs_sha256": stated.hash, "lfs_size": stated.size}
    return entry | ({"xet_hash": stated.xet_hash} if stated.xet_hash else {})
