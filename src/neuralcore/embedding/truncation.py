"""Texts that are longer than the model's limit: counted, told once, or refused."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

import numpy as np

from .arguments import Truncation
from .errors import InputError
from .types import TokenBatch

_PACKAGE = __name__.partition(".")[0] + "."


class CutTexts:
    """The texts that one call has cut so far: how many, and which was the first. Texts themselves are not kept.

    Args:
        mode: what the engine was asked to do with them.
        limit: in tokens.
    """

    def __init__(self, mode: Truncation, limit: int) -> None:
        self._mode, self._limit = mode, limit
        self._n_texts = 0
        self._first = ""

    def add(self, tokens: TokenBatch, first_index: int, count: Callable[[int], int] | None = None) -> None:
        """Note what was cut.

        Args:
            tokens: some of the call's texts.
            first_index: the number of the first of them.
            count: gives the tokens of a text, by its place in `tokens`: long ones were not read to their end. Called
                for the one text that a message tells of; without it, the message says no more than that it is too long.

        Raises:
            InputError: there is one, and cutting is not allowed.
        """
        cut = np.flatnonzero(tokens.full_lengths > tokens.lengths)
        if not len(cut) or self._mode == "truncate":
            return
        index = first_index + int(cut[0])
        if self._mode == "error":
            n_tokens = count(int(cut[0])) if count else f"more than {self._limit}"
            reason = f"{n_tokens} tokens, the limit is {self._limit}; split it, or allow truncation='warn'"
            raise InputError(reason, index=index, limit=self._limit)
        if not self._first and count:
            self._first = f"; the first is text {index} with {count(int(cut[0]))}"
        self._n_texts += len(cut)

    def warn(self) -> None:
        """Tell of all of them in one warning, if that was asked for."""
        if self._mode == "warn" and self._n_texts:
            n_texts = "1 text was" if self._n_texts == 1 else f"{self._n_texts} texts were"
            warnings.warn(f"{n_texts} cut to {self._limit} tokens{self._first}", stacklevel=_level_of_caller())


def _level_of_caller() -> int:
    """For `warnings.warn` in the function that calls this: the first frame that is not the package's own."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level
