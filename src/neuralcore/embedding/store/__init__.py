"""The store: from a model's name to files on this machine that are ready to load.

<cache>/models/<repository>/<revision>/source/      configuration, tokenizer, hashes: the same whatever runs it
<cache>/models/<repository>/<revision>/<variant>/   what is run, made when first asked for: fp32-native, fp32, ...
<cache>/sources/<name>/                             what came from the package index
<cache>/hub/                                        the Hub client's cache, when the folder was named by the caller;
                                                    otherwise it is the user's own, shared with other programs
<cache>/locks/                                      one lock a model, between processes

A local folder's ONNX file is run where it lies: of that, nothing is kept but variants.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .. import settings
from ..errors import InputError, ModelCorrupt, ModelUnavailable
from ..files import locked, remove_siblings, sha256, staged_folder, staging_beside, state_of, sync_all
from .manifest import FOLDER_VERSION, FileRecord, Manifest
from .registry import SOURCES, ModelSpec, as_name, find_spec

if TYPE_CHECKING:
    from .folder import ModelFolder

__all__ = [
    "SOURCES",
    "FileRecord",
    "Fill",
    "Manifest",
    "Store",
    "make_store",
    "sha256",
    "staging_beside",
    "sync_all",
]

_SOURCE = "source"
_NAME_BYTES = 200
Fill = Callable[[Path], Manifest]
T = TypeVar("T")
_log = logging.getLogger(__name__)


def make_store(
    cache_dir: str | PathLike[str] | None = None,
    *,
    endpoint: str | None = None,
    offline: bool | None = None,
    sources: Sequence[str] | None = None,
    token: str | None = None,
) -> Store:
    """A store as the arguments say, and the environment where they are None (see `settings`).

    Raises:
        InputError: no such source.
    """
    unknown = set(sources or ()) - set(SOURCES)
    if unknown:
        raise InputError(f"sources must be of {', '.join(SOURCES)}, not {', '.join(sorted(unknown))}")
    own = settings.expanded(cache_dir) if cache_dir else settings.cache_override()
    return Store(
        cache_dir=own.absolute() if own else None,
        endpoint=endpoint or settings.endpoint(),
        offline=settings.offline() if offline is None else offline,
        sources=tuple(SOURCES if sources is None else sources),
        token=token,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where models are kept and where they may be had.

    Args:
        cache_dir: the folder named by the caller; None for the user's cache folder.
        endpoint: address of a mirror of the Hub.
        offline: make no network call.
        sources: which sources to ask, in order.
        token: access token for the Hub.
    """

    cache_dir: Path | None = None
    endpoint: str | None = None
    offline: bool = False
    sources: Sequence[str] = SOURCES
    token: str | None = None

    @property
    def cache(self) -> Path:
        """Folder of this package's files. A model that is used where it lies needs none.

        Raises:
            InputError: none was named, and the user has no home.
        """
        return self.cache_dir or settings.default_cache()

    @property
    def hub_cache(self) -> Path | None:
        """The Hub client's cache; None for its default."""
        return self.cache_dir and self.cache_dir / "hub"

    def ensure(
        self, model: str | PathLike[str], *, revision: str | None = None, refresh: bool = False, thorough: bool = False
    ) -> Manifest:
        """A model as it was published: what every way of running it is made from. It is fetched if it is not here.

        One that is here already is neither fetched nor locked. Of a checkpoint, this is its configuration, tokenizer
        and hashes, and no model yet (`Manifest.is_checkpoint`); of an ONNX file or a table, that is all there is.

        Args:
            model: a folder, a registry name or a Hub id.
            revision: branch, tag or commit on the Hub.
            refresh: ask the sources again, though it is in the cache.
            thorough: compare every cached file with its SHA-256, not only its size and time of change.

        Raises:
            UnsupportedModel, ModelUnavailable, ModelCorrupt: see `EmbeddingEngine.from_pretrained`.
        """
        folder = settings.expanded(model)
        if folder.is_dir():
            return self._ensure_folder(folder, thorough=thorough)
        spec = find_spec(str(model), revision)
        target = self.target(spec)
        if not refresh and (manifest := _ready(target, thorough=thorough, by_files=not spec.replaces_files)):
            return manifest
        return self._locked(spec.name, target, lambda: self._make(spec, target, refresh=refresh, thorough=thorough))

    def ensure_variant(
        self,
        source: Manifest,
        name: str,
        about: Mapping[str, Any],
        begin: Callable[[], Fill],
        *,
        thorough: bool = False,
    ) -> Manifest:
        """A model as something runs it, made from its source unless it is in the cache already.

        Args:
            source: what it is made from.
            name: which way of running it: a precision, and a back end.
            about: what it depends on besides the source; when that changes, it is made again.
            begin: fetches what it takes, which may need the model's lock; gives what fills a folder under that lock,
                and says what is in it. What either raises leaves nothing behind.
            thorough: compare every cached file with its SHA-256.

        Raises:
            ModelUnavailable: the cache cannot be written.
        """
        depends = {
            **about,
            "made_from": {role: file.sha256 for role, file in source.files.items()},
            "config": source.config.to_dict(),
            "max_positions": source.max_positions,
        }
        made_from = json.loads(json.dumps({**source.source, **depends}))  # as it will be read again
        target = self._variant_target(source, name, made_from)

        def ready() -> Manifest | None:
            return _ready(target, thorough=thorough, source=made_from)

        def made(fill: Fill) -> Manifest:
            if manifest := ready():
                return manifest  # made by another process while this one waited
            if target.parent != source.folder.parent:
                remove_siblings(target.parent)  # made from files that have changed since
            with staged_folder(target) as staging:
                manifest = replace(fill(staging), source=made_from)
                manifest.write(staging)
            return replace(manifest, folder=target)

        if manifest := ready():
            return manifest
        fill = begin()
        return self._locked(source.config.name, target, lambda: made(fill))

    def fetch(self, model: str, *, revision: str | None = None) -> Path:
        """The folder of a model's original files: config.json, tokenizer.json, weights.

        Args:
            model: a registry name or a Hub id.
            revision: branch, tag or commit on the Hub.

        Raises:
            UnsupportedModel, ModelUnavailable, ModelCorrupt: see `EmbeddingEngine.from_pretrained`.
        """
        spec = find_spec(model, revision)
        return self._locked(spec.name, self.target(spec), lambda: self._fetch(spec, refresh=False)[1])

    def target(self, spec: ModelSpec) -> Path:
        """Where the source of a model of the registry or the Hub is kept; its variants are beside it."""
        return self.cache / "models" / as_name(spec.repository) / as_name(spec.revision) / _SOURCE

    def has_variant(self, source: Manifest, name: str) -> bool:
        """Whether a source in the cache has a variant beside it, fresh or not."""
        return source.folder.with_name(name).is_dir()

    def _variant_target(self, source: Manifest, name: str, made_from: Mapping[str, Any]) -> Path:
        """Beside the source where that is in the cache; under its own name where a file is used as it was found."""
        if source.folder.is_relative_to(self.cache / "models"):
            return source.folder.with_name(name)
        family = _name_of_folder(source.config.name, source.model_path)
        return self.cache / "models" / family / _digest(json.dumps(made_from)) / name

    def ready(self) -> list[Manifest]:
        """Every source and variant in the cache, as far as their manifests tell."""
        found = []
        for path in sorted((self.cache / "models").glob("*/*/*/manifest.json")):
            with suppress(ModelCorrupt):
                found.append(Manifest.read(path.parent))
        return [manifest for manifest in found if manifest and _is_of_this_version(manifest)]

    def _make(self, spec: ModelSpec, target: Path, *, refresh: bool, thorough: bool) -> Manifest:
        if not refresh and (manifest := _ready(target, thorough=thorough, by_files=not spec.replaces_files)):
            return manifest  # made by another process while this one waited
        from .folder import ModelFolder

        source, folder = self._fetch(spec, refresh=refresh)
        about = {"kind": source, "repository": spec.repository, "revision": spec.revision, "folder": str(folder)}
        return _prepare(ModelFolder(folder, spec.name), target, about, spec)

    def _ensure_folder(self, folder: Path, *, thorough: bool) -> Manifest:
        from .folder import ModelFolder
        from .preparation import as_found, can_build

        model = ModelFolder(folder)
        about = {"kind": "folder", "folder": str(folder.resolve())}
        if not can_build(model) and not model.is_static:
            return as_found(model, about)
        family = self.cache / "models" / _name_of_folder(model.name, folder)
        target = family / _digest(*_states(model)) / _SOURCE
        if manifest := _ready(target, thorough=thorough, by_files=True):
            return manifest

        def make() -> Manifest:
            if not (manifest := _ready(target, thorough=thorough, by_files=True)):
                remove_siblings(target.parent)  # made from files that have changed since
                manifest = _prepare(model, target, about)
            return manifest

        return self._locked(model.name, target, make)

    def _locked(self, name: str, target: Path, make: Callable[[], T]) -> T:
        lock = self.cache / "locks" / f"{_digest(str(target.parent))}.lock"
        try:
            with locked(lock, f"it makes {name} ready"):
                return make()
        except OSError as error:
            raise ModelUnavailable.cache_not_writable(name, error) from error

    def _fetch(self, spec: ModelSpec, *, refresh: bool) -> tuple[str, Path]:
        from .sources import Sources

        return Sources(
            cache=self.cache, hub_cache=self.hub_cache, endpoint=self.endpoint, offline=self.offline,
            names=self.sources, token=self.token,
        ).fetch(spec, refresh=refresh)  # fmt: skip


