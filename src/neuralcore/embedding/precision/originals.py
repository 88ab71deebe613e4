"""The files that a model in the cache was made from."""

from __future__ import annotations

from pathlib import Path

from ..errors import ModelCorrupt
from ..store import Manifest, Store
from ..store.folder import ModelFolder


def original_of(source: Manifest) -> ModelFolder:
    """The files that a source was read from, as far as they are still there."""
    return ModelFolder(Path(source.source["folder"]), source.config.name)


def find_original(store: Store, source: Manifest) -> ModelFolder:
    """As `original_of`, fetched again where the cache was copied or cleaned in part."""
    original = original_of(source)
    if original.safetensors_path is None and "repository" in source.source:
        return _fetched(store, source)
    return original


def fetch_original(store: Store, source: Manifest) -> ModelFolder:
    """As `find_original`, its weights compared with their hash, and fetched again where they are damaged.

    Raises:
        ModelUnavailable: they are gone, and cannot be had again.
        ModelCorrupt: they are not those that the source was read from.
    """
    original = find_original(store, source)
    if _hash_of(original) != source.weights_sha256 and "repository" in source.source:
        original = _fetched(store, source)
    if (actual := _hash_of(original)) != source.weights_sha256:
        expected, advice = f"SHA-256 {source.weights_sha256}", "If it changed upstream: `neuralcore pull --refresh`."
        raise ModelCorrupt(str(original.path), expected=expected, actual=actual, advice=advice)
    return original


def _fetched(store: Store, source: Manifest) -> ModelFolder:
    folder = store.fetch(source.source["repository"], revision=source.source["revision"])
    return ModelFolder(folder, source.config.name)


def _hash_of(original: ModelFolder) -> str:
    """Or why there is none."""
    if original.safetensors_path is None:
        return "no weights"
    try:
        return original.weights_sha256
    except (OSError, ModelCorrupt) as error:
        return str(error)
