"""Runs any ONNX encoder: plans micro-batches, runs them side by side, pools and puts the rows back in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...batch import even_budget, plan, refuse_beyond
from ...config import ModelConfig, PoolingStrategy
from ...errors import InferenceError, OutOfMemory, UnsupportedModel
from ...forks import reset_in_children
from ...pooling import normalize, pool
from ...providers import GpuOptions
from ...types import Advance, Lengths, TokenBatch, Vectors
from ...workers import Room, Workers
from .session import OnnxSession
from .working_memory import WorkingMemory

# Padded tokens of a micro-batch. On CPU, 128 to 768 are alike on all-MiniLM-L6-v2 (benchmarks/budget.py); of those, 256
# needs little working memory and little padding. A GPU wants large runs; that number is untested.
_BUDGET_TOKENS = {"cpu": 256}
_GPU_BUDGET_TOKENS = 16_384
_TINY_TOKENS = 128

# What ONNX Runtime says of an index that a table does not have; how many words a graph has, it says nowhere else.
_BEYOND = re.compile(r"idx=(-?\d+) must be within the inclusive range \[-?\d+, ?(-?\d+)\]")

_TOKEN_OUTPUTS = ("last_hidden_state", "token_embeddings")
_TEXT_OUTPUT = "sentence_embedding"
_TEXT_AXES = 2  # of a text's vector: (batch, dimension)


class OnnxEncoder:
    """An ONNX model as an `Encoder`.

    Two sessions share the file. `wide` gives one run all threads: best for one text. `narrow` gives each run one thread
    and as many runs go side by side: best for many texts. It is opened when first needed.

    Args:
        path: the ONNX file.
        config: pooling, normalisation and output name.
        device: "cpu", "cuda" or "tensorrt".
        threads: how many threads to use.
        pad_id: token id that fills padding.
        gpu: options of the GPU providers.
        max_memory_bytes: bound on the working memory of all runs in flight (not the weights); None for no bound.
    """

    def __init__(
        self,
        path: Path,
        config: ModelConfig,
        *,
        device: str = "cpu",
        threads: int = 1,
        pad_id: int = 0,
        gpu: GpuOptions | None = None,
        max_memory_bytes: int | None = None,
    ) -> None:
        self.device = device
        self.backend = f"onnxruntime {device}"
        self._path, self._config, self._pad_id, self._threads = path, config, pad_id, threads
        self._n_side_by_side = threads if device == "cpu" else 1
        self._workers = Workers(self._n_side_by_side)
        self._room = None if max_memory_bytes is None else Room(max_memory_bytes)
        self._budget = _BUDGET_TOKENS.get(device, _GPU_BUDGET_TOKENS)
        gpu = gpu or GpuOptions()
        self._open: Callable[[int], OnnxSession] = lambda n: OnnxSession(path, device=device, n_threads=n, gpu=gpu)
        self._is_closed = False
        self.forget_threads()
        self._output, self._pooled = _choose_output(self._wide_session(), config, path)
        self._memory = WorkingMemory.of_metadata(self._wide_session().metadata, config.token_dimension)
        self.takes_sentence = config.graph_pools and self._output == _TEXT_OUTPUT and not self._pooled
        reset_in_children(self)

    def forget_threads(self) -> None:
        """See `forks.HasThreads`: a run would wait for the threads of the parent's sessions for ever."""
        self._opening = Lock()
        self._wide: OnnxSession | None = None
        self._narrow: OnnxSession | None = None

    def encode(self, tokens: TokenBatch, advance: Advance | None = None, threads: int | None = None) -> Vectors:
        """See `Encoder.encode`.

        Raises:
            OutOfMemory: one text alone does not fit.
            InferenceError: ONNX Runtime failed, or a vector is not finite.
        """
        wide = self._wide_session()
        out = np.zeros((len(tokens), self._config.dimension), np.float32)
        n_runs = min(threads or self._n_side_by_side, self._n_side_by_side)
        is_narrow = len(tokens) >= n_runs > 1 or n_runs < self._n_side_by_side
        session = self._narrow_session() if is_narrow else wide
        n_runs = n_runs if len(tokens) >= n_runs else 1
        starved: list[Lengths] = []

        def run(rows: Lengths) -> None:
            self._run(session, tokens, rows, out, starved)
            if advance:
                advance(len(rows))

        self._run_all(run, self._plan(tokens.lengths, n_runs), n_runs)
        if starved:
            self._run_all(lambda rows: self._run_alone(tokens, rows, out), starved, 1)
        return out

    def give_back(self) -> None:
        """See `Encoder.give_back`."""
        tiny = TokenBatch(np.zeros(1, np.int32), np.array([0, 1]), np.array([1]))
        for session in filter(None, (self._narrow, self._wide)):
            self._vectors(session, tiny, np.array([0]), shrink=True)

    def close(self) -> None:
        """See `Encoder.close`."""
        self._is_closed = True
        self._wide = self._narrow = None
        self._workers.stop()

    def _wide_session(self) -> OnnxSession:
        return self._wide or self._open_once("_wide", self._threads)

    def _narrow_session(self) -> OnnxSession:
        return self._narrow or self._open_once("_narrow", 1)

    def _open_once(self, name: Literal["_wide", "_narrow"], n_threads: int) -> OnnxSession:
        with self._opening:
            session: OnnxSession | None = getattr(self, name)
            if session is None and not self._is_closed:
                session = self._open(n_threads)
                setattr(self, name, session)
        if self._is_closed:  # perhaps meanwhile
            self._wide = self._narrow = session = None
        if session is None:
            raise InferenceError(self.device, "the engine was closed")
        return session

    def _run_all(self, run: Callable[[Lengths], None], batches: Sequence[Lengths], n_runs: int) -> None:
        """Side by side or one after the other; by the workers where they have to share room with other callers'."""

        def run_in_turn(batches: Sequence[Lengths]) -> None:
            for rows in batches:
                run(rows)

        if n_runs > 1:
            self._workers.run(run, batches, n_runs)
        elif self._room:
            self._workers.run(run_in_turn, [batches])
        else:
            run_in_turn(batches)

    def _plan(self, lengths: Lengths, n_runs: int) -> list[Lengths]:
        """Micro-batches within the budget and the memory bound, and small enough that every thread gets one.

        A text without tokens is in none of them; its vector is zero.
        """
        rows = np.flatnonzero(lengths)
        if not len(rows):
            return []
        budget = self._budget
        if n_runs > 1:
            budget = min(budget, even_budget(lengths, n_runs, tiny=_TINY_TOKENS))
        if self._room:
            budget = min(budget, self._affordable_tokens(self._room, lengths, n_runs))
        return [rows[batch] for batch in plan(lengths[rows], budget)]

    def _affordable_tokens(self, room: Room, lengths: Lengths, n_runs: int) -> int:
        """Padded tokens of a run for which all threads find room, or one text runs alone."""
        longest = int(lengths.max())
        affordable = room.n_bytes // self._memory.bytes_per_token(longest)
        if affordable < longest:
            raise OutOfMemory(1, longest, reason=f"max_memory_bytes={room.n_bytes} is too low for it")
        return max(longest, affordable // n_runs)

    def _run(
        self, session: OnnxSession, tokens: TokenBatch, rows: Lengths, out: Vectors, starved: list[Lengths]
    ) -> None:
        """Run some texts; when they do not fit, run each half; note a single text that does not."""
        try:
            out[rows] = self._vectors(session, tokens, rows)
        except OutOfMemory:
            if len(rows) == 1:
                starved.append(rows)
                return
            for half in np.array_split(rows, 2):
                self._run(session, tokens, half, out, starved)

    def _run_alone(self, tokens: TokenBatch, rows: Lengths, out: Vectors) -> None:
        """Run a text that did not fit beside others once more, when nothing runs and no memory is held back."""
        tiny = TokenBatch(tokens.ids[:1], np.array([0, 1]), np.array([1]))
        wide = self._wide_session()
        for session in filter(None, (self._narrow, wide)):
            self._vectors(session, tiny, np.array([0]), shrink=True)
        out[rows] = self._vectors(wide, tokens, rows, shrink=True)

    def _vectors(self, session: OnnxSession, tokens: TokenBatch, rows: Lengths, *, shrink: bool = False) -> Vectors:
        ids, mask = tokens.padded(rows, self._pad_id)
        feeds = session.feeds(ids, mask, pad_position=self._config.pad_position)
        n_bytes = ids.size * self._memory.bytes_per_token(ids.shape[1])
        with self._room.hold(n_bytes) if self._room else nullcontext():
            result = self._outcome(session, feeds, tokens, shrink=shrink)
        if not self._pooled:
            result = result if result.ndim == 2 else pool(result, tokens.lengths[rows], *self._config.poolings)
            result = normalize(result) if self._config.normalize else result
        if result.shape[1:] != (self._config.dimension,):  # where the graph does not say it beforehand
            raise _other_dimension(self._path, result.shape[-1])
        if not np.isfinite(result).all():
            raise InferenceError.not_finite(session.provider)
        return result

    def _outcome(
        self, session: OnnxSession, feeds: dict[str, NDArray[np.integer[Any]]], tokens: TokenBatch, *, shrink: bool
    ) -> Vectors:
        try:
            return session.run(self._output, feeds, shrink=shrink)
        except InferenceError as error:
            beyond = _BEYOND.search(error.reason)
            if beyond and int(beyond[1]) in tokens.ids:  # else of another table
                refuse_beyond(int(beyond[2]) + 1, tokens)
            raise


def _choose_output(session: OnnxSession, config: ModelConfig, path: Path) -> tuple[str, bool]:
    """The output to read, and whether it is pooled and normalised as the configuration says already."""
    pooled = config.output_name is None and _pools_like(session, config)
    usual = (_TEXT_OUTPUT, *_TOKEN_OUTPUTS) if pooled or config.graph_pools else (*_TOKEN_OUTPUTS, _TEXT_OUTPUT)
    name = config.output_name or next((name for name in usual if name in session.outputs), None)
    if name not in session.outputs:
        raise UnsupportedModel(str(path), f"no output {config.output_name or usual}; it has {sorted(session.outputs)}")
    if config.dense and not pooled:
        reason = "it does not run the Dense steps of its configuration, which are run here in graphs that are made here"
        raise UnsupportedModel(str(path), f"{reason}; keep the model's config.json and model.safetensors beside it")
    dimension, is_text = session.outputs[name][-1], pooled or len(session.outputs[name]) == _TEXT_AXES
    if isinstance(dimension, int) and dimension != (config.dimension if is_text else config.token_dimension):
        raise _other_dimension(path, dimension)
    return name, pooled


def _other_dimension(path: Path, dimension: int) -> UnsupportedModel:
    return UnsupportedModel(str(path), f"its vectors have {dimension} components, its configuration says otherwise")


def _pools_like(session: OnnxSession, config: ModelConfig) -> bool:
    """Whether the graph says of itself (write/) that it pools in the way the configuration asks for."""
    told = session.metadata
    same = _as_mean(told.get("pooling", "")) == _as_mean(config.pooling_name)
    same &= told.get("dense") == (config.dense_text if config.dense else None)
    return same and told.get("normalize") == str(config.normalize)


def _as_mean(pooling: str) -> str:
    """Two names of one strategy."""
    return pooling.replace(PoolingStrategy.MEAN_WITH_ATTENTION, PoolingStrategy.MEAN)
