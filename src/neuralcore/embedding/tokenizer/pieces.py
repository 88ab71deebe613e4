"""Long texts in pieces whose ids, one after the other, are the ids of the whole.

So a text is read only as far as its limit needs, from either end, and counted in bounded memory. That the ids are equal
rests on what happens to a text, in this order; a place is a boundary where none of it looks across:

- *Added tokens* are found in the raw text (or, if so declared, in the normalized one). No boundary has one within its
  own length to either side; those of normalized text must not contain the character that follows a boundary.
- *Normalizers* see a character at a time, or a character and the combining marks after it. What follows a boundary is
  no mark, composes with nothing before it, and is left in its place.
- *Pre-tokenizers* cut words. BERT's always cuts before white space, punctuation and (set apart by the normalizer)
  ideographs, whatever stands beside them. Byte-level BPE's (GPT-2's; Qwen's and Llama 3's, which differ in digits) and
  Metaspace cut before a single space between two characters that are no white space, and the space goes with what
  follows it.
- *Models* (WordPiece, BPE, Unigram) see one word at a time.

Every other kind of tokenizer has no boundaries: its texts are one piece each. So has a tokenizer that does not pass a
trial of its own boundaries, which is made when its first long text comes.

BERT's words have no bound, but WordPiece gives [UNK] for any of more than 100 characters. Of a run of characters that
all join one word, or vanish, as many are kept at both ends as added tokens are long and the word's fate needs.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from ..forks import Once
from .reference import Reference

PIECE_CHARACTERS = 4_096
"""Of a piece, about: some milliseconds of work, and enough for most limits."""
_MOST_CHARACTERS = 65_536  # of a piece, where there is a boundary; and looked through at once
_WHITE_SPACE = " \t\n\r"
_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_IDEOGRAPHS = "\u4e00-\u9fff"
# Starters that compose with nothing before them and are no white space in any version of Unicode: ASCII, Latin, Greek,
# Cyrillic, Hebrew, Arabic, Devanagari, kana, ideographs, Hangul.
_BESIDE_A_SPACE = (
    "!-~\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0391-\u03a1\u03a3-\u03ce\u0410-\u044f\u05d0-\u05ea\u0621-\u063a\u0641-"
    "\u064a\u0904-\u0939\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3"
)
_PLAIN_NORMALIZERS = {
    "BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "StripAccents", "Precompiled", "Sequence"
}  # fmt: skip
_ENDINGS, _REST = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS_OF_BYTES = [rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{most}{_REST}" for most in ("", "{1,3}")]
"""Of Qwen and of Llama 3: white space is at the start of a word, or all of it."""

_JOINED_SPACES: dict[str, Any] = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
_TRIALS = (
    "The quick, brown fox's 3.14 jumps -- over \u00e9t\u00e9 \u6f22\u5b57 \u041c\u0438\u0440. It (re)uses words ! ",
    "a  b \t\n c\r\nd x\u00a0y e\u0301 f \u0301g \u00dcBER unbelievable antidisestablishmentarianism 'tis we've 1 2 3",
    "<s> a </s> b [SEP] c [MASK] d <mask> e <pad> f",
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Rules:
    """Where one tokenizer's texts have boundaries.

    Args:
        before: what a boundary stands before.
        contents: added tokens found in raw text; None where there are none.
        reach: characters of the longest added token.
        taboo: characters of added tokens that are found in normalized text.
        word_limit: WordPiece's, if words can be shortened, else None.
        whole_contents: whether an added token's end is a boundary, too.
    """

    before: re.Pattern[str]
    contents: re.Pattern[str] | None
    reach: int
    taboo: frozenset[str] = frozenset()
    word_limit: int | None = None
    whole_contents: bool = False
    kinds: dict[str, str] = field(default_factory=dict)


class Pieces:
    """Cuts texts of one tokenizer.

    Args:
        reference: the tokenizer.
    """

    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    @Once
    def _rules(self) -> _Rules | None:
        rules = _find_rules(self._reference)
        if rules and not all(self._holds(rules, trial) for trial in _TRIALS):
            _log.info("long texts are tokenized whole: ids differ beside a boundary")
            return None
        return rules

    def forward(self, text: str, n_characters: int = PIECE_CHARACTERS) -> Iterator[str]:
        """The pieces of a text, from its start.

        Args:
            text: any text.
            n_characters: of the first piece, about; later ones are larger.
        """
        start = 0
        while start < len(text):
            stop = self._next(text, start, start + n_characters)
            yield self._shorten(text, start, stop)
            start, n_characters = stop, min(2 * n_characters, _MOST_CHARACTERS)

    def backward(self, text: str, n_characters: int = PIECE_CHARACTERS) -> Iterator[str]:
        """The pieces of a text, from its end: the last one first."""
        stop = len(text)
        while stop > 0:
            start = self._last(text, stop - n_characters)
            if stop - start > 2 * _MOST_CHARACTERS:
                yield from reversed(list(self.forward(text[start:stop])))
            else:
                yield text[start:stop]
            stop, n_characters = start, min(2 * n_characters, _MOST_CHARACTERS)

    def _next(self, text: str, start: int, place: int) -> int:
        """The first boundary at or behind a place; the text's end if there is none."""
        rules = self._rules
        while rules and place < len(text):
            end = place + _MOST_CHARACTERS
            found = next(_boundaries(rules, rules.before, text, place, end), None)
            if found is None and rules.word_limit:
                found = self._unusual(rules, text, start, place, end)
            if found is not None:
                return found
            place, start = end, end - rules.reach  # no added token ended in between
        return len(text)

    def _last(self, text: str, place: int) -> int:
        """A boundary at or before a place, a near one; 0 if there is none."""
        rules, n_characters = self._rules, 256
        while rules and place > 0:
            begin = max(0, place - n_characters)
            if found := list(_boundaries(rules, rules.before, text, begin, place + 1)):
                return found[-1]
            place, n_characters = begin, min(4 * n_characters, _MOST_CHARACTERS)
        return 0

    def _unusual(self, rules: _Rules, text: str, start: int, place: int, end: int) -> int | None:
        """A boundary of BERT's where there is no common one: other punctuation, or behind an added token."""
        characters = set(text[place:end])
        if breaking := self._of_kind(rules, characters, "breaks"):
            found = next(_boundaries(rules, _class_of(breaking), text, place, end), None)
            if found is not None:
                return found
        if rules.contents and rules.whole_contents:  # from a boundary on, these are what the tokenizer finds
            matches = rules.contents.finditer(text, start, end + rules.reach)
            return next((match.end() for match in matches if place <= match.end() < end), None)
        return None

    def _shorten(self, text: str, start: int, stop: int) -> str:
        """A piece; of one that has no boundary for long, the words that are too long for WordPiece made shorter."""
        rules = self._rules
        if rules is None or rules.word_limit is None or stop - start <= 2 * _MOST_CHARACTERS:
            return text[start:stop]
        starts = range(start, stop, _MOST_CHARACTERS)
        return "".join(
            self._shorten_words(rules, text[begin : min(begin + _MOST_CHARACTERS, stop)]) for begin in starts
        )

    def _shorten_words(self, rules: _Rules, text: str) -> str:
        characters = set(text)
        vanishing = self._of_kind(rules, characters, "vanishes")
        joining = self._of_kind(rules, characters, "joins")
        if not joining and not vanishing:
            return text
        n_kept = (rules.word_limit or 0) + 1 + rules.reach
        gone = str.maketrans(dict.fromkeys(vanishing))

        def shorten(match: re.Match[str]) -> str:
            run = match[0]
            inner = run[n_kept:-n_kept].translate(gone)
            return run[:n_kept] + inner[:n_kept] + inner[n_kept:][-n_kept:] + run[-n_kept:]

        return re.sub(f"{_class_of(joining | vanishing).pattern}{{{4 * n_kept},}}", shorten, text)

    def _of_kind(self, rules: _Rules, characters: Iterable[str], kind: str) -> set[str]:
        for character in characters:
            if character not in rules.kinds:
                rules.kinds[character] = self._kind(rules, character)
        return {character for character in characters if rules.kinds[character] == kind}

    def _kind(self, rules: _Rules, character: str) -> str:
        """What BERT's normalizer and pre-tokenizer do to a character, which its neighbours do not change."""
        normalized, words = self._reference.words(f"a{character}a")
        if normalized == "aa":
            return "vanishes"
        if unicodedata.combining(character) or rules.taboo.intersection(normalized):
            return "else"
        if len(words) == 1:
            return "joins"
        return "breaks" if words[0] == "a" else "else"

    def _holds(self, rules: _Rules, trial: str) -> bool:
        places = [0, *_boundaries(rules, rules.before, trial, 1, len(trial)), len(trial)]
        pieces = [trial[start:stop] for start, stop in pairwise(places)]
        return np.array_equal(self._reference.encode([trial]).ids, self._reference.encode(pieces).ids)


