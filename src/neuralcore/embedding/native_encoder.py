"""Runs a packed INT8 model by the native kernels: groups of texts side by side, or one text by all threads."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock, local

import numpy as np
from numpy.typing import NDArray

from .batch import even_budget, plan, wait_all
from .config import ModelConfig
from .errors import InferenceError, OutOfMemory, UnsupportedModel
from .kernels import NativeModel, Team
from .models.pack.file import open_model
from .models.pack.positions import position_ids
from .types import Advance, Lengths, TokenBatch, Vectors

BUDGET_TOKENS = 256
"""Of a group of texts: fewer read the weights again too often, more leave the cache (benchmarks/budget.py)."""

_TINY_TOKENS = 96
_KEPT_BYTES = 32 * 2**20  # of working memory, for the next run of a thread; more is given back


class NativeEncoder:
    """A packed INT8 model as an `Encoder`.

    Args:
        path: the packed file (models/pack/).
        config: pooling and normalisation.
        threads: how many threads to use.
        max_memory_bytes: bound on the working memory of the runs in flight; None for no bound.

    Raises:
        ModelCorrupt: the file is damaged.
        ModelUnavailable: it cannot be opened.
        UnsupportedModel: the configuration is not of this model.
        ProviderUnavailable: there are no kernels for this CPU.
    """

    device = "cpu"
    budget_tokens = BUDGET_TOKENS

    def __init__(
        self, path: Path, config: ModelConfig, *, threads: int = 1, max_memory_bytes: int | None = None
    ) -> None:
        self.path = path
        tensors, about = open_model(path)
        self._native: NativeModel | None = NativeModel(tensors, about, config.pooling, normalize=config.normalize)
        if self._native.hidden != config.dimension:
            raise UnsupportedModel(
                str(path), f"its vectors have {self._native.hidden} components, its configuration says otherwise"
            )
        self.isa, self.max_tokens = self._native.isa, self._native.max_tokens
        self.backend = f"native {self.isa}"
        self._threads, self._max_memory_bytes = threads, max_memory_bytes
        self._start()

    def _start(self) -> None:
        self._pid, self._lock, self._team_lock = os.getpid(), Lock(), Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._team: Team | None = None
        self._workspaces = local()

    def encode(self, tokens: TokenBatch, advance: Advance | None = None) -> Vectors:
        """See `Encoder.encode`.

        Raises:
            OutOfMemory: one text alone does not fit.
            InferenceError: a token is beyond the vocabulary or the positions, or a vector is not finite.
        """
        native = self._opened()
        _check(tokens, native)
        out = np.zeros((len(tokens), native.hidden), np.float32)
        groups = self._plan(native, tokens.lengths)

        def run(rows: Lengths, team: Team | None = None) -> None:
            out[rows] = self._run(native, tokens.take(rows), team)
            if advance:
                advance(len(rows))

        if len(groups) == 1 and self._threads > 1:
            self._run_together(run, groups[0])
        elif len(groups) > 1 and self._threads > 1:
            self._run_side_by_side(run, groups)
        else:
            for rows in groups:
                run(rows)
        return out

    def close(self) -> None:
        """See `Encoder.close`."""
        with self._lock:
            pool, self._pool, self._native = self._pool, None, None
        if pool:
            pool.shutdown()
        with self._team_lock:
            team, self._team = self._team, None
            if team and self._pid == os.getpid():
                team.stop()

    def __del__(self) -> None:
        if getattr(self, "_team", None) and self._pid == os.getpid():
            self.close()

    def _opened(self) -> NativeModel:
        native = self._native
        if native is None:
            raise InferenceError("native", "the engine was closed")
        if self._pid != os.getpid():  # threads do not survive fork(): a child starts its own
            self._start()
        return native

    def _plan(self, native: NativeModel, lengths: Lengths) -> list[Lengths]:
        """Groups of texts within the budget and the memory bound; a text without tokens is in none, its vector is 0."""
        rows = np.flatnonzero(lengths)
        if not len(rows):
            return []
        lengths = lengths[rows]
        if len(rows) < self._threads and lengths.sum() < _TINY_TOKENS * self._threads:
            return [rows]  # by all threads together
        budget = self.budget_tokens
        if self._threads > 1:
            budget = min(budget, even_budget(lengths, self._threads, tiny=_TINY_TOKENS))
        while budget > 1 and self._n_bytes(native, budget, int(lengths.max())) > (self._max_memory_bytes or math.inf):
            budget //= 2
        return [rows[group] for group in plan(lengths, budget)]

    def _n_bytes(self, native: NativeModel, budget: int, longest: int) -> int:
        return native.workspace_bytes(max(budget, longest), longest, 1) * self._threads

    def _run_together(self, run: Callable[[Lengths, Team | None], None], rows: Lengths) -> None:
        """By all threads, unless another caller has them."""
        if not self._team_lock.acquire(blocking=False):
            return run(rows, None)
        try:
            self._team = self._team or Team(self._threads)
            return run(rows, self._team)
        finally:
            self._team_lock.release()

    def _run_side_by_side(self, run: Callable[[Lengths], None], groups: list[Lengths]) -> None:
        with self._lock:
            self._opened()  # closed in the meantime?
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="neuralcore")
            futures = [self._pool.submit(run, rows) for rows in groups]
        wait_all(futures)

    def _run(self, native: NativeModel, tokens: TokenBatch, team: Team | None) -> Vectors:
        longest = int(tokens.lengths.max())
        n_bytes = native.workspace_bytes(len(tokens.ids), longest, self._threads if team else 1)
        positions = position_ids(tokens.ids, tokens.offsets, native.pad_position)
        bound = self._max_memory_bytes
        if bound is not None and n_bytes > bound:
            raise OutOfMemory(len(tokens), longest, reason=f"max_memory_bytes={bound} is too low for it")
        try:
            workspace = self._workspace(n_bytes)
        except MemoryError as error:
            raise OutOfMemory(len(tokens), longest, str(error)) from error
        return native.encode(tokens, positions, workspace, team)

    def _workspace(self, n_bytes: int) -> NDArray[np.uint8]:
        kept: NDArray[np.uint8] | None = getattr(self._workspaces, "kept", None)
        if kept is not None and len(kept) >= n_bytes:
            return kept
        workspace = np.empty(n_bytes, np.uint8)
        if n_bytes <= _KEPT_BYTES:
            self._workspaces.kept = workspace
        return workspace


def _check(tokens: TokenBatch, native: NativeModel) -> None:
    """The kernels look nothing up twice: what they get must be right."""
    if len(tokens.ids) and not 0 <= int(tokens.ids.min()) <= int(tokens.ids.max()) < native.n_words:
        raise InferenceError("native", f"the tokenizer gives ids beyond the {native.n_words} words of the model")
    longest = int(tokens.lengths.max(initial=0))
    if longest > native.max_tokens:
        raise InferenceError("native", f"a text of {longest} tokens, for {native.max_tokens} positions")
