"""A small model, commands of `neuralcore` that fetch and make it, and what they may not leave behind."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from tests import hub_server, tiny_model

from neuralcore.embedding import EmbeddingEngine

REPOSITORY = "org/tiny"
TEXTS = ["the cat sat on the mat", "a dog", ""]
PATIENCE_S = 120
_LEFTOVERS = (".partial-*", "*.incomplete", "*.tmp", "*.whl")


@dataclass(frozen=True, slots=True)
class Command:
    """A command, what it makes, and how that is loaded.

    Args:
        name: for people.
        arguments: of `neuralcore`; {cache}, {url}, {folder} and {output} are filled in.
        loaded: what to load afterwards: a model's name, or {output}.
        precision: to load it in.
    """

    name: str
    arguments: tuple[str, ...]
    loaded: str = REPOSITORY
    precision: str = "fp32"


COMMANDS = (
    Command("pull", ("pull", REPOSITORY)),
    Command("pull and pack", ("pull", REPOSITORY, "--precision", "int8"), precision="int8"),
    Command("pull and quantize", ("pull", REPOSITORY, "--precision", "dynamic-int8"), precision="dynamic-int8"),
    Command("convert", ("convert", "{folder}", "--output", "{output}"), loaded="{output}"),
)


@dataclass(slots=True)
class Workplace:
    """A folder with a model, a mirror that has it, and room for what is made."""

    root: Path
    hub: hub_server.HubState
    expected: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def cache(self) -> Path:
        return self.root / "made" / "cache"

    @property
    def output(self) -> Path:
        return self.root / "made" / "output"

    def start(self, command: Command, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Begin a command, as the first of a group of processes."""
        (self.root / "made").mkdir(exist_ok=True)
        filled = [self._fill(argument) for argument in command.arguments]
        options = ["--cache-dir", str(self.cache), "--endpoint", self.hub.url]
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", "neuralcore.embedding.cli", *filled, *options],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def run(self, command: Command, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """A command from its beginning to its end."""
        with self.start(command, prefix) as process:
            try:
                errors = process.communicate(timeout=PATIENCE_S)[1]
            except subprocess.TimeoutExpired as error:
                kill(process)
                raise AssertionError(f"{command.name} did not end in {PATIENCE_S} s") from error
        return subprocess.CompletedProcess(command.arguments, process.returncode, "", errors)

    def check(self, command: Command) -> None:
        """The command succeeds, what it makes is right, and nothing else is there."""
        if self.output.exists():  # made in full before the fault came: it is right, and would not be written over
            self._compare(command)
            shutil.rmtree(self.output)
        result = self.run(command)
        assert result.returncode == 0, f"exit code {result.returncode}: {result.stderr[-500:]}"
        self._compare(command)
        assert not (left := self.leftovers()), f"left behind: {left}"

    def leftovers(self) -> list[str]:
        """What is neither a model nor a lock."""
        return sorted(
            str(path.relative_to(self.root)) for pattern in _LEFTOVERS for path in (self.root / "made").rglob(pattern)
        )  # fmt: skip

    def clear(self) -> None:
        """Begin anew."""
        shutil.rmtree(self.root / "made", ignore_errors=True)

    def _compare(self, command: Command) -> None:
        vectors = self._vectors(command)
        np.testing.assert_array_equal(vectors, self.expected.setdefault(command.name, vectors))

    def _vectors(self, command: Command) -> NDArray[np.float32]:
        options = {"cache_dir": self.cache, "offline": True, "verify_files": True, "threads": 1}
        with EmbeddingEngine.from_pretrained(
            self._fill(command.loaded), precision=command.precision, **options  # type: ignore[arg-type]
        ) as engine:  # fmt: skip
            return engine.embed_batch(TEXTS)

    def _fill(self, argument: str) -> str:
        return argument.format(folder=self.root / "tiny", output=self.output)


@contextmanager
def workplace(**hub: float) -> Iterator[Workplace]:
    """A place to work in.

    Args:
        hub: how the mirror behaves.
    """
    with TemporaryDirectory(prefix="faults-") as name:
        root = Path(name)
        folder = tiny_model.write(root / "tiny")
        with hub_server.running(repositories={REPOSITORY: folder}, **hub) as state:
            yield Workplace(root, state)


def kill(process: subprocess.Popen[str]) -> None:
    """End a process at once; those it started may see to themselves."""
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
