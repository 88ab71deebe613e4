"""Files of a tokenizer that contradict each other, and values in them that are not what they should be.

Every tokenizer is opened and gives ids, the same ones from the copy that a cache keeps; or it is refused by an error of
ours that names one of its own files. Each trial is a process of its own, with bounds of memory and time.
"""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from faults.trial import Trial

TITLE = "tokenizers whose files are damaged or disagree"
_FOLDERS: Any = import_module("tests.tokenizer_folders")  # tests are not type-checked
_MOST_S, _MORE_BYTES = 20, 2 << 30
_ODD: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**70, 1e308, "", "a", "\ud800", "left", "\0", [], [[]], [1], ["a"], {}, {"a": {}},
    "x" * 70_000, {"type": "Sequence"}, {"type": "Lowercase"}, {"content": "a"},
    {"0": {"content": "the", "normalized": None}},
)  # fmt: skip


def trials(random: Random) -> Iterator[Trial]:
    """Random folders, half of them with one value changed, without end."""
    while True:
        seed, changed = random.randrange(10**9), random.random() < 0.5
        name = f"folder {seed}" + (", one value changed" if changed else "")
        yield Trial(name, partial(_provoke, seed, Random(seed) if changed else None))


def _provoke(seed: int, change: Random | None) -> None:
    with TemporaryDirectory() as temporary:
        folder = _FOLDERS.write(Path(temporary).resolve() / "model", seed)
        where = _change(folder, change) if change else ""
        told = _in_child(folder)
        assert told == "held", f"{told} {where}"


def _change(folder: Path, random: Random) -> str:
    """Put an odd value somewhere into one of the files; returns where."""
    path = random.choice(sorted(folder.iterdir()))
    values = json.loads(path.read_text(encoding="utf-8"))
    holder, steps = values, [path.name]
    while True:
        key = random.choice(sorted(holder) if isinstance(holder, dict) else range(len(holder)))
        steps.append(str(key))
        inner = holder[key]
        if not (isinstance(inner, (dict, list)) and inner) or random.random() < 0.3:
            break
        holder = inner
    holder[key] = random.choice(_ODD)
    path.write_text(json.dumps(values), encoding="utf-8")
    return f"({' / '.join(steps)} is {str(holder[key])[:40]!r})"


def _in_child(folder: Path) -> str:
    import neuralcore.embedding.tokenizer  # noqa: F401 - once, for all children

    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(_MOST_S)
            bound = _MORE_BYTES + int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
            with open(os.devnull, "w") as nothing:  # noqa: PTH123 - what a panic prints is not told
                os.dup2(nothing.fileno(), 2)
            os.write(write, _judge(folder).encode(errors="replace")[:2000])
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, errors="replace") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    return told or f"the process ended with status {status}"


def _judge(folder: Path) -> str:
    from neuralcore.embedding import EmbeddingError
    from neuralcore.embedding.tokenizer import Tokenizer, write_effective

    path, copy = folder / "tokenizer.json", folder.parent / "copy.json"
    try:
        own = _ids(Tokenizer(path, max_tokens=_FOLDERS.MAX_TOKENS))
        write_effective(path, copy)
    except EmbeddingError as error:
        named = getattr(error, "path", str(folder))
        return "held" if named.startswith(str(folder)) else f"it names {named}: {error}"
    except BaseException as error:  # noqa: BLE001 - whatever comes through is what is looked for
        return f"{type(error).__name__}: {error}"
    kept = _ids(Tokenizer(copy, max_tokens=_FOLDERS.MAX_TOKENS))
    return "held" if own == kept else "the copy in the cache gives other ids"


def _ids(tokenizer: Any) -> list[list[int]]:
    batch = tokenizer.encode(_FOLDERS.TEXTS)
    return [batch.ids.tolist(), batch.offsets.tolist()]
