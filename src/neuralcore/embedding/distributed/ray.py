"""Ray: a class for `Dataset.map_batches`, and the engine of `neuralcore embed --engine ray`. The extra `[ray]`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import numpy as np
import ray

from ..arguments import check_texts
from ..errors import EmbeddingError, InferenceError, InputError
from ..stream import windows
from ..types import Vectors
from .batches import texts_of, with_vectors
from .recipe import EngineRecipe

_WINDOWS_PER_WORKER = 2  # one is embedded, one is on its way


class RayEmbedder:
    """Embeds a column; one engine for each actor, with the threads that Ray gave it.

    Args:
        recipe: which engine.
        column: of texts.
        output: column of vectors to add.
        embedding_type: "document", "query", or a prompt of the model; None for its default.
        prompt: any other text to put before each.

    Example:
        >>> dataset.map_batches(  # doctest: +SKIP
        ...     RayEmbedder,
        ...     fn_constructor_kwargs={"recipe": EngineRecipe(model="all-MiniLM-L6-v2")},
        ...     batch_size=1024, num_cpus=2, compute=ray.data.ActorPoolStrategy(size=8),
        ... )
    """

    def __init__(
        self,
        recipe: EngineRecipe,
        *,
        column: str = "text",
        output: str = "embedding",
        embedding_type: str | None = None,
        prompt: str | None = None,
    ) -> None:
        self._engine = recipe.load(threads=_own_threads())
        self._column, self._output = column, output
        self._prefix = self._engine.config.prefix(embedding_type, prompt)

    def __call__(self, batch: Any) -> Any:
        """The batch with its vectors, float32 (n, dimension), in the form it came in: NumPy, pandas or Arrow.

        Raises:
            InputError: there is no such column, or a value of it is missing or no text.
        """
        texts = texts_of(batch, self._column)
        try:
            vectors = self._engine.embed_batch(texts, prompt=self._prefix)
        except InputError as error:
            raise InputError(f"column {self._column!r}: {error}") from error
        return with_vectors(batch, self._output, vectors)


class RayEngine:
    """An engine whose work is done by actors of a Ray cluster: what `neuralcore embed` needs of one, and no more.

    Args:
        recipe: which engine; its model must be reachable from every node.
        n_workers: actors; None takes one for each node. They share the cluster's CPUs evenly.

    Raises:
        EmbeddingError: a worker cannot load the model.

    Example:
        >>> with RayEngine(EngineRecipe(model="all-MiniLM-L6-v2")) as engine:  # doctest: +SKIP
        ...     for block in engine.embed_stream(open("lines.txt")):
        ...         index.add(block)
    """

    def __init__(self, recipe: EngineRecipe, *, n_workers: int | None = None) -> None:
        self._started = not ray.is_initialized()
        if self._started:
            ray.init(log_to_driver=False, logging_level="warning")  # RAY_ADDRESS, a cluster of this node, or a new one
        n_workers = n_workers or sum(node["Alive"] for node in ray.nodes())
        n_cpus = max(1, int(ray.cluster_resources().get("CPU", 1)) // n_workers)
        actor = ray.remote(num_cpus=n_cpus)(_Worker)
        self._workers = [actor.remote(recipe) for _ in range(n_workers)]
        try:
            self.dimension: int = _fetch(self._workers[0].dimension.remote())
        except BaseException:
            self.close()
            raise

    def embed_stream(
        self, texts: Iterable[str], *, embedding_type: str | None = None, prompt: str | None = None
    ) -> Iterator[Vectors]:
        """As `EmbeddingEngine.embed_stream`: blocks in order, memory bounded. Workers take windows in turn."""
        check_texts(texts)
        pending: deque[Any] = deque()
        first = 0
        for number, window in enumerate(windows(texts)):
            worker = self._workers[number % len(self._workers)]
            pending.append(worker.embed.remote(window, first, embedding_type, prompt))
            first += len(window)
            if len(pending) == _WINDOWS_PER_WORKER * len(self._workers):
                yield _fetch(pending.popleft())
        while pending:
            yield _fetch(pending.popleft())

    def close(self) -> None:
        """Give the workers back, and leave the cluster that was joined here."""
        for worker in self._workers:
            ray.kill(worker)
        if self._started:
            ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class _Worker:
    def __init__(self, recipe: EngineRecipe) -> None:
        self._recipe = recipe
        self._engine = recipe.load(threads=_own_threads())

    def dimension(self) -> int:
        return self._engine.dimension

    def embed(self, texts: list[str], first: int, embedding_type: str | None, prompt: str | None) -> Vectors:
        tokens = self._engine.tokenize(texts, embedding_type=embedding_type, prompt=prompt, first_index=first)
        return self._engine.encode(tokens)


def _own_threads() -> int:
    """CPUs that Ray gave this actor: whole ones, and one at least."""
    assigned = ray.get_runtime_context().get_assigned_resources()
    return max(1, int(assigned.get("CPU", 1)))


def _fetch(reference: Any) -> Any:
    """A worker's result; what the engine raised there is raised here."""
    try:
        result = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.as_instanceof_cause().__cause__ or error.cause
        raise (cause if isinstance(cause, EmbeddingError) else InferenceError("ray", str(cause))) from error
    except ray.exceptions.RayError as error:
        raise InferenceError("ray", str(error)) from error
    return np.asarray(result) if isinstance(result, np.ndarray) else result
