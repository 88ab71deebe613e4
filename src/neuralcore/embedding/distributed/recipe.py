"""How to load an engine, small enough to be sent to every worker."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from os import PathLike

from ..arguments import Truncation
from ..engine import EmbeddingEngine
from ..loader import lasting_name
from ..providers import Device
from ..settings import expanded
from ..types import Backend, PrecisionName


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRecipe:
    """The options of `EmbeddingEngine.from_pretrained` that make sense for a worker; threads are the worker's own.

    Args:
        model: name, Hub id, or a folder that every worker sees; one that is here is kept by its whole path, as a worker
            may run elsewhere, and would take a relative one for a Hub id.

    Example:
        >>> EngineRecipe(model="all-MiniLM-L6-v2", precision="int8").load(threads=2)  # doctest: +SKIP
    """

    model: str | PathLike[str] = "all-MiniLM-L6-v2"
    precision: PrecisionName = "fp32"
    backend: Backend = "auto"
    device: Device = "cpu"
    truncation: Truncation = "truncate"
    dimensions: int | None = None
    revision: str | None = None
    cache_dir: str | PathLike[str] | None = None
    endpoint: str | None = None
    offline: bool | None = None
    verify_files: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", lasting_name(self.model))
        if self.cache_dir is not None:
            object.__setattr__(self, "cache_dir", str(expanded(self.cache_dir).absolute()))

    def load(self, *, threads: int | None = None) -> EmbeddingEngine:
        """The engine.

        Args:
            threads: CPU threads; None takes all this process may use.

        Raises:
            EmbeddingError: as `EmbeddingEngine.from_pretrained`.
        """
        options = asdict(self)
        return EmbeddingEngine.from_pretrained(options.pop("model"), threads=threads, **options)
