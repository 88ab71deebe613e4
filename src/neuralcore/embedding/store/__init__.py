"""The store: from a model's name to files on this machine that are ready to load.

<cache>/models/<repository>/<revision>/   what is loaded: graph, weights, tokenizer, manifest.json
<cache>/sources/<name>/                   what came from the package index
<cache>/hub/                              the Hub client's cache, when the folder was named by the caller;
                                          otherwise it is the user's own, shared with other programs
<cache>/locks/                            one lock a model, between processes
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from .. import settings
from ..backends.onnx.external_data import external_files
from ..backends.onnx.write import GRAPH_VERSION, write_onnx
from ..documents import open_file
from ..errors import InputError, ModelCorrupt, ModelUnavailable, UnsupportedModel
from ..families import MODEL_TYPES
from ..files import locked, remove_siblings, sha256, staged_folder, staging_beside, state_of, sync_all
from .folder import FOLDER_VERSION, ModelFolder
from .manifest import FileRecord, Manifest
from .registry import ModelSpec, find_spec
from .sources import SOURCES, Sources, as_name

__all__ = [
    "SOURCES",
    "FileRecord",
    "Manifest",
    "Store",
    "can_build",
    "make_store",
    "sha256",
    "staging_beside",
    "sync_all",
    "why_not_run",
]

_PRECISION = "fp32"
_GRAPH_VERSIONS = (0, GRAPH_VERSION)  # 0: an ONNX file used as it was found
_NAME_BYTES = 200
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
        """Make a model ready to load. One that is ready already is neither fetched nor locked.

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
        precision: str,
        about: Mapping[str, Any],
        make: Callable[[Path], Manifest],
        *,
        thorough: bool = False,
    ) -> Manifest:
        """A model in another precision, made from one that is ready unless it is in the cache already.

        Args:
            source: the fp32 model.
            precision: the name of the other precision.
            about: what it depends on besides the source; when that changes, it is made again.
            make: fills a folder and says what is in it. What it raises leaves nothing behind.
            thorough: compare every cached file with its SHA-256.

        Raises:
            ModelUnavailable: the cache cannot be written.
        """
        depends = {
            **about,
            "fp32_sha256": {role: file.sha256 for role, file in source.files.items()},
            "config": source.config.to_dict(),
            "max_positions": source.max_positions,
        }
        made_from = json.loads(json.dumps({**source.source, **depends}))  # as it will be read again
        target = self._variant_target(source, precision, made_from)

        def ready() -> Manifest | None:
            manifest = _ready(target, thorough=thorough)
            return manifest if manifest and manifest.source == made_from else None

        def made() -> Manifest:
            if manifest := ready():
                return manifest
            if target.parent != source.folder.parent:
                remove_siblings(target.parent)  # made from files that have changed since
            with staged_folder(target) as staging:
                manifest = replace(make(staging), source=made_from)
                manifest.write(staging)
            return replace(manifest, folder=target)

        return ready() or self._locked(source.config.name, target, made)

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
        """Where a model of the registry or the Hub is kept, ready to load."""
        return self.cache / "models" / as_name(spec.repository) / as_name(spec.revision) / _PRECISION

    def has_variant(self, source: Manifest, precision: str) -> bool:
        """Whether a model that was built here has another precision beside it, fresh or not."""
        return source.folder.with_name(precision).is_dir()

    def _variant_target(self, source: Manifest, precision: str, made_from: Mapping[str, Any]) -> Path:
        """Beside the fp32 model where that is in the cache; under its own name where it is used as it was found."""
        if source.folder.is_relative_to(self.cache / "models"):
            return source.folder.with_name(precision)
        name = _name_of_folder(source.config.name, source.model_path)
        return self.cache / "models" / name / _digest(json.dumps(made_from)) / precision

    def ready(self) -> list[Manifest]:
        """Everything in the cache that is ready to load, as far as its manifest tells."""
        found = []
        for path in sorted((self.cache / "models").glob("*/*/*/manifest.json")):
            with suppress(ModelCorrupt):
                found.append(Manifest.read(path.parent))
        return [manifest for manifest in found if manifest and manifest.graph_version in _GRAPH_VERSIONS]

    def _make(self, spec: ModelSpec, target: Path, *, refresh: bool, thorough: bool) -> Manifest:
        if not refresh and (manifest := _ready(target, thorough=thorough, by_files=not spec.replaces_files)):
            return manifest  # made by another process while this one waited
        source, folder = self._fetch(spec, refresh=refresh)
        about = {"kind": source, "repository": spec.repository, "revision": spec.revision, "folder": str(folder)}
        model = ModelFolder(folder, spec.name)
        return _prepare(model, target, about, spec)

    def _ensure_folder(self, folder: Path, *, thorough: bool) -> Manifest:
        model = ModelFolder(folder)
        if not can_build(model) and not model.is_static:
            return _as_found(model, {"kind": "folder", "folder": str(folder.resolve())})
        family = self.cache / "models" / _name_of_folder(model.name, folder)
        target = family / _digest(*_states(model)) / _PRECISION
        if manifest := _ready(target, thorough=thorough, by_files=True):
            return manifest

        def make() -> Manifest:
            if not (manifest := _ready(target, thorough=thorough, by_files=True)):
                shutil.rmtree(family, ignore_errors=True)  # made from files that have changed since
                manifest = _prepare(model, target, {"kind": "folder", "folder": str(folder.resolve())})
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
        return Sources(
            cache=self.cache, hub_cache=self.hub_cache, endpoint=self.endpoint, offline=self.offline,
            names=self.sources, token=self.token,
        ).fetch(spec, refresh=refresh)  # fmt: skip


