"""What the routes share: the engine once it is there, the limits, and the way from a request to vectors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .. import __version__
from ..aio import AsyncEmbeddingEngine, is_small
from ..calls import Encoded
from ..engine import EmbeddingEngine
from ..errors import InputError, UnsupportedModel
from ..pooling import normalize, truncate
from ..stream import PART_TEXTS
from ..truncation import CutTexts
from ..types import TokenBatch, Vectors
from .callers import Callers
from .limits import Limits
from .metrics import Metrics
from .refusals import Refusal
from .requests import EmbeddingRequest, check_prompt

_READ_OR_ANSWERED = 512
RETRY_S = 5  # of clients that come while the model is loaded or the server leaves


@dataclass(slots=True, kw_only=True)
class Service:
    """One model, served.

    Args:
        model: the name that clients see.
        aliases: other names that they may ask for.
        limits: of requests.
        truncate: whether texts that are too long are cut, where a request does not say.
        keys: API keys, one of which is needed; none is needed where there are none.
        max_connections: that there may be; None: no matter.
        hosts, origins: names to answer to and pages whose scripts may call, beside the natural ones; see `Callers`.
    """

    model: str
    aliases: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)
    truncate: bool = True
    keys: Sequence[str] = ()
    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()
    metrics: Metrics = field(default_factory=Metrics)
    max_connections: int | None = None
    engine: AsyncEmbeddingEngine | None = None
    draining: bool = False
    gave_up: bool = False
    _under_way: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def callers(self) -> Callers:
        """Who may ask."""
        return Callers(keyed=bool(self.keys), hosts=self.hosts, origins=self.origins)

    @property
    def max_under_way(self) -> int:
        """Requests that are read, wait, or are answered; more are 503. As many connections may be idle."""
        wanted = self.limits.max_waiting + _READ_OR_ANSWERED
        return wanted if self.max_connections is None else min(wanted, self.max_connections // 2)

    @property
    def n_active(self) -> int:
        """Requests under way."""
        return len(self._under_way)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Count the request that the current task answers."""
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            yield
        finally:
            self._under_way.discard(task)

    def give_up(self) -> None:
        """Stop what is under way; those who wait are told so."""
        self.gave_up = True
        for task in self._under_way:
            task.cancel()

    def start(self, engine: EmbeddingEngine) -> None:
        """Take requests from now on."""
        waiting = AsyncEmbeddingEngine(engine, max_waiting=self.limits.max_waiting, on_run=self.metrics.observe_run)
        self.metrics.waiting.set_function(lambda: waiting.n_waiting)
        self.engine = waiting

    def ready_engine(self) -> AsyncEmbeddingEngine:
        """The engine.

        Raises:
            Refusal: 503 while starting or leaving.
        """
        if self.draining:
            raise Refusal(503, "the server is shutting down", retry_after_s=RETRY_S)
        if self.engine is None:
            raise Refusal(503, f"{self.model} is being loaded", retry_after_s=RETRY_S)
        return self.engine

    def check_health(self) -> None:
        """Refuse to be called healthy.

        Raises:
            Refusal: 503 while starting or leaving, and when the queue of requests failed.
        """
        failure = self.ready_engine().failure
        if failure:
            raise Refusal(503, f"the queue of requests failed: {failure}", retry_after_s=RETRY_S)

    @property
    def names(self) -> Sequence[str]:
        """What clients may call the model."""
        return list(dict.fromkeys([self.model, *self.aliases]))

    def describe(self) -> dict[str, Any]:
        """What is served, in TEI's words where it has some.

        Raises:
            Refusal: 503 while starting or leaving.
        """
        engine = self.ready_engine().engine
        return {
            "model_id": self.model,
            "model_dtype": str(engine.precision),
            "model_type": {"embedding": {"pooling": engine.config.pooling_name}},
            "dimension": engine.dimension,
            "max_input_length": engine.max_tokens,
            "max_concurrent_requests": self.limits.max_waiting,
            "max_client_batch_size": self.limits.max_texts,
            "max_batch_requests": None,
            "auto_truncate": self.truncate,
            "prompts": sorted({"query", "document", *engine.config.prompts}),
            "version": __version__,
        }

    def check_model(self, name: str | None) -> None:
        """Refuse to answer in the name of another model.

        Raises:
            UnsupportedModel: it is not served here.
        """
        if name is not None and name not in self.names:
            raise UnsupportedModel(name, f"this server has {self.model!r}; --alias lets it answer to another name")

    async def embed(self, request: EmbeddingRequest) -> tuple[Vectors, Encoded]:
        """Vectors of a request, float32 (n, dimension), with counts and times.

        Raises:
            Refusal: the request cannot be taken.
            EmbeddingError: the engine's own.
        """
        engine = self.ready_engine()
        self.check_model(request.model)
        self._check_inputs(request, engine.engine)
        tokenize = partial(self._tokenize, engine.engine, request)
        encoded = await engine.encode(tokenize, is_small=is_small(request.inputs))
        self._count(encoded)
        return _shape(encoded.vectors, request), encoded

    def _check_inputs(self, request: EmbeddingRequest, engine: EmbeddingEngine) -> None:
        self.limits.check_texts(len(request.inputs))
        check_prompt(engine.config, request)
        if request.dimensions is not None and request.dimensions > engine.dimension:
            reason = f"dimensions must be at most {engine.dimension}, not {request.dimensions}"
            raise Refusal(400, reason, param="dimensions")
        unit_length = engine.config.normalize or engine.dimension < engine.config.dimension
        if request.normalize is False and unit_length:
            raise InputError(f"normalize=false: {self.model} gives vectors of unit length only")
        self._check_direction(request, engine)

    def _check_direction(self, request: EmbeddingRequest, engine: EmbeddingEngine) -> None:
        if request.cut_at is None or not self._cuts(request):
            return
        side, kept = ("left", "end") if engine.keeps_end else ("right", "beginning")
        if request.cut_at != side:
            reason = f"{self.model} keeps the {kept} of a text that is too long; send the part that is to be kept"
            raise InputError(f"truncation_direction {request.cut_at!r}: {reason}")

    def _cuts(self, request: EmbeddingRequest) -> bool:
        return self.truncate if request.truncate is None else request.truncate

    def _tokenize(self, engine: EmbeddingEngine, request: EmbeddingRequest) -> Iterator[TokenBatch]:
        """In a thread of the queue, some texts at a time, and no more of them than the limit allows."""
        n_texts = n_tokens = 0
        for tokens in _tokens(engine, request):
            if not self._cuts(request):
                CutTexts("error", engine.max_tokens).add(tokens, n_texts)
            n_texts, n_tokens = n_texts + len(tokens), n_tokens + len(tokens.ids)
            self.limits.check_tokens(n_tokens, all_counted=n_texts == len(request.inputs))
            yield tokens

    def _count(self, encoded: Encoded) -> None:
        self.metrics.texts.inc(len(encoded.vectors))
        self.metrics.tokens.inc(encoded.n_tokens)
        self.metrics.truncated.inc(encoded.n_cut)
        self.metrics.queue_seconds.observe(encoded.queue_s)


def _tokens(engine: EmbeddingEngine, request: EmbeddingRequest) -> Iterator[TokenBatch]:
    texts = [each for each in request.inputs if isinstance(each, str)]
    if texts:
        yield from engine.tokenize_parts(texts, embedding_type=request.embedding_type, prompt=request.prompt)
        return
    sequences = [each for each in request.inputs if not isinstance(each, str)]
    for first in range(0, len(sequences), PART_TEXTS):
        yield _accept(engine, sequences[first : first + PART_TEXTS], first)


def _accept(engine: EmbeddingEngine, sequences: Sequence[Sequence[int]], first: int) -> TokenBatch:
    try:
        return engine.accept_ids(sequences, first_index=first)
    except InputError as error:
        advice = "Send texts; with LangChain's OpenAIEmbeddings, set check_embedding_ctx_length=False."
        raise Refusal(400, f"{error}. {advice}", param="input") from error


def _shape(vectors: Vectors, request: EmbeddingRequest) -> Vectors:
    if request.dimensions is not None and request.dimensions < vectors.shape[1]:
        return vectors[:, : request.dimensions] if request.normalize is False else truncate(vectors, request.dimensions)
    return normalize(vectors) if request.normalize else vectors
