"""Address space that does not suffice (`ulimit -v`): a result or a clear error, no abort, hang or traceback."""

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

from tests import tiny_model
from tests.limits import limit_address_space

from faults.trial import Trial
from neuralcore.embedding.errors import STATUS, OutOfMemory

TITLE = "limited address space: a result or OutOfMemory"
_WAIT_S = 60
_MODEL = "all-MiniLM-L6-v2"
_SENTENCES = "\n".join(f"sentence number {number} of many, with a few words more" for number in range(3000))
_PARAGRAPHS = "\n".join("a paragraph of some length that goes on for a while " * 20 for _ in range(200))
_LONG = "one very long text " * 150_000


def trials(random: random.Random) -> Iterator[Trial]:
    """Workloads in turn, each under a limit of its own; the range ends where everything fits."""
    while True:
        for name, arguments, text in _workloads():
            limit = random.randrange(120, 1400, 4)
            yield Trial(f"{name}, {limit} MiB", partial(_provoke, arguments, text, limit))


def _workloads() -> Iterator[tuple[str, list[str], str]]:
    for precision in ("int8", "fp32"):
        model = ["--model", _MODEL, "--precision", precision]
        yield f"one text in {precision}", ["embed", *model, "one text"], ""
        yield f"3,000 sentences in {precision}", ["embed", *model], _SENTENCES
        yield f"200 paragraphs in {precision}", ["embed", *model], _PARAGRAPHS
        yield f"one text of 2.9 MB in {precision}", ["embed", *model], _LONG
        yield f"making {precision} of a new model", ["embed", "--precision", precision, "--model", _tiny(), "a"], ""


@cache
def _tiny() -> str:
    return str(tiny_model.write(Path(tempfile.mkdtemp()) / "tiny"))


def _provoke(arguments: list[str], text: str, n_mib: int) -> None:
    with tempfile.TemporaryDirectory() as cache_dir:
        environment = dict(os.environ) | ({"NEURALCORE_CACHE": cache_dir} if _tiny() in arguments else {})
        done = subprocess.run(
            [sys.executable, "-m", "neuralcore.embedding.cli", *arguments], input=text, capture_output=True, text=True,
            env=environment, timeout=_WAIT_S, check=False, preexec_fn=limit_address_space(n_mib),
        )  # fmt: skip
    said = done.stderr.strip().splitlines()[-1:] or [""]
    told = done.returncode == STATUS[OutOfMemory].exit_code or "threads cannot be started" in said[0]
    assert told or done.returncode == 0, f"exit code {done.returncode}: {said[0]}"
    assert not any(sign in done.stderr for sign in ("Traceback", "panicked")), said[0]
    if done.returncode == 0:
        expected = len(text.splitlines()) or 1
        assert len(done.stdout.splitlines()) == expected, f"{len(done.stdout.splitlines())} vectors of {expected}"