def _boundaries(rules: _Rules, before: re.Pattern[str], text: str, begin: int, end: int) -> Iterator[int]:
    for match in before.finditer(text, begin, end):
        place = match.start()
        window = max(0, place - rules.reach), place + rules.reach
        if not (rules.contents and rules.contents.search(text, *window)):
            yield place


def _class_of(characters: Iterable[str]) -> re.Pattern[str]:
    return re.compile(f"[{''.join(map(re.escape, sorted(characters)))}]")


def _find_rules(reference: Reference) -> _Rules | None:
    """The rules of a tokenizer's kind; None if it has none that is proven."""
    structure = reference.structure()
    normalized = [token for token in structure.added if token.normalized]
    taboo = frozenset("".join(token.content for token in normalized))
    if any(character.isspace() for character in taboo) or any(token.has_flags for token in normalized):
        return None
    raw = sorted((token.content for token in structure.added if not token.normalized), key=len, reverse=True)
    contents = re.compile("|".join(map(re.escape, raw))) if raw else None
    reach = max((len(token.content) for token in structure.added), default=1)
    normalizers = list(_flat(structure.normalizer))
    if _is_bert(structure.model, normalizers, structure.pre_tokenizer):
        breaking = _class_of(set(_WHITE_SPACE + _PUNCTUATION) - taboo).pattern[1:-1]
        if any(each.get("handle_chinese_chars") for each in normalizers) and not _holds_any(taboo, _IDEOGRAPHS):
            breaking += _IDEOGRAPHS
        can_shorten = all(set(token.content).intersection(_PUNCTUATION) for token in structure.added)
        return _Rules(
            re.compile(f"[{breaking}]"), contents, reach, taboo,
            word_limit=structure.word_limit if can_shorten else None,
            whole_contents=not any(token.has_flags for token in structure.added),
        )  # fmt: skip
    if _is_spaced(structure.model, normalizers, structure.pre_tokenizer):
        return _Rules(re.compile(f"(?<=[{_BESIDE_A_SPACE}]) (?=[{_BESIDE_A_SPACE}])"), contents, reach, taboo)
    return None