def _ready(
    target: Path, *, thorough: bool, by_files: bool = False, source: Mapping[str, Any] | None = None
) -> Manifest | None:
    """What is in the cache, if it is whole; `by_files`: its configuration was read from files, as they are read now;
    `source`: and it was made from that.
    """
    try:
        manifest = Manifest.read(target)
        if manifest is None or (source is not None and manifest.source != source):
            return None
        if by_files and manifest.source.get("read_by") != FOLDER_VERSION:
            return None
        manifest.check(thorough=thorough)
    except ModelCorrupt as error:
        _log.warning("%s It is made again.", error)
        return None
    return manifest


def _prepare(model: ModelFolder, target: Path, source: Mapping[str, Any], spec: ModelSpec | None = None) -> Manifest:
    from .preparation import prepare

    if not target.exists():
        remove_siblings(target)  # nothing is left that it was made from; or an earlier version made it
    return prepare(model, target, source, spec)


def _is_of_this_version(manifest: Manifest) -> bool:
    """Earlier ones kept no source apart."""
    return manifest.folder.name == _SOURCE or "made_from" in manifest.source


def _states(model: ModelFolder) -> list[str]:
    """What changes when a file of a local folder changes."""
    paths = sorted(path for path in model.path.rglob("*") if path.suffix in {".json", ".jinja", ".safetensors"})
    return [f"{path.name} {state_of(path)}" for path in paths]


def _name_of_folder(name: str, path: Path) -> str:
    """What the cache calls a model that lies elsewhere; a file system takes 255 bytes, in UTF-8 if it is a Mac's."""
    short = name.encode()[:_NAME_BYTES].decode(errors="ignore")
    return f"folder--{short}-{_digest(str(path.resolve()))}"


def _digest(*parts: str) -> str:
    return blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()
