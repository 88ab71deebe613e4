"""The texts that are embedded. Run it to see how many there are and how long: python -m benchmarks.texts --model NAME.

Real texts come from Python's own documentation, `pydoc_data.topics`, which is on every machine with Python. It differs
from one Python to the next: compare numbers of one Python only (`digest` tells).
- Sentences: its blocks (between blank lines, whitespace folded) split after . ! ? and ; where more than 20 characters.
- Paragraphs: only about 300 blocks have more than 300 characters, so a paragraph is a run of neighbouring blocks of one
  topic, from any block on until it has more than 300 characters. Neighbouring runs overlap; no two are equal.
- Abstracts: runs of neighbouring sentences of one topic, of 200 to 256 tokens in a vocabulary like BERT's. How many a
  text has is estimated, so that the texts are the same for every model.
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
from itertools import accumulate, cycle, islice
from random import Random

ONE_TEXT = "How do I make a list of the lines of a file?"
SEED_TEXT = "This is a sample sentence for batch embedding benchmarking."

_SEED = 2026
_SENTENCE_CHARACTERS = 20
_PARAGRAPH_CHARACTERS = 300
_ABSTRACT_TOKENS = 240, 258  # by `_estimate_tokens`, which is 8% too high for such prose
_PROSE_SHARE = 0.9
_DOCUMENTED = (
    "argparse",
    "asyncio",
    "datetime",
    "decimal",
    "logging",
    "pathlib",
    "socket",
    "statistics",
    "subprocess",
    "tarfile",
    "zipfile",
    "unittest",
)


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
        "abstracts-400": abstracts(400),
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


def abstracts(n: int) -> list[str]:
    """Distinct texts of 200 to 256 tokens, in random order."""
    return _sample(_all_abstracts(), n)


def calibration_texts(n: int) -> list[str]:
    """Distinct texts of mixed length that no workload has: what the standard library says of itself in its code."""
    import importlib
    import inspect

    documented = [importlib.import_module(name) for name in _DOCUMENTED]
    members = [value for module in documented for value in vars(module).values() if inspect.isclass(value)]
    functions = [value for kind in members for value in vars(kind).values() if inspect.isfunction(value)]
    pages = [inspect.getdoc(value) or "" for value in (*documented, *members, *functions)]
    blocks = [" ".join(block.split()) for page in pages for block in (page, *re.split(r"\n\s*\n", page))]
    return _sample(list(dict.fromkeys(block for block in blocks if len(block) > _SENTENCE_CHARACTERS)), n)


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


def _all_abstracts() -> list[str]:
    least, most = _ABSTRACT_TOKENS
    topics = ([part for block in blocks for part in re.split(r"(?<=[.!?;])\s+", block)] for blocks in _topics())
    runs = (run for sentences in topics for run in _runs_of(sentences, least))
    return list(dict.fromkeys(run for run in runs if _estimate_tokens(run) <= most and _is_prose(run)))


def _runs_of(sentences: list[str], least_tokens: int) -> Iterator[str]:
    sizes = [_estimate_tokens(sentence) for sentence in sentences]
    for start in range(len(sentences)):
        for end, size in enumerate(accumulate(sizes[start:]), start + 1):
            if size >= least_tokens:
                yield " ".join(sentences[start:end])
                break


def _estimate_tokens(text: str) -> int:
    """One for each sign, and one for each six letters begun of a word."""
    parts = re.findall(r"[A-Za-z]+|\S", text)
    return sum(1 + (len(part) - 1) // 6 if part.isalpha() else 1 for part in parts)


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
