"""Texts in, `TokenBatch` out, with no padding and a visible cut.

A tokenizer.json often carries the truncation and padding it was last used with (MiniLM's says 128 tokens, fixed).
Both are switched off here: texts are cut to the model's own limit, keeping the special tokens at both ends, and the
length before the cut is kept so that nothing is cut unseen. Of the file's truncation only its direction counts: left
means that the end of a text is kept, not its beginning. Of a long text, only as much is tokenized as its limit needs,
in pieces that change no id (pieces.py); `count` reads all of it, in bounded memory.

Two backends read the same file: Hugging Face tokenizers (reference.py) any file and any text, tokie (fast.py) those for
which equal ids are proven (proven.py). Which one runs can be seen in the time only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import memory
from ..arguments import describe_other
from ..errors import InputError, OutOfMemory, UnsupportedModel
from ..types import Lengths, TokenBatch
from .fast import FastLater
from .files import files_beside, read_effective, read_passed_on, write_effective
from .pieces import PIECE_CHARACTERS, Pieces
from .proven import mark_proven
from .ragged import Ragged, frame, merge
from .reference import WORKING_BYTES, Reference

__all__ = ["Tokenizer", "files_beside", "read_passed_on", "write_effective"]

T = TypeVar("T")
_TELLING = (
    "The cat sat on the Mat", " two  blanks\tand\nlines ", "R\u00e9sum\u00e9 \u00c5ngstr\u00f6m e\u0301",
    "\u732b\u5750\u4e0b", "[CLS] [MASK]<s><mask> </s>[SEP]", "don't 3.14 x-ray``s''", "\ufb01 \uff21 \u2026",
)  # fmt: skip
"""What one setting of a tokenizer or another decides about."""

_CHARACTERS_PER_TOKEN = 8  # of most languages, from above
_COUNTED_CHARACTERS = 262_144  # tokenized at once when all of a text is counted, or there is no limit
_CHECKED_CHARACTERS = 262_144
_WHOLE_CHARACTERS = 1_000_000  # of a piece without a boundary: beyond, see whether there is memory


class Tokenizer:
    """A tokenizer.json, corrected for embedding.

    Args:
        path: the tokenizer.json.
        max_tokens: texts are cut to this many tokens, special tokens included.
        lowercase: lower the case first, unless the file's own normalizer does.
        bare: take the file alone, whatever lies beside it, and put no special tokens around texts.

    Raises:
        ModelCorrupt: not a tokenizer.json.
        UnsupportedModel: special tokens alone fill the limit.
    """

    def __init__(self, path: Path, *, max_tokens: int, lowercase: bool = False, bare: bool = False) -> None:
        document = None if bare else read_effective(path)
        self._reference = Reference(path, lowercase=lowercase, document=document)
        self._fast = FastLater(path, self._reference, document)
        self._pieces = Pieces(self._reference)
        self._prefix, self._suffix = ([], []) if bare else self._reference.special_tokens()
        self._n_special = len(self._prefix) + len(self._suffix)
        self._n_content = max_tokens - self._n_special
        if self._n_content < 1:
            raise UnsupportedModel(str(path), f"max_tokens={max_tokens} leaves no room for a text")

    @property
    def pad_id(self) -> int:
        """The id that fills padding: the file's own, else that of the usual names."""
        return self._reference.pad_id

    @property
    def digest(self) -> str:
        """What tells this tokenizer from another: hexadecimal, of the ids of some texts and the end that is kept."""
        content = self._reference.encode(_TELLING)
        told = [content.ids.tolist(), content.lengths.tolist(), self._prefix, self._suffix, self.keeps_end]
        return blake2b(json.dumps(told).encode(), digest_size=8).hexdigest()

    @property
    def keeps_end(self) -> bool:
        """Whether a text that is too long keeps its last tokens, and not its first."""
        return self._reference.keeps_end

    def encode(self, texts: Sequence[str], *, prefix: str = "", first_index: int = 0) -> TokenBatch:
        """Tokenize texts and cut them to the limit.

        Args:
            texts: the texts.
            prefix: put before each text.
            first_index: the number of the first text, for error messages.

        Returns:
            The tokens, special tokens included, unpadded. Of a text with many more characters than the limit needs,
            `full_lengths` holds a number beyond the limit, at least the length before the cut: see `count`.

        Raises:
            InputError: an element is not a str, or holds lone surrogates; with its index.
            OutOfMemory: no memory to tokenize them in.
        """
        return self._framed(self._explained(self._encode, texts, prefix, first_index))

    def accept(self, sequences: Sequence[Sequence[int]], *, first_index: int = 0) -> TokenBatch:
        """Take ids of this very tokenizer, with its special tokens around each text, and cut them to the limit.

        Ids of another vocabulary (tiktoken's, say) would give a vector of something else; they lack the special tokens.

        Raises:
            InputError: a sequence is not of this tokenizer; with its index.
        """
        return self._framed(
            Ragged.of([self._content(each, index) for index, each in enumerate(sequences, first_index)])
        )

    def _framed(self, content: Ragged) -> TokenBatch:
        """Content cut to the limit, with the special tokens around it."""
        kept = content.cut(self._n_content, keeps_end=self.keeps_end)
        ids, offsets = frame(kept, self._prefix, self._suffix)
        return TokenBatch(ids, offsets, content.lengths + self._n_special)

    def _content(self, sequence: Sequence[int], index: int) -> NDArray[np.int32]:
        """A sequence without the special tokens it must have."""
        prefix, suffix, n_ids = self._prefix, self._suffix, self._reference.n_ids
        ids = _integers(sequence)
        end = len(ids) - len(suffix)
        framed = end >= len(prefix) and ids[: len(prefix)].tolist() == prefix and ids[end:].tolist() == suffix
        if not framed or not 0 <= int(ids.min(initial=0)) <= int(ids.max(initial=0)) < n_ids:
            reason = f"not token ids of this model: they are below {n_ids}, start with {prefix} and end with {suffix}"
            raise InputError(reason, index=index)
        return ids[len(prefix) : end].astype(np.int32)

    def count(self, texts: Sequence[str], *, prefix: str = "") -> Lengths:
        """Tokens of each text before any cut, special tokens included: int64 (n,)."""
        return self._explained(self._count, texts, prefix, 0) + self._n_special

    def _explained(self, read: Callable[[list[str]], T], texts: Sequence[str], prefix: str, first_index: int) -> T:
        try:
            prefixed = [prefix + text for text in texts]  # refuses ("a", "b"), which Hugging Face takes for a pair
            if not all(isinstance(text, str) for text in prefixed):  # an array of two texts is added to as well
                raise TypeError("not a str")
            return read(prefixed)
        except (TypeError, UnicodeEncodeError) as error:
            raise _explain(texts, first_index) or error from error
        except MemoryError as error:
            raise OutOfMemory.outside_of_runs(len(texts), str(error) or "tokenizing them") from error

    def _count(self, texts: list[str]) -> Lengths:
        counts = np.zeros(len(texts), np.int64)
        pieces = ((row, piece) for row, text in enumerate(texts) for piece in self._all_pieces(text))
        for some in _some(pieces, _COUNTED_CHARACTERS):
            lengths = self._encode_fast_or_not([piece for _, piece in some]).lengths
            np.add.at(counts, [row for row, _ in some], lengths)
        return counts

    def _all_pieces(self, text: str) -> Iterator[str]:
        if len(text) <= PIECE_CHARACTERS:
            return iter([text])
        return map(_reserve, self._pieces.forward(text))

    def _encode(self, texts: list[str]) -> Ragged:
        """All ids of short texts; of a long one more than the limit, if it has so many."""
        n_characters = max(PIECE_CHARACTERS, min(_CHARACTERS_PER_TOKEN * self._n_content, _COUNTED_CHARACTERS))
        long = [row for row, text in enumerate(texts) if len(text) > 2 * n_characters]
        if not long:
            return self._encode_fast_or_not(texts)
        rests: dict[int, Iterator[str]] = {}
        for row in long:
            _check(texts[row])
            read = self._pieces.backward if self.keeps_end else self._pieces.forward
            rests[row] = map(_reserve, read(texts[row], n_characters))
            texts[row] = next(rests[row])
        content = self._encode_fast_or_not(texts)
        if all(content.lengths[row] > self._n_content for row in long):
            return content
        parts = content.parts()
        for row in long:
            parts[row] = self._read_on(parts[row], rests[row])
        return Ragged.of(parts)

    def _read_on(self, ids: NDArray[np.int32], rest: Iterator[str]) -> NDArray[np.int32]:
        read, n_read = [ids], len(ids)
        while n_read <= self._n_content and (piece := next(rest, None)) is not None:
            read.append(self._encode_fast_or_not([piece]).ids)
            n_read += len(read[-1])
        return np.concatenate(read[::-1] if self.keeps_end else read)

    def _encode_fast_or_not(self, texts: list[str]) -> Ragged:
        fast = self._fast.get(len(texts))
        if fast is None:
            return self._reference.encode(texts)
        proven = mark_proven(texts)
        if all(proven):
            return fast.encode(texts)
        return merge(
            np.array(proven),
            fast.encode([text for text, is_proven in zip(texts, proven, strict=True) if is_proven]),
            self._reference.encode([text for text, is_proven in zip(texts, proven, strict=True) if not is_proven]),
        )


