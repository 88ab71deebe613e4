"""The code points to which tokie and Hugging Face tokenizers give different ids: what tokenizer/proven.py rests on.

python -m scripts.tokenizer_differences path/to/tokenizer.json

Run it for another version of either before it is trusted. Exit 1 if a proven code point differs.
"""

from __future__ import annotations

import argparse
import unicodedata
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tokie import Tokenizer as TokieTokenizer

from neuralcore.embedding.tokenizer.fast import Fast
from neuralcore.embedding.tokenizer.proven import mark_proven
from neuralcore.embedding.tokenizer.reference import Reference

_FORMS = ("{0}", "ab{0}cd", "AB{0}CD", " {0} ", "{0}.", ".{0}a", "{0}{0}", "e{0}\u0301\u0327x")
_SURROGATES = range(0xD800, 0xE000)
_AT_ONCE = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.tokenizer_differences")
    parser.add_argument("tokenizer", type=Path, help="a tokenizer.json")
    path = parser.parse_args().tokenizer
    reference, fast = Reference(path, lowercase=False), Fast(TokieTokenizer.from_json(str(path)))
    characters = [chr(code) for code in range(0x110000) if code not in _SURROGATES]
    found = sorted({character for form in _FORMS for character in _find(form, characters, reference, fast)})
    wrong = [character for character in found if mark_proven([character])[0]]
    print(f"tokenizers {version('tokenizers')}, tokie {version('tokie')}, Unicode {unicodedata.unidata_version}")
    print(f"{len(found):,} of {len(characters):,} differ, {len(wrong):,} of the proven ones")
    for category, n_found in Counter(map(unicodedata.category, found)).most_common():
        print(f"{category}  {n_found:,}")
    print(*(f"U+{ord(character):04X}" for character in found if unicodedata.category(character) != "Cn"))
    raise SystemExit(bool(wrong))


def _find(form: str, characters: list[str], reference: Reference, fast: Fast) -> list[str]:
    found: list[str] = []
    for start in range(0, len(characters), _AT_ONCE):
        part = characters[start : start + _AT_ONCE]
        texts = [form.format(character) for character in part]
        differs = _mark_different(reference, fast, texts)
        found += [character for character, is_different in zip(part, differs, strict=True) if is_different]
    return found


def _mark_different(reference: Reference, fast: Fast, texts: list[str]) -> list[bool]:
    rows = []
    for backend in (reference, fast):
        ids, lengths = backend.encode(texts)
        rows.append([row.tobytes() for row in np.split(ids, np.cumsum(lengths)[:-1])])
    return [first != second for first, second in zip(*rows, strict=True)]


if __name__ == "__main__":
    main()
