"""The texts that are embedded. Run it to see how many there are and how long: python -m benchmarks.texts --model NAME.

Real texts come from Python's own documentation, `pydoc_data.topics`, which is on every machine with Python. It differs
from one Python to the next: compare numbers of one Python only (`digest` tells).
- Sentences: its blocks (between blank lines, whitespace folded) split after . ! ? and ; where more than 20 characters.
- Paragraphs: only about 300 blocks have more than 300 characters, so a paragraph is a run of neighbouring blocks of one
  topic, from any block on until it has more than 300 characters. Neighbouring runs overlap; no two are equal.
- Only prose, but for `raw`: at least nine characters of ten are letters or spaces. Tables, grammar and code have up to
  four times as many tokens a character, and who sorts by characters, as sentence-transformers does, then pads to twice
  the tokens (of this prose, 1.35 times for sentences and 1.2 for paragraphs; 1.2 on STS-B). That flatters this package.
Both are sampled without repetition and with a fixed seed. Only the `seed` texts repeat one sentence.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha256
from itertools import cycle, islice
from random import Random

ONE_TEXT = "How do I make a list of the lines of a file?"
SEED_TEXT = "This is a sample sentence for batch embedding benchmarking."

_SEED = 2026
_SENTENCE_CHARACTERS = 20
_PARAGRAPH_CHARACTERS = 300
_PROSE_SHARE = 0.9


def workloads() -> dict[str, list[str]]:
    """Every workload by name; the last one needs the most memory."""
    return {
        "one": [ONE_TEXT],
        "seed-100": [SEED_TEXT] * 100,
        "seed-1000": [SEED_TEXT] * 1000,
        "sentences-100": real_sentences(100),
        "sentences-1000": real_sentences(1000),
        "raw-1000": raw_sentences(1000),
        "paragraphs-100": real_paragraphs(100),
        "paragraphs-1000": real_paragraphs(1000),
    }


QUICK = ("one", "seed-100", "sentences-100")
"""The workloads of a quick run."""


def real_sentences(n: int) -> list[str]:
    """Distinct sentences of mixed length, in random order."""
    return _sample(_all_sentences(), n)


def raw_sentences(n: int) -> list[str]:
    """Distinct sentences as the documentation has them, with its tables, grammar and code, in random order."""
    return _sample(_split(bool), n)


def single_words(n: int) -> list[str]:
    """Distinct words of the documentation, with the punctuation on them, in random order."""
    return _sample(list(dict.fromkeys(word for text in _split(bool) for word in text.split())), n)


def real_paragraphs(n: int) -> list[str]:
    """Distinct paragraphs, in random order."""
    return _sample(_all_paragraphs(), n)


def mixed_texts(n: int) -> list[str]:
    """Any number of distinct texts, sentences and paragraphs mixed: those of the documentation, numbered."""
    texts = _all_sentences() + _all_paragraphs()
    Random(_SEED).shuffle(texts)
    return [f"{number}. {text}" for number, text in enumerate(islice(cycle(texts), n))]


def digest(texts: list[str]) -> str:
    """A fingerprint of the texts, to see that two processes had the same ones."""
    return sha256("\0".join(texts).encode()).hexdigest()[:16]


def _sample(texts: list[str], n: int) -> list[str]:
    if n > len(texts):
        raise ValueError(f"{n} texts asked for, {len(texts)} there are")
    return Random(_SEED).sample(texts, len(texts))[:n]


def _all_sentences() -> list[str]:
    return _split(_is_prose)


def _split(keep: Callable[[str], bool]) -> list[str]:
    sentences = (part for blocks in _topics() for block in blocks for part in re.split(r"(?<=[.!?;])\s+", block))
    return list(dict.fromkeys(part for part in sentences if len(part) > _SENTENCE_CHARACTERS and keep(part)))


def _all_paragraphs() -> list[str]:
    return list(dict.fromkeys(run for blocks in _topics() for run in _runs(blocks) if _is_prose(run)))


def _runs(blocks: list[str]) -> Iterator[str]:
    for start in range(len(blocks)):
        run = ""
        for block in blocks[start:]:
            run = f"{run} {block}".lstrip()
            if len(run) > _PARAGRAPH_CHARACTERS:
                yield run
                break


def _is_prose(text: str) -> bool:
    return sum(character.isalpha() or character == " " for character in text) >= _PROSE_SHARE * len(text)


@cache
def _topics() -> list[list[str]]:
    """Blocks of text, by topic."""
    from pydoc_data.topics import topics  # not before it is needed: it would count as start time and memory

    folded = ([" ".join(block.split()) for block in re.split(r"\n\s*\n", topics[name])] for name in sorted(topics))
    return [[block for block in blocks if block] for blocks in folded]


def main() -> None:
    from neuralcore.embedding import EmbeddingEngine

    from .report import print_table

    parser = argparse.ArgumentParser(prog="python -m benchmarks.texts", description="Show the workloads.")
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="folder or name, for counting tokens")
    engine = EmbeddingEngine.from_pretrained(parser.parse_args().model)
    rows = []
    for name, texts in workloads().items():
        full = engine.count_tokens(texts)
        used = full.clip(max=engine.max_tokens)
        mean_characters = sum(map(len, texts)) / len(texts)
        cut = int((full > used).sum())
        values = (len(set(texts)), f"{mean_characters:.0f}", f"{used.mean():.1f}", int(used.max()), cut, digest(texts))
        rows.append([name, *map(str, values)])
    print_table("Workloads", ["", "distinct", "characters", "tokens", "longest", "cut", "digest"], rows)


if __name__ == "__main__":
    main()
