"""Texts in, `TokenBatch` out, with no padding and a visible cut.

A tokenizer.json often carries the truncation and padding it was last used with (MiniLM's says 128 tokens, fixed).
Both are switched off here: texts are cut to the model's own limit, keeping the special tokens at both ends, and the
length before the cut is kept so that nothing is cut unseen. Of the file's truncation only its direction counts: left
means that the end of a text is kept, not its beginning.

Two backends read the same file: Hugging Face tokenizers (reference.py) any file and any text, tokie (fast.py) those for
which equal ids are proven (proven.py). Which one runs can be seen in the time only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..arguments import describe_other
from ..errors import InputError, UnsupportedModel
from ..types import Lengths, TokenBatch
from .fast import FastLater
from .proven import mark_proven
from .ragged import Ragged, frame, merge
from .reference import Reference


class Tokenizer:
    """A tokenizer.json, corrected for embedding.

    Args:
        path: the tokenizer.json.
        max_tokens: texts are cut to this many tokens, special tokens included.
        lowercase: lower the case first, unless the file's own normalizer does.

    Raises:
        ModelCorrupt: not a tokenizer.json.
        UnsupportedModel: special tokens alone fill the limit.
    """

    def __init__(self, path: Path, *, max_tokens: int, lowercase: bool = False) -> None:
        self._reference = Reference(path, lowercase=lowercase)
        self._fast = FastLater(path, self._reference)
        self._prefix, self._suffix = self._reference.special_tokens()
        self._n_special = len(self._prefix) + len(self._suffix)
        self._n_content = max_tokens - self._n_special
        if self._n_content < 1:
            raise UnsupportedModel(str(path), f"max_tokens={max_tokens} leaves no room for a text")

    @property
    def pad_id(self) -> int:
        """The id that fills padding: the file's own, else that of the usual names."""
        return self._reference.pad_id

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
            The tokens, special tokens included, unpadded.

        Raises:
            InputError: an element is not a str, or holds lone surrogates; with its index.
        """
        content = self._encode(texts, prefix, first_index)
        return self._framed(content)

    def accept(self, sequences: Sequence[Sequence[int]]) -> TokenBatch:
        """Take ids of this very tokenizer, with its special tokens around each text, and cut them to the limit.

        Ids of another vocabulary (tiktoken's, say) would give a vector of something else; they lack the special tokens.

        Raises:
            InputError: a sequence is not of this tokenizer; with its index.
        """
        rows = [np.array(self._content(sequence, index), np.int32) for index, sequence in enumerate(sequences)]
        lengths = np.array([len(row) for row in rows], np.int64)
        return self._framed(Ragged(np.concatenate([*rows, np.zeros(0, np.int32)]), lengths))

    def _framed(self, content: Ragged) -> TokenBatch:
        """Content cut to the limit, with the special tokens around it."""
        kept = content.cut(self._n_content, keeps_end=self.keeps_end)
        ids, offsets = frame(kept, self._prefix, self._suffix)
        return TokenBatch(ids, offsets, content.lengths + self._n_special)

    def _content(self, sequence: Sequence[int], index: int) -> Sequence[int]:
        """A sequence without the special tokens it must have."""
        prefix, suffix, n_ids = self._prefix, self._suffix, self._reference.n_ids
        end = len(sequence) - len(suffix)
        framed = end >= len(prefix) and list(sequence[: len(prefix)]) == prefix and list(sequence[end:]) == suffix
        if not framed or not all(0 <= token < n_ids for token in sequence):
            reason = f"not token ids of this model: they are below {n_ids}, start with {prefix} and end with {suffix}"
            raise InputError(reason, index=index)
        return sequence[len(prefix) : end]

    def count(self, texts: Sequence[str], *, prefix: str = "") -> Lengths:
        """Tokens of each text before any cut, special tokens included: int64 (n,)."""
        return self._encode(texts, prefix, 0).lengths + self._n_special

    def _encode(self, texts: Sequence[str], prefix: str, first_index: int) -> Ragged:
        try:
            prefixed = [prefix + text for text in texts]  # refuses ("a", "b"), which Hugging Face takes for a pair
            if not all(isinstance(text, str) for text in prefixed):  # an array of two texts is added to as well
                raise TypeError("not a str")
            return self._encode_fast_or_not(prefixed)
        except (TypeError, UnicodeEncodeError) as error:
            raise _explain(texts, first_index) or error from error

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
