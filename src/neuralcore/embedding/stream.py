"""Any number of texts through bounded memory: one window is encoded while the next one is tokenized."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np

from . import memory
from .arguments import Truncation
from .errors import InputError, OutOfMemory
from .tokenizer import Tokenizer
from .truncation import CutTexts
from .types import Lengths, TokenBatch, Vectors
from .workers import Workers

WINDOW_TEXTS = 1024
"""Texts of a window. Sorting by length within so many leaves little padding."""
WINDOW_CHARACTERS = 4_000_000
"""A window ends early when it holds this many characters, so that long texts do not add up."""

_ROOM_BYTES = 512 * memory.MIB
"""Of address space, for tokenizing beside a run: where a limit leaves less, the run may take all of it for a moment,
and a tokenizer that gets none ends the process."""


PART_TEXTS, PART_CHARACTERS = 64, 100_000
"""Of what is tokenized in turn with other calls: some milliseconds."""


class Reader:
    """Texts of one call to tokens: what is put before each of them, and which were too long.

    Args:
        tokenizer: of the model.
        prefix: put before each text.
        truncation: what to do with texts that are too long.
        max_tokens: the limit.
    """

    def __init__(self, tokenizer: Tokenizer, prefix: str, truncation: Truncation, max_tokens: int) -> None:
        self._tokenizer, self._prefix = tokenizer, prefix
        self._cut = CutTexts(truncation, max_tokens)

    def read(self, texts: Sequence[str], first_index: int) -> TokenBatch:
        """Tokens of some of the texts, the first of which has this number."""
        tokens = self._tokenizer.encode(texts, prefix=self._prefix, first_index=first_index)
        self._cut.add(tokens, first_index, lambda row: int(self.count([texts[row]])[0]))
        return tokens

    def read_parts(self, texts: Iterable[str], first_index: int) -> Iterator[TokenBatch]:
        """Tokens of all texts, a few of them at a time, each part when asked for."""
        for part in windows(texts, PART_TEXTS, PART_CHARACTERS):
            yield self.read(part, first_index)
            first_index += len(part)
        self.warn()

    def count(self, texts: Sequence[str]) -> Lengths:
        """Tokens of each text before any cut."""
        return self._tokenizer.count(texts, prefix=self._prefix)

    def warn(self) -> None:
        """Tell of all texts that were cut, if that was asked for."""
        self._cut.warn()


def empty_vectors(n_texts: int, dimension: int) -> Vectors:
    """Room for all vectors of a call, float32 (n, dimension).

    Raises:
        OutOfMemory: there is none.
    """
    try:
        return np.empty((n_texts, dimension), np.float32)
    except MemoryError as error:
        reason = f"their vectors take {4 * n_texts * dimension:,} bytes; embed_stream gives them in blocks"
        raise OutOfMemory.outside_of_runs(n_texts, reason) from error


def collect(blocks: Iterable[Vectors], n_texts: int, dimension: int) -> Vectors:
    """Blocks of a call's vectors as one array, float32 (n, dimension). Room is made before the first is asked for.

    Raises:
        OutOfMemory: there is none.
    """
    out, start = empty_vectors(n_texts, dimension), 0
    for block in blocks:
        out[start : start + len(block)] = block
        start += len(block)
    return out


def windows(
    texts: Iterable[str], n_texts: int = WINDOW_TEXTS, n_characters: int = WINDOW_CHARACTERS
) -> Iterator[list[str]]:
    """Cut an iterable into lists of at most `n_texts` texts and about `n_characters` characters.

    An element that is no str counts as empty; the tokenizer refuses it, with its number.
    """
    window: list[str] = []
    n_taken = 0
    for text in texts:
        window.append(text)
        n_taken += len(text) if isinstance(text, str) else 0
        if len(window) >= n_texts or n_taken >= n_characters:
            yield window
            window, n_taken = [], 0
    if window:
        yield window


def encode_windows(
    texts: Iterable[str],
    tokenize: Callable[[list[str], int], TokenBatch],
    encode: Callable[[TokenBatch], Vectors],
) -> Iterator[Vectors]:
    """Vectors of each window, in order.

    The iterable is read in the caller's thread only, one window ahead: cursors and files need not be shared.

    Args:
        texts: read as needed, never whole.
        tokenize: takes a window and the number of its first text.
        encode: takes a window's tokens.

    Raises:
        InputError: of `encode`, with the number of the text in all texts, not in its window.
    """
    first = 0
    tokens: TokenBatch | None = None
    worker = Workers(1)
    try:
        for window in windows(texts):
            if tokens is None:
                tokens = tokenize(window, first)
            else:
                has_room = memory.has_room(_ROOM_BYTES)
                following = worker.begin(partial(_apply, tokenize), [(window, first)]) if has_room else None
                yield _numbered(encode, tokens, first - len(tokens))
                tokens = following.finish()[0] if following else tokenize(window, first)
            first += len(window)
        if tokens is not None:
            yield _numbered(encode, tokens, first - len(tokens))
    finally:
        worker.stop()


def _apply(tokenize: Callable[[list[str], int], TokenBatch], window: tuple[list[str], int]) -> TokenBatch:
    return tokenize(*window)


def _numbered(encode: Callable[[TokenBatch], Vectors], tokens: TokenBatch, first: int) -> Vectors:
    try:
        return encode(tokens)
    except InputError as error:
        raise error.moved(first) from error