def _holds_any(characters: Iterable[str], of_class: str) -> bool:
    return bool(re.search(f"[{of_class}]", "".join(characters)))


def _flat(normalizer: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if normalizer:
        yield normalizer
        for part in normalizer.get("normalizers", ()):
            yield from _flat(part)


def _is_bert(model: str, normalizers: list[dict[str, Any]], pre_tokenizer: dict[str, Any] | None) -> bool:
    kinds = {each["type"] for each in normalizers}
    return bool(
        model == "WordPiece"
        and kinds <= {"BertNormalizer", "Lowercase", "Sequence"}
        and _type(pre_tokenizer) == "BertPreTokenizer"
    )


def _is_spaced(model: str, normalizers: list[dict[str, Any]], pre_tokenizer: dict[str, Any] | None) -> bool:
    if model not in {"WordPiece", "WordLevel", "BPE", "Unigram"}:
        return False
    if not all(each["type"] in _PLAIN_NORMALIZERS or each == _JOINED_SPACES for each in normalizers):
        return False
    match pre_tokenizer:
        case (
            {"type": "ByteLevel", "use_regex": True}
            | {"type": "Whitespace" | "WhitespaceSplit" | "BertPreTokenizer"}
            | {"type": "Metaspace", "split": True}
        ):
            return True
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": words}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "use_regex": False, "add_prefix_space": False},
            ],
        }:
            return words in _WORDS_OF_BYTES
        case {
            "type": "Sequence",
            "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "prepend_scheme": "always"}],
        }:
            return True
    return False


def _type(part: dict[str, Any] | None) -> str | None:
    return part["type"] if part else None
