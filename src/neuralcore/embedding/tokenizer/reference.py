"""The wall around Hugging Face tokenizers: reads any tokenizer.json, takes any text, and says what ids are right."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import numpy as np

from .. import memory
from ..errors import ModelCorrupt, OutOfMemory
from ..forks import reset_in_children
from .ragged import Ragged
from .unigram import LEAST_BYTES, Unigram, read_unigram
from .vocabulary import read_vocabulary, write_vocabulary

with memory.loading("tokenizers", 24 * memory.MIB):
    from tokenizers import Tokenizer as HfTokenizer
    from tokenizers import normalizers

_PROBE = "a"
_BYTES_PER_FILE_BYTE = 16  # of a loaded tokenizer.json
WORKING_BYTES = 256  # of Hugging Face for a byte of text; 125 to 220 were measured
_LEAST_BYTES = 16 * memory.MIB
_CHUNK_TEXTS = 128
FEW_CHARACTERS = 2_000_000
"""Of texts that a large Unigram vocabulary is read in parts for; then all of it is loaded, which takes the processor
time that parts take for about so many more than Hugging Face."""
T = TypeVar("T")
_log = logging.getLogger(__name__)
_LONG_CHARACTERS = 1_000  # some 0.3 ms: Hugging Face holds the GIL for one text, not for a list


@dataclass(frozen=True, slots=True)
class Added:
    """An added token, and how it is looked for."""

    content: str
    normalized: bool
    has_flags: bool  # lstrip, rstrip or single_word: what stands beside it matters


@dataclass(frozen=True, slots=True)
class Structure:
    """What a tokenizer does to a text: the JSON of its parts, as in a tokenizer.json.

    Args:
        normalizer: None if it has none.
        pre_tokenizer: None if it has none.
        model: its type, "WordPiece" say; "" for a random one.
        word_limit: characters of the longest word that WordPiece looks at.
        added: its added tokens.
    """

    normalizer: dict[str, Any] | None
    pre_tokenizer: dict[str, Any] | None
    model: str
    word_limit: int | None
    added: list[Added]


class Reference:
    """A tokenizer.json without its truncation and padding.

    A large Unigram vocabulary is read in parts (unigram.py) until there have been `FEW_CHARACTERS`.

    Args:
        path: the tokenizer.json.
        lowercase: lower the case first, unless the file's own normalizer does.
        document: what to read instead of the file, which is still the one to name.

    Raises:
        ModelCorrupt: not a tokenizer.json.
    """

    def __init__(self, path: Path, *, lowercase: bool, document: str | None = None) -> None:
        self._path, self._lowercase, self._document = path, lowercase, document
        self._unigram, self._n_characters = _open_unigram(path, document), 0
        self._stamp = _stamp_of(path)
        self._inner = self._unigram.parts if self._unigram else _load(path, document)
        self._file_padding = self._inner.padding
        self._file_truncation = self._inner.truncation
        self._prepare(self._inner)
        self.forget_threads()
        reset_in_children(self)

    def forget_threads(self) -> None:
        """See `forks.HasThreads`."""
        self._lock = RLock()

    def _prepare(self, inner: HfTokenizer) -> None:
        inner.no_padding()
        inner.no_truncation()
        if self._lowercase:
            _add_lowercase(inner)

    @property
    def pad_id(self) -> int:
        """The id that fills padding: the file's own, else that of the usual names."""
        if self._file_padding:  # all-mpnet-base-v2's vocabulary holds a stray [PAD] besides the <pad> it uses
            return int(self._file_padding["pad_id"])
        find = self._unigram.id_of if self._unigram else self._inner.token_to_id
        known = (find(token) for token in ("[PAD]", "<pad>"))
        return next((token_id for token_id in known if token_id is not None), 0)

    @property
    def keeps_end(self) -> bool:
        """Whether a text that is too long loses its beginning: the file's truncation has the direction left."""
        return self._file_truncation is not None and self._file_truncation["direction"] == "left"

    @property
    def n_ids(self) -> int:
        """Ids are below this."""
        return self._unigram.n_ids if self._unigram else int(self._inner.get_vocab_size())

    def special_tokens(self) -> tuple[list[int], list[int]]:
        """The ids that the file's template puts before and after a text."""
        encoding = self._translated(lambda: self._inner.encode(_PROBE))
        is_special = encoding.special_tokens_mask
        start = is_special.index(0) if 0 in is_special else len(is_special)
        end = len(is_special) - is_special[::-1].index(0) if 0 in is_special else len(is_special)
        return encoding.ids[:start], encoding.ids[end:]

    def encode(self, texts: Sequence[str]) -> Ragged:
        """The ids of texts, without special tokens and not cut.

        Raises:
            TypeError, UnicodeEncodeError: not a str, or one with lone surrogates.
            ModelCorrupt: the tokenizer cannot do it.
        """
        if unigram := self._find_unigram(texts):
            return Ragged.of([np.array(row, np.int32) for row in self._look_up(unigram, texts)])
        if len(texts) == 1 and len(texts[0]) <= _LONG_CHARACTERS:  # no thread pool: 20 us less
            one = self._translated(lambda: self._inner.encode(texts[0], add_special_tokens=False))
            ids = np.array(one.ids, np.int32)
            return Ragged(ids, np.array([len(ids)], np.int64))
        # An Encoding is many times as large as its ids: few at a time.
        starts = range(0, len(texts), _CHUNK_TEXTS)
        rows = [row for start in starts for row in self._encode_chunk(texts[start : start + _CHUNK_TEXTS])]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return Ragged(np.fromiter(chain.from_iterable(rows), np.int32, int(lengths.sum())), lengths)

    def _find_unigram(self, texts: Sequence[str]) -> Unigram | None:
        """What reads its vocabulary in parts; None once all of it is loaded."""
        unigram = self._unigram
        if unigram is None:
            return None
        self._n_characters += sum(map(len, texts))
        # While one thread loads, others go on without.
        if self._n_characters > FEW_CHARACTERS and self._lock.acquire(blocking=False):
            try:
                self._load_whole()
            finally:
                self._lock.release()
        return self._unigram

    def _load_whole(self) -> None:
        if self._unigram is None or _stamp_of(self._path) != self._stamp:
            return  # another file by now: parts go on
        try:
            inner = _load(self._path, self._document)
        except (ModelCorrupt, OutOfMemory) as error:
            _log.info("a vocabulary is read in parts, because it cannot be loaded: %s", error)
            self._stamp = None
            return
        self._prepare(inner)
        self._inner, self._unigram, self._document = inner, None, None

    def _look_up(self, unigram: Unigram, texts: Sequence[str]) -> list[list[int]]:
        memory.require(_LEAST_BYTES + WORKING_BYTES * sum(map(len, texts)), f"tokenizing {len(texts)} text(s)")
        return self._translated(lambda: unigram.encode(texts))

    def structure(self) -> Structure:
        """What it does to a text."""
        inner, model = self._inner, self._inner.model
        tokens = inner.get_added_tokens_decoder().values()
        return Structure(
            json.loads(inner.normalizer.__getstate__()) if inner.normalizer else None,
            json.loads(inner.pre_tokenizer.__getstate__()) if inner.pre_tokenizer else None,
            "" if getattr(model, "dropout", None) else type(model).__name__,
            getattr(model, "max_input_chars_per_word", None),
            [Added(each.content, each.normalized, each.lstrip or each.rstrip or each.single_word) for each in tokens],
        )

    def words(self, text: str) -> tuple[str, list[str]]:
        """A text normalized, and cut into words by the pre-tokenizer; only of a tokenizer that has one."""
        normalized = self._inner.normalizer.normalize_str(text) if self._inner.normalizer else text
        return normalized, [word for word, _ in self._inner.pre_tokenizer.pre_tokenize_str(normalized)]

    def _encode_chunk(self, texts: Sequence[str]) -> list[list[int]]:
        n_bytes = _LEAST_BYTES + WORKING_BYTES * sum(map(len, texts))
        memory.require(n_bytes, f"tokenizing {len(texts)} text(s)")
        encodings = self._translated(lambda: self._inner.encode_batch_fast(texts, add_special_tokens=False))
        return [encoding.ids for encoding in encodings]

    def _translated(self, encode: Callable[[], T]) -> T:
        try:
            return encode()
        except BaseException as error:  # of the tokenizer: a token for what is unknown that is no piece, say
            _raise_unless_foreign(error)
            actual = f"one that fails: {error}"
            raise ModelCorrupt(str(self._path), expected="a tokenizer for any text", actual=actual) from error


