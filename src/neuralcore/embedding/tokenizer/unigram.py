"""A large Unigram vocabulary: Hugging Face tokenizers is given only the pieces that occur in the words at hand.

A multilingual tokenizer.json has 250,000 pieces. Hugging Face's tree of them takes 280 MB and most of the time that a
small model takes to start; a dictionary takes a third of both. It says which pieces a word holds, and a tokenizer of
those alone gives the ids that the whole one would: Unigram chooses among the pieces that are substrings of a word, by
their scores, and looks at no other piece but the one with the lowest score, which tells what an unknown character
costs. That is taken along where a character is unknown, and every score as the file spells it, so that ties fall the
same way.

Texts are normalized and cut into words by Hugging Face, too. Only where that looks at a section between added tokens
by itself (`_WORDS`), and added tokens are found in raw text, is a tokenizer of this kind.
"""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..forks import Once

LEAST_BYTES = 1 << 20
"""Of a tokenizer.json that is worth it."""

_METASPACE = {"type": "Metaspace", "replacement": "\u2581", "split": True}
_WORDS = (
    {**_METASPACE, "prepend_scheme": "always"},
    {**_METASPACE, "prepend_scheme": "never"},
    {"type": "WhitespaceSplit"},
)
_NO_PIECE = "\x00"
_MOST_KNOWN_WORDS = 65_536
_NEAR = 1e-9  # relative; Hugging Face reads numbers to 1e-16

Load = Callable[[str], Any]
"""Makes a `tokenizers.Tokenizer` of a tokenizer.json's text."""


class _Number(str):
    """A number as a file spells it."""

    __slots__ = ()


