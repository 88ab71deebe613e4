"""The wall around tokie, several times as fast: used where its ids are proven equal, once loading it pays."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import RLock
from typing import Any

import numpy as np

from .. import memory
from ..forks import reset_in_children
from ..workers import Workers
from .proven import find_doubt, find_doubt_of_kind, proven_ranges
from .ragged import Ragged
from .reference import Reference

PROVEN_VERSION = "0.1.4"
WORTH_TEXTS = 1_500
"""Loading takes the processor time of Hugging Face for so many sentences (`python -m benchmarks.tokenization`): whoever
has fewer never pays for it."""

_PROBES = (
    "", " ", "\t\r\n", "\x00\x01\x1f", "a\x00b \u200b c\u2060d", "The quick brown fox's 3.14 tokens, e.g. re-use!",
    "UNBELIEVABLE \u0130stanbul \u039f\u0394\u039f\u03a3 stra\xdfe \u1e9e \ufb01ne", "e\u0301\u0327 \u0915\u094d\u0937",
    "\u6f22\u5b57kana\u304c\u304b\u3099 \uac00\u1100\u1161\u11a8", "\u05e9\u05b8\u05dc\u05d5\u05dd \u0645\u064e\u0631",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f \U0001f1e9\U0001f1ea", "\xa0\u3000\u2028\u2029\x85\xad",
    "[CLS][SEP] [MASK]a[PAD] [cls]", "</s><s>x <mask>  <mask> <pad> <UNK> <u\u0301nk>", "##ing # ## [unused1]",
    "a" * 99, "a" * 100, "a" * 101, "\u0436" * 100, "\u0436" * 101, "zqxj" * 20, "\ufffd\ufffc\u20ac\u2026\u201c\u2014",
)  # fmt: skip
_PROBE_STEP = 400  # every so many code points of a run: with the probes 2 ms

_ROOM_BYTES = 256 * memory.MIB
"""Of address space, for tokie's threads, which end the process where there is less; 130 were measured with two."""

_log = logging.getLogger(__name__)


class Fast:
    """tokie's tokenizer, for proven texts only."""

    def __init__(self, inner: Any) -> None:  # tokie.Tokenizer, whose stubs lack encode_batch_flat
        self._inner = inner
        self._inner.no_padding()
        self._inner.no_truncation()

    def encode(self, texts: list[str]) -> Ragged:
        """The ids of texts, without special tokens and not cut."""
        ids, lengths = self._inner.encode_batch_flat(texts, False)
        return Ragged(ids.view(np.int32), lengths.view(np.int64))


class FastLater:
    """Loads tokie once that pays; until then, and wherever its ids are not proven, there is none.

    Args:
        path: the tokenizer.json.
        reference: what has read it already.
        document: what to read instead of the file.
    """

    def __init__(self, path: Path, reference: Reference, document: str | None = None) -> None:
        self._path, self._reference, self._document = path, reference, document
        self._fast: Fast | None = None
        self._n_texts = 0
        self._is_settled = False
        self.forget_threads()
        reset_in_children(self)

    def forget_threads(self) -> None:
        """See `forks.HasThreads`."""
        # One that a signal handler's exception left locked is open to the same thread, and the others go on without.
        self._lock = RLock()

    def get(self, n_texts: int) -> Fast | None:
        """What to tokenize so many more texts with, or None for the reference."""
        if not memory.has_room(_ROOM_BYTES):
            return None
        if not self._is_settled:
            self._n_texts += n_texts
            # While one thread loads, others go on without.
            if self._n_texts >= WORTH_TEXTS and self._lock.acquire(blocking=False):
                self._settle()
        return self._fast

    def _load(self, path: Path) -> Fast | None:
        return load_fast(path, self._reference, self._document)

    def _settle(self) -> None:
        try:
            if not self._is_settled:
                # In a thread of its own: what a signal handler raises while tokie loads would come out as its panic.
                self._fast = Workers(1).run(self._load, [self._path])[0]
                self._is_settled, self._document = True, None
        finally:
            self._lock.release()


def load_fast(path: Path, reference: Reference, document: str | None = None) -> Fast | None:
    """Read a tokenizer.json with tokie; None, and the reason in the log, where Hugging Face has to serve.

    Args:
        path: the tokenizer.json.
        reference: what has read it already.
        document: what to read instead of the file.
    """
    structure = reference.structure()
    if doubt := find_doubt_of_kind(structure.normalizer, structure.pre_tokenizer):
        _log.info("tokenizing %s without tokie: %s", path, doubt)
        return None
    try:
        from tokie import Tokenizer as TokieTokenizer
        from tokie import TokieError

        doubt = _find_version_doubt()
    except ImportError as error:
        _log.debug("tokenizing without tokie: %s", error)
        return None
    try:
        doubt = doubt or find_doubt(json.loads(path.read_bytes() if document is None else document))
        fast = None if doubt else Fast(_read(TokieTokenizer.from_json, path, document))
    except (OSError, ValueError, TokieError) as error:
        fast, doubt = None, str(error)
    if fast and not _agree(fast, reference):
        fast, doubt = None, "its ids differ"
    if doubt:
        _log.info("tokenizing %s without tokie: %s", path, doubt)
    return fast


def _read(from_json: Callable[[str], Any], path: Path, document: str | None) -> Any:
    if document is None:
        return from_json(str(path))
    with TemporaryDirectory() as folder:  # tokie reads files only
        written = Path(folder) / path.name
        written.write_text(document, encoding="utf-8")
        return from_json(str(written))


def _find_version_doubt() -> str | None:
    from importlib.metadata import version  # 15 ms, which a few texts need not wait for

    found = version("tokie")
    return None if found == PROVEN_VERSION else f"proven is tokie {PROVEN_VERSION}, not {found}"


def _agree(fast: Fast, reference: Reference) -> bool:
    texts = [*_PROBES, _sample_characters()]
    found, expected = fast.encode(texts), reference.encode(texts)
    return np.array_equal(found.lengths, expected.lengths) and np.array_equal(found.ids, expected.ids)


def _sample_characters() -> str:
    code_points = chain.from_iterable(range(first, last + 1, _PROBE_STEP) for first, last in proven_ranges())
    return " ".join(f"a{chr(code)}" for code in code_points)