def _raise_unless_foreign(error: BaseException) -> None:
    """Raise what is of the text or of a signal's handler. The library's own are plain Exception, and what Rust calls a
    panic, whose class cannot be imported.
    """
    if type(error) is not Exception and type(error).__name__ != "PanicException":
        raise error


def _load(path: Path, document: str | None) -> HfTokenizer:
    n_bytes = _LEAST_BYTES + _BYTES_PER_FILE_BYTE * _size_of(path)
    return _opened(path, n_bytes, HfTokenizer.from_file if document is None else HfTokenizer.from_str, document)


def _opened(path: Path, n_bytes: int, make: Callable[[str], HfTokenizer], document: str | None) -> HfTokenizer:
    try:
        memory.require(n_bytes, f"loading {path}")
        return make(str(path) if document is None else document)
    except MemoryError as error:
        raise OutOfMemory.before_texts(str(error)) from error
    except BaseException as error:
        _raise_unless_foreign(error)
        actual = "no such file" if not path.exists() else str(error)
        raise ModelCorrupt(str(path), expected="a tokenizer.json", actual=actual) from error


def _open_unigram(path: Path, document: str | None) -> Unigram | None:
    """A large Unigram vocabulary; None where Hugging Face is to read it whole, or to say what is wrong with it."""
    if (_size_of(path) if document is None else len(document)) < LEAST_BYTES:
        return None
    load = partial(_opened, path, _LEAST_BYTES, HfTokenizer.from_str)
    try:
        if document is None and (kept := read_vocabulary(path, load)):
            return kept
        text = path.read_text(encoding="utf-8") if document is None else document
        if '"Unigram"' not in text:
            return None
        memory.require(_LEAST_BYTES + _BYTES_PER_FILE_BYTE * len(text), f"loading {path}")
        return read_unigram(text, load)
    except (OSError, UnicodeDecodeError, ModelCorrupt):
        return None
    except MemoryError as error:
        raise OutOfMemory.before_texts(str(error) or f"loading {path}") from error


def keep_vocabulary(path: Path) -> None:
    """Write what makes a tokenizer.json in the cache open sooner, if its kind has such a thing."""
    if _size_of(path) < LEAST_BYTES:
        return
    with suppress(UnicodeDecodeError, ModelCorrupt, OutOfMemory):  # which it does without
        write_vocabulary(path, partial(_opened, path, _LEAST_BYTES, HfTokenizer.from_str))


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


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