class Unigram:
    """Ids by parts of a vocabulary. Threads may share it.

    Args:
        document: a tokenizer.json's content, of the kind, without its pieces.
        pieces: those, in the order of their ids.
        scores: of each, as the file spells it.
        load: opens a tokenizer.json.
    """

    def __init__(
        self, document: dict[str, Any], pieces: Sequence[str], scores: Sequence[str | int], load: Load
    ) -> None:
        self.document, self.pieces, self.scores, self._load = document, pieces, scores, load
        self._ids = dict(zip(pieces, range(len(pieces)), strict=True))
        self._longest, self._unk_id = max(map(len, pieces)), document["model"]["unk_id"]
        self._known = dict[str, list[int]]()
        self._added = {token["content"]: token["id"] for token in document["added_tokens"]}
        self._any_added = re.compile("|".join(map(re.escape, self._added))) if self._added else None
        rest = {**document, "model": {**document["model"], "vocab": [[_NO_PIECE, 0.0]], "unk_id": 0}}
        self.parts = load(json.dumps(rest, ensure_ascii=False))
        """All of it but its pieces, to ask it what else it does to a text."""

    @property
    def is_clear(self) -> bool:
        """Whether no piece is there twice, or means something else here, and added tokens have the ids they state."""
        n_ids = len(self.pieces)
        if len(self._ids) < n_ids or any(each in self._ids or each in self._added for each in ("", _NO_PIECE)):
            return False
        others = [number for content, number in self._added.items() if content not in self._ids]
        own = all(self._ids.get(content, number) == number for content, number in self._added.items())
        return own and others == list(range(n_ids, self.n_ids))

    @property
    def n_ids(self) -> int:
        """Ids are below this."""
        return len(self.pieces) + sum(content not in self._ids for content in self._added)

    def id_of(self, token: str) -> int | None:
        """The id of an added token or a piece."""
        return self._added.get(token, self._ids.get(token))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without special tokens.

        Raises:
            TypeError, UnicodeEncodeError: not a str, or one with lone surrogates.
        """
        if len(self._known) > _MOST_KNOWN_WORDS:
            self._known = {}
        known, rows = self._known, [list(self._sections(text)) for text in texts]
        words = {word for row in rows for section in row if not isinstance(section, int) for word in section}
        if new := [word for word in words if word not in known]:
            known |= zip(new, self._look_up(new), strict=True)
        return [[number for section in row for number in _numbers(section, known)] for row in rows]

    def _sections(self, text: str) -> Iterator[list[str] | int]:
        """The words between added tokens, and the ids of those."""
        end = 0
        if self._any_added and self._any_added.search(text):
            found = self.parts.encode(text, add_special_tokens=False)
            for number, (start, stop) in zip(found.ids, found.offsets, strict=True):
                if number:  # of an added token: a word has that of `_NO_PIECE`
                    yield self._words(text[end:start])
                    yield self._added[self.parts.id_to_token(number)]
                    end = stop
        yield self._words(text[end:])

    def _words(self, text: str) -> list[str]:
        normalizer = self.parts.normalizer
        normalized = normalizer.normalize_str(text) if normalizer else text
        return [word for word, _ in self.parts.pre_tokenizer.pre_tokenize_str(normalized)]

    def _look_up(self, words: Sequence[str]) -> list[list[int]]:
        taken = [self._unk_id, *(number for word in words for number in self._within(word))]
        if not all(map(self._ids.__contains__, set("".join(words)))):
            taken += self._lowest
        taken = list(dict.fromkeys(taken))
        pieces = (f"[{json.dumps(self.pieces[number])},{self.scores[number]}]" for number in taken)
        found = self._load(_PART % ",".join(pieces)).encode_batch_fast(words, add_special_tokens=False)
        return [[taken[number] for number in each.ids] for each in found]

    @Once
    def _lowest(self) -> list[int]:
        """Pieces with the lowest score: all that may have it once it is read."""
        scores = list(map(float, self.scores))
        bound = min(scores)
        bound += _NEAR * abs(bound)
        spelled = {self.scores[number]: number for number, score in enumerate(scores) if score <= bound}
        return list(spelled.values())

    def _within(self, word: str) -> Iterator[int]:
        """The ids of all pieces that a word holds."""
        for start in range(len(word)):
            for stop in range(start + 1, min(start + self._longest, len(word)) + 1):
                if (number := self._ids.get(word[start:stop])) is not None:
                    yield number


_PART = (
    '{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null, "decoder": null, '
    '"pre_tokenizer": null, "post_processor": null, "model": {"type": "Unigram", "unk_id": 0, "vocab": [%s], '
    '"byte_fallback": false}}'
)


def read_unigram(text: str, load: Load) -> Unigram | None:
    """Read a tokenizer.json; None if it is of another kind, or is damaged.

    Args:
        text: its content.
        load: opens one.
    """
    with _no_collection():
        return _read(text, load)


def _read(text: str, load: Load) -> Unigram | None:
    try:
        document = json.loads(text, parse_float=_Number)
    except (ValueError, RecursionError):
        return None
    if not _is_of_kind(document):
        return None
    pieces, scores = zip(*document["model"].pop("vocab"), strict=True)
    unigram = Unigram(document, pieces, scores, load)
    return unigram if unigram.is_clear else None


def _is_of_kind(document: Any) -> bool:
    match document:
        case {"model": {"vocab": [_, *_] as scored}}:
            return (
                is_frame(document, len(scored))
                and set(map(type, scored)) == {list}
                and set(map(len, scored)) == {2}
                and _are_scored(*zip(*scored, strict=True))
            )
    return False


def is_frame(document: Any, n_pieces: int) -> bool:
    """Whether a tokenizer.json of so many pieces is of the kind, whatever the pieces are."""
    match document:
        case {"model": {"type": "Unigram", "unk_id": int(unk_id)} as model, "added_tokens": [*added]}:
            return (
                not model.get("byte_fallback")
                and all(part in _WORDS for part in _flat(document.get("pre_tokenizer")))
                and type(unk_id) is int
                and 0 <= unk_id < n_pieces
                and all(map(_is_plain, added))
            )
    return False


def _flat(words: Any) -> list[Any]:
    match words:
        case {"type": "Sequence", "pretokenizers": [_, *_] as parts}:
            return list(parts)
    return [words]


def _is_plain(token: Any) -> bool:
    match token:
        case {"id": int(), "content": str(), "normalized": False}:
            return True
    return False


def _are_scored(pieces: Sequence[Any], scores: Sequence[Any]) -> bool:
    return set(map(type, pieces)) == {str} and set(map(type, scores)) <= {_Number, int}


def _numbers(section: list[str] | int, known: dict[str, list[int]]) -> Iterator[int]:
    if isinstance(section, int):
        yield section
    else:
        for word in section:
            yield from known[word]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without looks for circles among 250,000 new lists, which are gone by its end: half of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
