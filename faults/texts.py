"""Hostile and huge texts, through the tokenizer, the engine, asyncio and its queue."""

import asyncio
import atexit
import subprocess
import sys
from collections.abc import Iterator
from functools import cache, partial
from itertools import count
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tests import test_pieces, tiny_model

from faults.trial import Trial
from neuralcore.embedding import AsyncEmbeddingEngine, EmbeddingEngine, InferenceError, InputError
from neuralcore.embedding.tokenizer import Tokenizer
from neuralcore.embedding.types import TokenBatch, Vectors

TITLE = "hostile and huge texts in tokenizer, engine and queue"

_LIMIT = 24
_CALL_S = 60
_scratch = TemporaryDirectory(prefix="faults-texts-")
atexit.register(_scratch.cleanup)


class _Panic(BaseException):
    """As pyo3's PanicException."""


def trials(random: Random) -> Iterator[Trial]:
    """Without end: of each kind in turn."""
    huge = iter([(4, True), (41, True), (4, False), (41, False)])
    for number in count(1):
        for kind in test_pieces.KINDS:
            tokenize = partial(_tokenize, kind, Random(random.random()))
            yield Trial(f"tokens of a hostile text, {kind}, {number}", tokenize)
        yield Trial(f"calls of all kinds together, {number}", partial(_storm, Random(random.random())))
        if pair := next(huge, None):
            limit = ", address space limited" if pair[1] else ""
            yield Trial(f"lines of {pair[0]} MB{limit}", partial(_embed_huge, *pair))


def _hostile(random: Random) -> str:
    parts = [
        random.choice(test_pieces.SAMPLES) * random.choice([1, 1, 3, 40, 900]) for _ in range(random.randint(1, 8))
    ]
    return "".join(parts)[:60_000]


@cache
def _tokenizers(kind: str, direction: str) -> tuple[Tokenizer, Any, Any]:
    inner = test_pieces.KINDS[kind]()
    inner.no_padding()
    inner.enable_truncation(_LIMIT, direction=direction)
    path = Path(_scratch.name) / f"{kind} {direction}.json"
    inner.save(str(path))
    uncut = type(inner).from_file(str(path))
    uncut.no_truncation()
    return Tokenizer(path, max_tokens=_LIMIT), inner, uncut


def _tokenize(kind: str, random: Random) -> None:
    """Ids are those of Hugging Face's own truncation, the count is that of its whole text."""
    tokenizer, inner, uncut = _tokenizers(kind, random.choice(["left", "right"]))
    texts = [_hostile(random) for _ in range(3)]
    found = tokenizer.encode(texts)
    for row, text in enumerate(texts):
        ids = found.ids[found.offsets[row] : found.offsets[row + 1]].tolist()
        assert ids == inner.encode(text).ids, f"other ids for {text[:200]!r} of {len(text)} characters"
    counts = tokenizer.count(texts).tolist()
    whole = [len(uncut.encode(text).ids) for text in texts]
    assert counts == whole, f"{counts} tokens, not {whole}"


@cache
def _engine() -> EmbeddingEngine:
    folder = tiny_model.write(Path(_scratch.name) / "tiny")
    return EmbeddingEngine.from_pretrained(folder, cache_dir=Path(_scratch.name) / "cache", threads=2)


def _storm(random: Random) -> None:
    """Good calls get their vectors, bad ones their error, cancelled ones leave; nothing waits for ever."""
    engine = _engine()
    asyncio.run(asyncio.wait_for(_calls(engine, random), _CALL_S))


async def _calls(engine: EmbeddingEngine, random: Random) -> None:
    queue = AsyncEmbeddingEngine(engine)
    kinds = random.choices(["small", "large", "long", "surrogate", "panic", "cancelled"], k=40)
    texts = {
        "small": [_hostile(random)[:300]],
        "large": [_hostile(random)[:200] for _ in range(random.randint(20, 400))],
        "long": [_hostile(random) * 30],
        "cancelled": ["the cat"] * 500,
        "surrogate": ["a cat", "b" * random.randint(0, 200_000) + "\ud800"],
    }
    expected = {kind: engine.embed_batch(some) for kind, some in texts.items() if kind != "surrogate"}
    calls = [asyncio.ensure_future(_call(queue, kind, texts, random)) for kind in kinds]
    await asyncio.sleep(random.random() / 50)
    for call, kind in zip(calls, kinds, strict=True):
        if kind == "cancelled":
            call.cancel()
    for kind, outcome in zip(kinds, await asyncio.gather(*calls, return_exceptions=True), strict=True):
        if kind == "surrogate":
            assert isinstance(outcome, InputError), outcome
            assert outcome.index == 1
        elif kind == "panic":
            assert isinstance(outcome, InferenceError), outcome
        elif not (kind == "cancelled" and isinstance(outcome, asyncio.CancelledError)):
            if isinstance(outcome, BaseException):
                raise outcome
            assert np.abs(outcome - expected[kind]).max() < 1e-5, kind
    assert queue.n_waiting == 0
    assert queue.failure is None
    await asyncio.to_thread(queue._queue.drain)


async def _call(queue: AsyncEmbeddingEngine, kind: str, texts: dict[str, list[str]], random: Random) -> Vectors:
    if kind == "panic":
        return (await queue.encode(_panic, is_small=random.random() < 0.5)).vectors
    return await queue.embed_batch(texts[kind])


def _panic() -> Iterator[TokenBatch]:
    raise _Panic("at some text")


_HUGE = """
import resource, sys
from pathlib import Path
from neuralcore.embedding import EmbeddingEngine, OutOfMemory
engine = EmbeddingEngine.from_pretrained(sys.argv[1], cache_dir=sys.argv[2], threads=1, max_tokens=32)
engine.warmup()
words = "the cat sat on the mat, "
expected = engine.embed(words * 20)
n_characters = int(sys.argv[3]) * 1_000_000
lines = words * (n_characters // len(words)), "x" * n_characters, " " * n_characters, "\\u6f22" * (n_characters // 3)
for text in lines:
    if int(sys.argv[4]):
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + 400 * 2**20, resource.RLIM_INFINITY))
    try:
        vector = engine.embed(text)
    except OutOfMemory as error:
        print(error)
    else:
        assert text[0] != "t" or abs(vector - expected).max() < 1e-5
    if int(sys.argv[4]):
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print("done")
"""


def _embed_huge(megabytes: int, limited: bool) -> None:
    """It is embedded, or refused; the process does not end."""
    engine = _engine()
    folder, cache_dir = Path(_scratch.name) / "tiny", Path(_scratch.name) / "cache"
    assert engine.max_tokens == 32
    limit = limited and sys.platform == "linux"
    command = [sys.executable, "-c", _HUGE, str(folder), str(cache_dir), str(megabytes), str(int(limit))]
    result = subprocess.run(command, capture_output=True, text=True, timeout=_CALL_S, check=False)
    assert result.returncode == 0, f"exit code {result.returncode}: {result.stderr[-500:]}"
    assert result.stdout.endswith("done\n"), result.stdout
