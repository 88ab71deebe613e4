"""The Hugging Face Hub, or a mirror that speaks its protocol. Only data files are fetched; no code, no pickles.

Of the Hub's client only the session is used: its proxies, certificates, tokens and headers. What to fetch, under which
name and how much of it is decided here, from the listing, before a byte of a file is asked for: the client takes a
file's ETag for a file name as it comes, waits without end, and writes without bound.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import InputError, ModelCorrupt
from ..files import NOT_WRITABLE, check_sha256, locked, sync
from ..progress import Transfer, transfer_bar
from ..settings import expanded
from .hub_cache import CachedRepository
from .listing import (
    COMMIT,
    SMALL_BYTES,
    Listing,
    Stated,
    check_small,
    described,
)  # fmt: skip
from .needed import files_of_graph, needed_weights, refuse_pickled
from .registry import ModelSpec
from .remote import Source
from .transfer import (
    WINDOW_S,
    Answer,
    Head,
    Interrupted,
    SourceFailure,
    Stream,
    host,
    persistently,
    without_secrets,
)

_CONNECT_TIMEOUT_S = 5
_log = logging.getLogger(__name__)


def fetch_snapshot(
    spec: ModelSpec, *, endpoint: str, cache_dir: Path | None, token: str | None, local_only: bool
) -> Path:
    """The folder of a model in the Hub's cache, fetched as far as needed, every file checked.

    The cache is shared with other programs, and laid out as the Hub's client does.

    Args:
        spec: which model.
        endpoint: address of the Hub or of a mirror.
        cache_dir: the Hub client's cache; None for its default.
        token: access token.
        local_only: make no network call.

    Raises:
        ModelCorrupt: a file is not what its hash says, even after fetching it again.
        SourceFailure: the source did not have it, or gave what is not taken.
        UnsupportedModel: its weights are pickled.
        InputError: `endpoint` is no address.
        Exception: whatever the session raises.
    """
    cached = CachedRepository(cache_dir or _default_cache(), spec.repository)
    if local_only:
        return _from_cache(cached, spec)
    source = Source(check_endpoint(endpoint), spec.repository, _headers(token), _open)
    with transfer_bar(f"{spec.name} from {host(endpoint)}") as bar:
        commit = spec.revision if COMMIT.fullmatch(spec.revision) else source.commit(spec.revision)
        listing = source.listing(commit)
        _check_pins(spec, listing, endpoint)
        fetch = _Fetch(source, cached, commit, listing, spec, bar)
        folder = cached.snapshot(commit)
        _collect(folder, listing, fetch.all, lambda: refuse_pickled(spec.name, folder, listing))
    check_sha256(folder, spec.sha256)
    cached.note_commit(spec.revision, commit)
    return folder


def check_endpoint(endpoint: str) -> str:
    """The address of the Hub or of a mirror, without a slash at its end.

    Raises:
        InputError: it is no address.
    """
    address = urlsplit(endpoint)
    if address.scheme not in ("http", "https") or not address.hostname:
        shown = without_secrets(endpoint)
        raise InputError(f"a mirror (endpoint= or HF_ENDPOINT) must begin with http:// or https://, not {shown!r}")
    return endpoint.rstrip("/")


def _from_cache(cached: CachedRepository, spec: ModelSpec) -> Path:
    commit = cached.commit(spec.revision)
    if commit is None or not cached.snapshot(commit).is_dir():
        raise FileNotFoundError("it is not there")
    listing = cached.listing(commit)
    if listing is None:
        listing = cached.present(commit)
        if not spec.replaces_files and "modules.json" not in listing:
            # Programs that need no more leave it away, and without it a model is pooled by mean.
            raise FileNotFoundError("it may be there in part only: there is neither modules.json nor a listing")
    folder = cached.snapshot(commit)
    _collect(folder, listing, lambda names: _check_present(folder, listing, names))
    if not needed_weights(folder, listing):
        raise FileNotFoundError("it is there in part only: without weights")
    check_sha256(folder, spec.sha256)
    return folder


def _check_present(folder: Path, listing: Listing, names: list[str]) -> None:
    for name in names:
        path, stated = folder / name, listing[name]
        if not os.path.lexists(path):
            raise FileNotFoundError(f"it is there in part only: without {name}")
        if stated.hash and not stated.holds(path):
            raise ModelCorrupt(str(path), expected=stated.hash, actual="another content")


def _collect(
    folder: Path,
    listing: Listing,
    ensure: Callable[[list[str]], None],
    check: Callable[[], None] = lambda: None,
) -> Path:
    """What is needed of a model: its descriptions, and then what they say, if what they say is not refused."""
    ensure(described(listing))
    check()
    ensure(needed_weights(folder, listing))
    ensure([name for name in files_of_graph(folder) if name in listing])
    return folder


def _check_pins(spec: ModelSpec, listing: Listing, endpoint: str) -> None:
    for name, pinned in spec.sha256.items():
        stated = listing[name].hash if name in listing else None
        if stated and len(stated) == 64 and stated != pinned:
            raise ModelCorrupt(f"{name} of {host(endpoint)}", expected=f"SHA-256 {pinned}", actual=stated)


@dataclass(frozen=True, slots=True)
class _Fetch:
    """The files of one commit, on their way from a source into the cache."""

    source: Source
    cached: CachedRepository
    commit: str
    listing: Listing
    spec: ModelSpec
    bar: Transfer

    def all(self, names: list[str]) -> None:
        """Have these files in the cache, each one checked."""
        stated = {name: self._stated(name) for name in names}
        missing = {name: file for name, file in stated.items() if not file.holds(self._path(name))}
        self._check_space(missing)
        self.cached.note_listing(self.commit, self.listing)
        for name, file in missing.items():
            self._fetch(name, file)
            self.cached.link(self.commit, name, str(file.hash))

    def _path(self, name: str) -> Path:
        return self.cached.snapshot(self.commit) / name

    def _stated(self, name: str) -> Stated:
        """What the listing states of a file, or a pin of ours, or else the file's own headers."""
        stated = self.listing[name]
        if stated.hash is None and name in self.spec.sha256:
            stated = Stated(stated.size, self.spec.sha256[name])
        if stated.hash is None or stated.size is None:
            with self.source.file(self.commit, name, method="HEAD") as (_, told):
                pass
            stated = Stated(told.size if stated.size is None else stated.size, stated.hash or told.hash)
        if stated.hash is None:
            raise SourceFailure(f"{self.source.host} states no hash of {name}: it is not taken unchecked")
        check_small(name, stated.size)
        return stated

    def _check_space(self, missing: Mapping[str, Stated]) -> None:
        needed = sum(file.size or 0 for file in missing.values())
        self.cached.cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.cached.cache).free
        if needed > free:
            raise OSError(ENOSPC, f"{needed} bytes are needed, {free} are free", str(self.cached.cache))
        self.bar.expect(needed)

    def _fetch(self, name: str, stated: Stated) -> None:
        digest = str(stated.hash)
        blob = self.cached.blob(digest)
        blob.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.cached.lock(digest), f"it fetches {name}"):
            if stated.holds(blob):
                return
            _log.info("fetching %s (%s bytes) of %s from %s", name, stated.size, self.spec.name, self.source.host)
            self.bar.say(f"{name} of {self.spec.name} from {self.source.host}")
            partial = blob.with_name(f"{digest}.incomplete")
            if not (self._received(name, stated, partial) or self._received(name, stated, partial)):
                path = self._path(name)
                raise ModelCorrupt(str(path), expected=digest, actual=f"another content from {self.source.host}")
            partial.replace(blob)
            sync(blob.parent)

    def _received(self, name: str, stated: Stated, partial: Path) -> bool:
        """Fetch a file, going on where an earlier run was stopped. False, and nothing is left, if it is another."""
        try:
            persistently(lambda: self._receive(name, stated, partial), progress=lambda: _size(partial))
        except OSError as error:
            if error.errno in NOT_WRITABLE:
                partial.unlink(missing_ok=True)  # a full disk is not kept full
            raise
        if stated.holds(partial):
            return True
        partial.unlink(missing_ok=True)
        return False

    def _receive(self, name: str, stated: Stated, partial: Path) -> None:
        start = _size(partial)
        if start and stated.size is not None and start >= stated.size:
            return  # all of it is here, or more than there is: its hash tells
        with self.source.file(self.commit, name, start=start) as (answer, _):
            limit = SMALL_BYTES if stated.size is None else stated.size
            if answer.n_bytes is not None and answer.start + answer.n_bytes != (stated.size or answer.n_bytes):
                raise SourceFailure(
                    f"{self.source.host} sends {answer.n_bytes} bytes of {name}, which has {stated.size}"
                )
            self._write(answer, partial, limit, name)
        if stated.size is not None and _size(partial) < stated.size:
            raise Interrupted(f"{self.source.host} sent {_size(partial)} of the {stated.size} bytes of {name}")

    def _write(self, answer: Answer, partial: Path, limit: int, name: str) -> None:
        with partial.open("r+b" if answer.start else "wb") as file:
            file.truncate(answer.start)
            n_bytes = file.seek(answer.start)
            for chunk in answer.body:
                n_bytes += len(chunk)
                if n_bytes > limit:
                    raise SourceFailure(f"{self.source.host} sends more than the {limit} bytes of {name}")
                file.write(chunk)
                self.bar.advance(len(chunk))
            file.flush()
            os.fsync(file.fileno())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _default_cache() -> Path:
    from huggingface_hub import constants

    return expanded(constants.HF_HUB_CACHE)


def _headers(token: str | None) -> Mapping[str, str]:
    headers: Mapping[str, str] = _client().build_hf_headers(token=token, library_name="neuralcore-embedding")
    return headers


def _client() -> Any:
    from huggingface_hub import utils

    return utils


def _open(method: str, url: str, headers: Mapping[str, str]) -> Stream:
    """Ask with the session of the Hub's client, which came from requests, then httpx, then httpx2."""
    session = _client().get_session()
    options: dict[str, Any] = {"headers": headers, "timeout": (_CONNECT_TIMEOUT_S, WINDOW_S)}
    if callable(session.stream):  # of requests, it is a flag
        options["timeout"] = (_CONNECT_TIMEOUT_S, WINDOW_S, WINDOW_S, _CONNECT_TIMEOUT_S)
        with session.stream(method, url, follow_redirects=False, **options) as response:
            yield _head(response)
            yield from response.iter_raw()
    else:
        with session.request(method, url, allow_redirects=False, stream=True, **options) as response:
            yield _head(response)
            yield from response.raw.stream(1 << 14, decode_content=False)


def _head(response: Any) -> Head:
    return Head(response.status_code, {name.lower(): value for name, value in response.headers.items()})