def _ready(target: Path, *, thorough: bool, by_files: bool = False) -> Manifest | None:
    """What is in the cache, if it is whole and of this version; `by_files`: its configuration was read from files."""
    try:
        manifest = Manifest.read(target)
        if manifest is None or manifest.graph_version not in _GRAPH_VERSIONS:
            return None
        if by_files and manifest.source.get("read_by") != FOLDER_VERSION:
            return None
        manifest.check(thorough=thorough)
    except ModelCorrupt as error:
        _log.warning("%s It is made again.", error)
        return None
    return manifest


def _prepare(model: ModelFolder, target: Path, source: Mapping[str, Any], spec: ModelSpec | None = None) -> Manifest:
    """Build a model's graph where that can be done, or record the ONNX file that it has."""
    source = source if spec and spec.replaces_files else {**source, "read_by": FOLDER_VERSION}
    with staged_folder(target) as staging:
        if model.is_static:
            manifest = _static(model, staging, source, spec)
        else:
            manifest = _built(model, staging, source, spec) if can_build(model) else _as_found(model, source, spec)
        manifest.write(staging)
    return replace(manifest, folder=target)


def _built(model: ModelFolder, staging: Path, source: Mapping[str, Any], spec: ModelSpec | None) -> Manifest:
    from ..backends.onnx.graph_file import note_origin
    from ..tokenizer import write_effective

    onnx_path = staging / "model.onnx"
    config = spec.configure(model.config) if spec else model.config()
    write_onnx(model.stack(), config, onnx_path, dense=model.dense_steps(config))
    if spec and spec.replaces_files:
        shutil.copyfile(model.tokenizer_path, staging / "tokenizer.json")  # no other file tells of it
    else:
        write_effective(model.tokenizer_path, staging / "tokenizer.json")
    files = {"model": onnx_path, "weights": staging / "model.onnx.data", "tokenizer": staging / "tokenizer.json"}
    made_from = {"model.safetensors": model.weights_sha256}
    note_origin(onnx_path, made_from["model.safetensors"])
    return Manifest(
        folder=staging,
        files={role: FileRecord.of(path, staging) for role, path in files.items()},
        config=config,
        max_positions=_max_positions(model, spec),
        source={**source, "sha256": made_from},
        graph_version=GRAPH_VERSION,
    )


def _static(model: ModelFolder, staging: Path, source: Mapping[str, Any], spec: ModelSpec | None) -> Manifest:
    """A table and its tokenizer, used where they lie."""
    config = spec.configure(model.config) if spec else model.config()
    assert model.safetensors_path is not None
    paths = {"model": model.safetensors_path, "tokenizer": model.tokenizer_path}
    files = {role: FileRecord.of(path, staging) for role, path in paths.items()}
    return Manifest(
        folder=staging,
        files=files,
        config=config,
        max_positions=_max_positions(model, spec),
        source={**source, "sha256": {"model.safetensors": files["model"].sha256}},
        graph_version=0,
    )


def _as_found(model: ModelFolder, source: Mapping[str, Any], spec: ModelSpec | None = None) -> Manifest:
    """A model with an ONNX file, used where it lies."""
    if model.onnx_path is None:
        raise UnsupportedModel(model.name, why_not_run(model))
    config = spec.configure(model.config_of_graph) if spec else model.config_of_graph()
    files = {"model": model.onnx_path, "tokenizer": model.tokenizer_path}
    weights = external_files(model.onnx_path)  # which says what is wrong before anything is hashed
    open_file(model.tokenizer_path, "a tokenizer.json").close()
    if source["kind"] != "folder":  # what the cache holds can be made again, so all of it is recorded
        files |= {f"weights {number}": path for number, path in enumerate(weights)}
    return Manifest(
        folder=model.path,
        files={role: FileRecord.of(path, model.path / "elsewhere") for role, path in files.items()},
        config=config,
        max_positions=_max_positions(model, spec),
        source=source,
        graph_version=0,
    )


def _max_positions(model: ModelFolder, spec: ModelSpec | None) -> int:
    return spec.max_positions if spec and spec.replaces_files and spec.max_positions else model.max_positions


def can_build(model: ModelFolder) -> bool:
    """Whether its graph is written here, from its checkpoint; else what it has is used as it was found."""
    is_encoder = model.safetensors_path is not None and not model.is_static
    return is_encoder and model.architecture.get("model_type") in MODEL_TYPES


def why_not_run(model: ModelFolder) -> str:
    """What a model lacks that has neither a checkpoint of a known family nor an ONNX file."""
    if not model.architecture:
        return f"{model.path} is no model folder: it has neither config.json nor an ONNX model"
    kind = model.architecture.get("model_type")
    if kind not in MODEL_TYPES:
        return f"model_type {kind!r} has no builder, and {model.path} has no ONNX model; export one to onnx/model.onnx"
    advice = "where PyTorch is, SentenceTransformer(folder).save_pretrained(other) writes a model.safetensors"
    return f"{model.path} has neither model.safetensors nor an ONNX model, and pickled weights are not opened; {advice}"


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
