"""The wall around Hugging Face tokenizers: texts in, `TokenBatch` out, with no padding and a visible cut.

A tokenizer.json often carries the truncation and padding it was last used with (MiniLM's says 128 tokens, fixed).
Both are switched off here: texts are cut to the model's own limit, keeping the special tokens at both ends, and the
length before the cut is kept so that nothing is cut unseen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Encoding, normalizers
from tokenizers import Tokenizer as HfTokenizer

from .errors import InputError, ModelCorrupt, UnsupportedModel
from .types import Lengths, TokenBatch

_PROBE = "a"
_CHUNK_TEXTS = 128
_EMPTY = np.zeros(0, np.int32)


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
        self._inner = _load(path)
        self._file_padding = self._inner.padding
        self._inner.no_padding()
        self._inner.no_truncation()
        if lowercase:
            _add_lowercase(self._inner)
        self._prefix, self._suffix = _special_tokens(self._inner)
        self._n_content = max_tokens - len(self._prefix) - len(self._suffix)
        if self._n_content < 1:
            raise UnsupportedModel(str(path), f"max_tokens={max_tokens} leaves no room for a text")

    @property
    def pad_id(self) -> int:
        """The id that fills padding: the file's own, else that of the usual names."""
        if self._file_padding:  # MPNet's vocabulary holds a stray [PAD] besides the <pad> it uses
            return int(self._file_padding["pad_id"])
        known = (self._inner.token_to_id(token) for token in ("[PAD]", "<pad>"))
        return next((token_id for token_id in known if token_id is not None), 0)

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
        rows, full_lengths = [_EMPTY], []
        for encoding in self._encode(texts, prefix, first_index):
            content = encoding.ids
            full_lengths.append(len(content) + self._n_special)
            rows.append(np.array(self._prefix + content[: self._n_content] + self._suffix, np.int32))
        offsets = np.cumsum([len(row) for row in rows], dtype=np.int64)
        return TokenBatch(np.concatenate(rows), offsets, np.array(full_lengths, np.int64))

    def accept(self, sequences: Sequence[Sequence[int]]) -> TokenBatch:
        """Take ids of this very tokenizer, with its special tokens around each text, and cut them to the limit.

        Ids of another vocabulary (tiktoken's, say) would give a vector of something else; they lack the special tokens.

        Raises:
            InputError: a sequence is not of this tokenizer; with its index.
        """
        rows, full_lengths = [_EMPTY], []
        for index, sequence in enumerate(sequences):
            content = self._content(sequence, index)
            full_lengths.append(len(sequence))
            rows.append(np.array([*self._prefix, *content[: self._n_content], *self._suffix], np.int32))
        offsets = np.cumsum([len(row) for row in rows], dtype=np.int64)
        return TokenBatch(np.concatenate(rows), offsets, np.array(full_lengths, np.int64))

    def _content(self, sequence: Sequence[int], index: int) -> Sequence[int]:
        """A sequence without the special tokens it must have."""
        prefix, suffix, n_ids = self._prefix, self._suffix, self._inner.get_vocab_size()
        end = len(sequence) - len(suffix)
        framed = end >= len(prefix) and list(sequence[: len(prefix)]) == prefix and list(sequence[end:]) == suffix
        if not framed or not all(0 <= token < n_ids for token in sequence):
            reason = f"not token ids of this model: they are below {n_ids}, start with {prefix} and end with {suffix}"
            raise InputError(reason, index=index)
        return sequence[len(prefix) : end]

    def count(self, texts: Sequence[str], *, prefix: str = "") -> Lengths:
        """Tokens of each text before any cut, special tokens included: int64 (n,)."""
        return np.array([len(text) + self._n_special for text in self._encode(texts, prefix, 0)], np.int64)

    @property
    def _n_special(self) -> int:
        return len(self._prefix) + len(self._suffix)

    def _encode(self, texts: Sequence[str], prefix: str, first_index: int) -> Iterator[Encoding]:
        # An Encoding is many times as large as its ids: few at a time.
        for start in range(0, len(texts), _CHUNK_TEXTS):
            yield from self._encode_chunk(texts[start : start + _CHUNK_TEXTS], prefix, first_index + start)

    def _encode_chunk(self, texts: Sequence[str], prefix: str, first_index: int) -> list[Encoding]:
        try:
            prefixed = [prefix + text for text in texts]  # refuses ("a", "b"), which encode_batch takes for a pair
            if len(texts) == 1:  # no thread pool: 20 us less
                return [self._inner.encode(prefixed[0], add_special_tokens=False)]
            return self._inner.encode_batch_fast(prefixed, add_special_tokens=False)
        except (TypeError, UnicodeEncodeError) as error:
            raise _explain(texts, first_index) or error from error


def _load(path: Path) -> HfTokenizer:
    try:
        return HfTokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain Exception
        actual = "no such file" if not path.exists() else str(error)
        raise ModelCorrupt(str(path), expected="a tokenizer.json", actual=actual) from error


def _add_lowercase(tokenizer: HfTokenizer) -> None:
    normalizer = json.loads(tokenizer.to_str())["normalizer"]
    if not _has_lowercase(normalizer):
        inner = [tokenizer.normalizer] if tokenizer.normalizer else []
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *inner])


def _has_lowercase(normalizer: dict[str, object] | None) -> bool:
    match normalizer:
        case {"type": "Lowercase"} | {"lowercase": True}:
            return True
        case {"type": "Sequence", "normalizers": list(parts)}:
            return any(_has_lowercase(part) for part in parts)
    return False


def _special_tokens(tokenizer: HfTokenizer) -> tuple[list[int], list[int]]:
    """The ids that the file's template puts before and after a text."""
    encoding = tokenizer.encode(_PROBE)
    is_special = encoding.special_tokens_mask
    start = is_special.index(0) if 0 in is_special else len(is_special)
    end = len(is_special) - is_special[::-1].index(0) if 0 in is_special else len(is_special)
    return encoding.ids[:start], encoding.ids[end:]


def _explain(texts: Sequence[object], first_index: int) -> InputError | None:
    for index, text in enumerate(texts, first_index):
        if not isinstance(text, str):
            return InputError(f"expected a str, got {type(text).__name__}", index=index)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            reason = f"lone surrogate at character {error.start}; clean it with text.encode(errors='replace').decode()"
            return InputError(reason, index=index)
    return None
