"""Cached files that turn out damaged when they are used are made again, once; only then is it an error."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from .errors import InferenceError, ModelCorrupt
from .forks import reset_in_children
from .types import Advance, Encoder, TokenBatch, Vectors

L = TypeVar("L")
E = TypeVar("E")
_log = logging.getLogger(__name__)


def open_whole(
    locate: Callable[[bool], L], opened: Callable[[L], E], *, verify: bool
) -> tuple[E, Callable[[], E | None]]:
    """Open what was located; if a file of it is damaged, compare every hash, make it again, and open that.

    Args:
        locate: finds the files, thoroughly or not. What it gives differs when something was made again.
        opened: opens them.
        verify: look thoroughly at once.

    Returns:
        What was opened, and how to try once more later: None if nothing is damaged.

    Raises:
        ModelCorrupt: it is damaged though its hashes are right, or it cannot be made again.
    """
    found = locate(verify)

    def again() -> E | None:
        whole = locate(True)
        return opened(whole) if whole != found else None

    try:
        return opened(found), again
    except ModelCorrupt as error:
        _log.warning("%s Its hashes are compared.", error)
        engine = again()
        if engine is None:
            raise
        return engine, lambda: None


class HealingEncoder:
    """An encoder that is opened anew, once, when its vectors are not finite because its files are damaged.

    Args:
        encoder: the one to begin with.
        reopen: opens files made again; None if they were not damaged.
    """

    def __init__(self, encoder: Encoder, reopen: Callable[[], Encoder | None]) -> None:
        self._encoder, self._reopen = encoder, reopen
        self._tried = False
        self.forget_threads()
        reset_in_children(self)

    def forget_threads(self) -> None:
        """See `forks.HasThreads`."""
        self._lock = Lock()

    @property
    def device(self) -> str:
        """See `Encoder.device`."""
        return self._encoder.device

    @property
    def takes_sentence(self) -> bool:
        """See `Encoder.takes_sentence`."""
        return self._encoder.takes_sentence

    @property
    def backend(self) -> str:
        """See `Encoder.backend`."""
        return self._encoder.backend

    def encode(self, tokens: TokenBatch, advance: Advance | None = None, threads: int | None = None) -> Vectors:
        """See `Encoder.encode`."""
        encoder = self._encoder
        try:
            return encoder.encode(tokens, advance, threads)
        except InferenceError as error:
            if error.finite or not self._heal(encoder):
                raise
        return self._encoder.encode(tokens, advance, threads)

    def give_back(self) -> None:
        """See `Encoder.give_back`."""
        self._encoder.give_back()

    def close(self) -> None:
        """See `Encoder.close`."""
        self._tried = True
        self._encoder.close()

    def _heal(self, failed: Encoder) -> bool:
        with self._lock:  # the first thread that fails heals, the others wait for it
            if not self._tried:
                self._tried = True
                _log.warning("a vector is not finite: the hashes of the model's files are compared")
                self._encoder = self._reopen() or failed
            return self._encoder is not failed
