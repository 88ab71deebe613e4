"""What tokie 0.1.4 is trusted with: the kinds of tokenizer.json and the texts for which its ids are proven equal.

Compared one by one, it differs from Hugging Face tokenizers 0.23 on 820,408 of Unicode's 1,112,064 code points: 819,647
that Unicode 14 leaves unassigned; 491 marks and punctuation, most of them newer than Unicode 8; 256 ideographs of
extension E, which Hugging Face's table misses; 13 format characters; and DEL, which tokie keeps. PROVEN is what agrees
and is worth having (`python -m scripts.tokenizer_differences`).

It also cuts a text that comes alone and has 64 KiB or more (decomposed, if the file has a token to find in normalized
text) into parts wherever spaces are far apart: through words and, in unsafe code, through characters. And it drops the
rest of a word where a vocabulary has ##ab without ##a.

Single code points suffice for texts made of them. Cleaning, decomposing and lowering the case see one character at a
time; only combining marks have an order that depends on neighbours, and they are removed. Words end where white space,
punctuation or an ideograph is, which a character is or is not wherever it stands.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

LONGEST_CHARACTERS = 7_000
"""Of a text: fewer than 64 KiB even when decomposed, which makes up to 9 bytes (Hangul) of a proven character."""

PROVEN = """
    0-7E 80-377 37A-37F 384-38A 38C 38E-3A1 3A3-52F 531-556 559-58A 591-5C7 5D0-5EA 5F0-5F4 600-61C 61E-6FF 900-97F
    E01-E3A E3F-E5B 10D0-10FF 1100-11FF 1E00-1EFF 1F00-1F15 2000-2064 206A-2071 2074-208E 20A0-20C0 20D0-20F0 2100-218B
    2190-2429 2460-2B73 3000-302D 3030-303F 3041-3096 3099-30FF 3105-312F 3131-318E 3190-31E5 3220-A48C AC00-D7A3
    F900-FA6D FA70-FAD9 FB00-FB06 FE00-FE0F FE20-FE52 FE54-FE66 FF01-FFBE FFE0-FFE6 FFFC-FFFD 1D400-1D454 1F1E6-1F202
    1F300-1F6D7 1F6E0-1F6EC 1F6F0-1F6FC 1F900-1FA53 1FA70-1FA7C 1FA80-1FA89 20000-2A6DF 2A700-2B739 E0020-E007F
    E0100-E01EF
"""
"""First and last code points, hexadecimal: Latin, Greek, Cyrillic, Hebrew, Arabic, Devanagari, Thai, Georgian, Hangul,
kana, ideographs, symbols, emoji. Others are rarer than is worth proving."""

_NORMALIZER = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True}
_MODEL = {
    "type": "WordPiece",
    "unk_token": "[UNK]",
    "continuing_subword_prefix": "##",
    "max_input_chars_per_word": 100,
}
_ADDED = {"special": True, "single_word": False, "rstrip": False}
_ADDED_CONTENT = re.compile(r"\[\w+\]|</?\w+>", re.ASCII)


def proven_ranges() -> list[tuple[int, int]]:
    """First and last code point of each run of proven ones."""
    ends = [part.partition("-") for part in PROVEN.split()]
    return [(int(first, 16), int(last or first, 16)) for first, _, last in ends]


def mark_proven(texts: list[str]) -> list[bool]:
    """Whether tokie's ids are proven for each text: it is short enough, and of proven characters only."""
    if _are_proven(texts):
        return [True] * len(texts)
    return [_are_proven([text]) for text in texts]


def _are_proven(texts: list[str]) -> bool:
    if max(map(len, texts), default=0) > LONGEST_CHARACTERS:
        return False
    joined = "".join(texts)
    if joined.isascii():  # CPython knows without looking
        return "\x7f" not in joined
    return _unproven().search(joined) is None


@cache
def _unproven() -> re.Pattern[str]:
    ranges = "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in proven_ranges())
    return re.compile(f"[^{ranges}]")


def find_doubt(document: dict[str, Any]) -> str | None:
    """What about a tokenizer.json is not of the proven kind; None if it is uncased BERT's."""
    if doubt := find_doubt_of_kind(document.get("normalizer"), document.get("pre_tokenizer")):
        return doubt
    model = dict(document.get("model") or {})
    vocabulary = model.pop("vocab", {})
    if model != _MODEL:
        return "not BERT's WordPiece"
    if not all(_is_proven_token(token, vocabulary) for token in document.get("added_tokens", ())):
        return "added tokens of another kind than BERT's"
    return _find_doubt_about_words(vocabulary)


def find_doubt_of_kind(normalizer: dict[str, Any] | None, pre_tokenizer: dict[str, Any] | None) -> str | None:
    """What can be doubted without a look at the vocabulary, which may have 250,000 pieces."""
    parts = dict(normalizer or {})
    if parts.pop("strip_accents", None) is False or parts != _NORMALIZER:
        return "not uncased BERT's normalizer"
    return None if pre_tokenizer == {"type": "BertPreTokenizer"} else "not BERT's pre-tokenizer"


def _is_proven_token(token: dict[str, Any], vocabulary: dict[str, int]) -> bool:
    content = token.get("content", "")
    has_flags = all(token.get(name) == value for name, value in _ADDED.items())
    return has_flags and bool(_ADDED_CONTENT.fullmatch(content)) and vocabulary.get(content) == token.get("id")


def _find_doubt_about_words(vocabulary: dict[str, int]) -> str | None:
    if not vocabulary or len(set(vocabulary.values())) != max(vocabulary.values()) + 1 or min(vocabulary.values()) < 0:
        return "ids with gaps"
    if "" in vocabulary or "##" in vocabulary or "[UNK]" not in vocabulary:
        return "a vocabulary with an empty piece or without [UNK]"
    begins = {piece[2] for piece in vocabulary if piece.startswith("##")}
    missing = next((letter for letter in sorted(begins) if f"##{letter}" not in vocabulary), None)
    return None if missing is None else f"pieces that go on with {missing!r}, but no ##{missing}"