def _explain(texts: Sequence[object], first_index: int) -> InputError | None:
    for index, text in enumerate(texts, first_index):
        if not isinstance(text, str):
            return InputError(describe_other(text), index=index)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            reason = f"lone surrogate at character {error.start}; clean it with text.encode(errors='replace').decode()"
            return InputError(reason, index=index)
    return None


def _some(pieces: Iterable[tuple[int, str]], n_characters: int) -> Iterator[list[tuple[int, str]]]:
    """Pieces in lists of about so many characters."""
    some: list[tuple[int, str]] = []
    n_taken = 0
    for pair in pieces:
        some.append(pair)
        n_taken += len(pair[1]) + 1
        if n_taken >= n_characters:
            yield some
            some, n_taken = [], 0
    if some:
        yield some


def _integers(sequence: Sequence[int]) -> NDArray[Any]:
    """Integers as an array; what holds anything else is empty."""
    try:
        ids = np.asarray(sequence)
    except ValueError:  # lists of several lengths
        return np.zeros(0, np.int64)
    return ids if ids.ndim == 1 and ids.dtype.kind in "iu" else np.zeros(0, np.int64)


def _check(text: str) -> None:
    """Refuse a lone surrogate where nobody may read: in steps, because each holds the GIL."""
    if not text.isascii():
        for start in range(0, len(text), _CHECKED_CHARACTERS):
            text[start : start + _CHECKED_CHARACTERS].encode()


def _reserve(piece: str) -> str:
    """Raise MemoryError where Hugging Face tokenizers would end the process."""
    if len(piece) > _WHOLE_CHARACTERS:
        purpose = f"tokenizing {len(piece):,} characters without a place to cut"
        memory.require(WORKING_BYTES * len(piece.encode()), purpose)
    return piece
