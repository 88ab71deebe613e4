"""Runs a packed model by the native kernels: groups of texts side by side, or a few short ones by all threads."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from threading import local

import numpy as np
from numpy.typing import NDArray

from ...batch import even_budget, plan, refuse_beyond
from ...config import ModelConfig
from ...errors import InferenceError, OutOfMemory, UnsupportedModel
from ...forks import reset_in_children
from ...types import Advance, Lengths, Precision, TokenBatch, Vectors
from ...workers import Room, Workers
from .file import Tensors, open_model
from .groups import Group, arrange
from .kernels import NativeModel, Team

BUDGETS: Mapping[Precision, int] = {
    Precision.INT8: 256,
    Precision.BF16: 256,
    Precision.FP32: 512,  # the weights of large models are read less often; for small ones it is the same
    Precision.FP16: 512,
}
"""Tokens of a group of texts: fewer read the weights again too often, more leave the cache (benchmarks/budget.py)."""

_TINY_TOKENS = 96
_TEAM_TOKENS = 192  # of any number of texts that all threads take together: the weights are read once for them
_KEPT_BYTES = 32 * 2**20  # of working memory, for the next run of a thread; more is given back


class NativeEncoder:
    """A packed model as an `Encoder`.

    Args:
        path: the packed file (file.py).
        config: pooling and normalisation.
        threads: how many threads to use.
        max_memory_bytes: bound on the working memory of all runs in flight; None for no bound.

    Raises:
        ModelCorrupt: the file is damaged.
        ModelUnavailable: it cannot be opened.
        UnsupportedModel: the configuration is not of this model.
        ProviderUnavailable: there are no kernels for this CPU.
    """

    device = "cpu"
    takes_sentence = False

    def __init__(
        self, path: Path, config: ModelConfig, *, threads: int = 1, max_memory_bytes: int | None = None
    ) -> None:
        self.path = path
        tensors, about = open_model(path)
        native = NativeModel(tensors, about, config)
        _check_sizes(native, tensors, config, path)
        self._native: NativeModel | None = native
        self.isa, self.max_tokens = native.isa, native.max_tokens
        self.precision, self.backend = native.precision, f"native {self.isa}"
        self.budget_tokens = BUDGETS[native.precision]
        self._threads, self._workers = threads, Workers(threads)
        self._room = None if max_memory_bytes is None else Room(max_memory_bytes)
        self.forget_threads()
        reset_in_children(self)

    def forget_threads(self) -> None:
        """See `forks.HasThreads`."""
        self._team = Team(self._threads) if self._threads > 1 else None
        self._workspaces = local()

    def encode(self, tokens: TokenBatch, advance: Advance | None = None, threads: int | None = None) -> Vectors:
        """See `Encoder.encode`.

        Raises:
            OutOfMemory: one text alone does not fit.
            InferenceError: a token is beyond the vocabulary or the positions, or a vector is not finite.
        """
        native = self._opened()
        _check(tokens, native)
        n_threads = min(threads or self._threads, self._threads)
        plan = self._plan(native, tokens.lengths, n_threads)
        groups = arrange(tokens, plan, native.pad_position) if plan else []
        team = self._team if len(groups) == 1 and n_threads == self._threads else None
        out = np.zeros((len(tokens), native.size), np.float32)

        def run(group: Group) -> None:
            if isinstance(group.rows, slice):
                self._run(native, group, out[group.rows], team)
            else:
                vectors = np.empty((len(group), native.size), np.float32)
                self._run(native, group, vectors, team)
                out[group.rows] = vectors
            if advance:
                advance(len(group))

        if self._room or (len(groups) > 1 and n_threads > 1):
            self._workers.run(run, groups, n_threads)
        else:
            for group in groups:
                run(group)
        return out

    def give_back(self) -> None:
        """See `Encoder.give_back`: each thread keeps a little, and gives more back at once."""

    def close(self) -> None:
        """See `Encoder.close`."""
        self._native = None
        self._workers.stop()
        if self._team:
            self._team.stop()

    def _opened(self) -> NativeModel:
        native = self._native
        if native is None:
            raise InferenceError("native", "the engine was closed")
        return native

    def _plan(self, native: NativeModel, lengths: Lengths, n_threads: int) -> list[Lengths]:
        """Groups of texts within the budget and the memory bound; a text without tokens is in none, its vector is 0."""
        rows = np.flatnonzero(lengths)
        if not len(rows):
            return []
        lengths = lengths[rows]
        n_tokens, longest = int(lengths.sum()), int(lengths.max())
        if not self._fits(native, longest, 1, longest):
            reason = f"max_memory_bytes={self._room and self._room.n_bytes} is too low for it"
            raise OutOfMemory(1, longest, reason=reason)
        is_little = n_tokens < _TEAM_TOKENS or (len(rows) < n_threads and n_tokens < _TINY_TOKENS * n_threads)
        if is_little and n_threads == self._threads and self._fits(native, n_tokens, len(rows), longest):
            return [rows]  # by all threads together
        budget = self.budget_tokens
        if n_threads > 1:
            budget = min(budget, even_budget(lengths, n_threads, tiny=_TINY_TOKENS))
        while budget > 1 and not self._fits(native, max(budget, longest), budget, longest, n_runs=n_threads):
            budget //= 2  # until all threads find room, or each text runs alone
        return [rows[group] for group in plan(lengths, budget)]

    def _fits(self, native: NativeModel, n_tokens: int, n_texts: int, longest: int, *, n_runs: int = 1) -> bool:
        if self._room is None:
            return True
        return n_runs * native.workspace_bytes(n_tokens, n_texts, longest, 1) <= self._room.n_bytes

    def _run(self, native: NativeModel, group: Group, out: Vectors, team: Team | None) -> None:
        longest = group.longest
        sizes = len(group.ids), len(group), longest
        n_bytes = native.workspace_bytes(*sizes, team.n_threads if team else 1)
        if self._room and n_bytes > self._room.n_bytes:  # of more threads: one alone fits, as was planned
            n_bytes, team = native.workspace_bytes(*sizes, 1), None
        with self._room.hold(n_bytes) if self._room else nullcontext():
            try:
                workspace = self._workspace(n_bytes)
            except MemoryError as error:
                raise OutOfMemory(len(group), longest, str(error)) from error
            native.encode(group, out, workspace, team)

    def _workspace(self, n_bytes: int) -> NDArray[np.uint8]:
        kept: NDArray[np.uint8] | None = getattr(self._workspaces, "kept", None)
        if kept is not None and len(kept) >= n_bytes:
            return kept
        workspace = np.empty(n_bytes, np.uint8)
        if n_bytes <= _KEPT_BYTES and self._room is None:  # what is kept would count as held
            self._workspaces.kept = workspace
        return workspace


def _check(tokens: TokenBatch, native: NativeModel) -> None:
    """The kernels look nothing up twice: what they get must be right."""
    refuse_beyond(native.n_words, tokens)
    longest = int(tokens.lengths.max(initial=0))
    if longest > native.max_tokens:
        raise InferenceError("native", f"a text of {longest} tokens, for {native.max_tokens} positions")


def _check_sizes(native: NativeModel, tensors: Tensors, config: ModelConfig, path: Path) -> None:
    """What the configuration says of vectors and of the poolings that the first step takes."""
    first = tensors.get("dense.0.weight")
    if first is not None and len(first) != native.pooled_size:
        reason = f"its first step takes {len(first)} components, its configuration's poolings give {native.pooled_size}"
        raise UnsupportedModel(str(path), reason)
    if native.size != config.dimension:
        reason = f"its vectors have {native.size} components, its configuration says otherwise"
        raise UnsupportedModel(str(path), reason)
