"""The command line in pipes, in files and on a terminal: closed, left, full, poor, gone, and stopped by every signal.

A command ends in a whole output and 0, or in no output and the code of what ended it; never in a traceback, and the
next run finds a clean folder.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, combinations
from pathlib import Path
from random import Random
from subprocess import PIPE, Popen
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
from tests import command, tiny_model

from faults.trial import Trial

TITLE = "the command line: closed and full streams, consoles, signals, kills"
_N_LINES = 4000
_LINES = b"the cat sat on the mat\n" * _N_LINES
_ENDINGS = ("npy", "jsonl", "parquet")
_CLOSED = tuple(chain.from_iterable(combinations((0, 1, 2), n) for n in range(4)))
_ENCODINGS = ("ascii", "latin-1", "cp1252", "koi8-r", "shift_jis", "utf-8", "ascii:surrogateescape")
_NO_ROOM = b"error: [Errno 27] File too large"
# Says that Python has started and the command begins: what happens before that is not the product's.
_BEGUN = "import os, sys; from neuralcore.embedding.cli import main; os.write(1, b'.'); main()"


@dataclass(frozen=True)
class Place:
    """A model to embed with, and a folder for what is written."""

    options: list[str]
    folder: Path

    def output(self, ending: str) -> Path:
        return self.folder / f"o.{ending}"


def trials(random: Random) -> Iterator[Trial]:
    """One of every kind in random order, again and again."""
    with TemporaryDirectory() as temporary:
        root = Path(temporary)
        options = ["--model", str(tiny_model.write(root / "model")), "--cache-dir", str(root / "cache"), "--offline"]
        assert command.run(["embed", *options, "cat"]).returncode == 0
        closed = [partial(_closed, streams) for streams in random.sample(_CLOSED, len(_CLOSED))]
        yield from (_trial(options, *draw(random)) for draw in closed)
        while True:
            for draw in random.sample(_KINDS, len(_KINDS)):
                yield _trial(options, *draw(random))


def _trial(options: list[str], name: str, provoke: Callable[[Place], None]) -> Trial:
    def run() -> None:
        with TemporaryDirectory() as folder:
            provoke(Place(options, Path(folder)))

    return Trial(name, run)


Drawn = tuple[str, Callable[[Place], None]]


def _closed(streams: tuple[int, ...], random: Random) -> Drawn:
    from_stdin, ending = random.random() < 0.5, random.choice([None, *_ENDINGS])

    def provoke(place: Place) -> None:
        arguments = ["embed", *place.options, *([] if from_stdin else ["cat", "dog " * 50])]
        output = ["-o", place.output(ending)] if ending else []
        result = command.run([*arguments, *output], closed=streams, input=b"cat\ndog\n")
        is_needed = (0 in streams and from_stdin) or (1 in streams and not ending)
        assert result.returncode == (1 if is_needed else 0), (result.returncode, result.stderr)
        assert b"Traceback" not in result.stderr, result.stderr
        _check_folder(place, ending if not is_needed else None, n_rows=2)

    source = "standard input" if from_stdin else "arguments"
    return f"streams {streams} closed, {source} to {ending or 'standard output'}", provoke


def _console(random: Random) -> Drawn:
    encoding, width = random.choice(_ENCODINGS), random.choice([0, 1, 3, 10, 40, 80, 500])
    name = random.choice(["similarity", "models", "info", "--help"])

    def provoke(place: Place) -> None:
        texts = ["日本", "ünïcödé", "cat\x1b[31m", "a" * 300]
        arguments = ["similarity", *place.options, *texts] if name == "similarity" else [name]
        environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "COLUMNS": str(width)}
        result = command.run(arguments, env={**environment, "NEURALCORE_CACHE": str(place.folder)})
        assert (result.returncode, result.stderr) == (0, b""), result.stderr
        assert b"\x1b" not in result.stdout

    return f"{name} on a console of {width} columns in {encoding}", provoke


def _reader(random: Random) -> Drawn:
    n_bytes = random.choice([0, 1, 100, 10_000, 1_000_000])

    def provoke(place: Place) -> None:
        with command.start(["embed", *place.options], stdin=PIPE) as started:
            assert started.stdin
            assert started.stdout
            assert started.stderr
            _feed(started, _LINES)
            started.stdout.read(n_bytes)
            started.stdout.close()
            errors = started.stderr.read()
            code = started.wait(60)
        assert (code, errors) == (128 + signal.SIGPIPE, b""), (code, errors)

    return f"a reader that leaves after {n_bytes} bytes", provoke


def _signal(random: Random) -> Drawn:
    number = random.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    delay_s, ending, n_times = random.uniform(0, 1.5), random.choice(_ENDINGS), random.choice([1, 1, 2])

    def provoke(place: Place) -> None:
        with _begun(place, ending) as started:
            time.sleep(delay_s)
            for _ in range(1 if number == signal.SIGINT else n_times):
                started.send_signal(number)
            errors = started.communicate(timeout=60)[1]
        assert errors == b"", errors
        assert started.returncode in {0, 128 + number, -number}, started.returncode
        _check_folder(place, ending if place.output(ending).exists() else None, n_rows=_N_LINES)
        assert started.returncode != 0 or place.output(ending).exists()

    return f"{number.name} {n_times} times after {delay_s:.3f} s to .{ending}", provoke


def _kill(random: Random) -> Drawn:
    delay_s, ending = random.uniform(0, 1.2), random.choice(_ENDINGS)

    def provoke(place: Place) -> None:
        place.output(ending).write_bytes(b"what was there before")
        with _begun(place, ending) as started:
            time.sleep(delay_s)
            started.kill()
            started.communicate(timeout=60)
        if place.output(ending).read_bytes() != b"what was there before":
            _check_folder(place, ending, n_rows=_N_LINES)
        assert command.run(["embed", *place.options, "cat", "-o", place.output(ending)]).returncode == 0
        _check_folder(place, ending, n_rows=1)

    return f"kill -9 after {delay_s:.3f} s to .{ending}, and a run after it", provoke


def _full(random: Random) -> Drawn:
    n_bytes, ending = random.choice([0, 1, 127, 128, 4096, random.randrange(1_000_000)]), random.choice(_ENDINGS)

    def provoke(place: Place) -> None:
        limit = command.limit_files(n_bytes)
        result = command.run(["embed", *place.options, "-o", place.output(ending)], input=_LINES, preexec_fn=limit)
        if result.returncode:
            assert result.returncode == 1, result
            assert result.stderr == _NO_ROOM + f": '{place.output(ending)}'\n".encode(), result.stderr
        _check_folder(place, None if result.returncode else ending, n_rows=_N_LINES)

    return f"a disk with room for {n_bytes} bytes of a .{ending}", provoke


def _terminal(random: Random) -> Drawn:
    delay_s, ending = random.uniform(0, 0.5), random.choice(_ENDINGS)

    def provoke(place: Place) -> None:
        ours, theirs = command.open_terminal()
        with command.start(["embed", *place.options, "-o", place.output(ending)], stderr=theirs) as started:
            os.close(theirs)
            time.sleep(delay_s)
            os.close(ours)
            started.communicate(_LINES, timeout=60)
        assert started.returncode == 0, started.returncode
        _check_folder(place, ending, n_rows=_N_LINES)

    return f"a terminal that goes away after {delay_s:.3f} s", provoke


_KINDS = (_console, _reader, _signal, _signal, _kill, _kill, _full, _terminal)


def _begun(place: Place, ending: str) -> Popen[bytes]:
    """A command that writes to a file and has begun, with all its input before it."""
    arguments = [sys.executable, "-c", _BEGUN, "embed", *place.options, "-o", str(place.output(ending))]
    started = Popen(arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, preexec_fn=command.heed_signals)  # noqa: PLW1509
    assert started.stdout
    assert started.stdout.read(1) == b"."
    _feed(started, _LINES)
    return started


def _feed(started: Popen[bytes], lines: bytes) -> None:
    """All input at once: a pipe of this size takes it without waiting for its reader."""
    assert started.stdin
    reader_bytes = os.sysconf("SC_PAGESIZE") * 256
    assert len(lines) < reader_bytes
    _widen(started.stdin.fileno(), reader_bytes)
    started.stdin.write(lines)
    started.stdin.close()
    started.stdin = None


def _widen(pipe: int, n_bytes: int) -> None:
    import fcntl

    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, n_bytes)


def _check_folder(place: Place, ending: str | None, *, n_rows: int) -> None:
    """Nothing but a whole output, or nothing at all."""
    found = command.names(place.folder)
    assert found == ([f"o.{ending}"] if ending else []), found
    if ending:
        assert _shape(place.output(ending)) == (n_rows, tiny_model.DIMENSION)


def _shape(path: Path) -> tuple[int, ...]:
    match path.suffix:
        case ".npy":
            return tuple(np.load(path).shape)
        case ".parquet":
            return np.array(pq.read_table(path)["embedding"].to_pylist()).shape
    return np.array([json.loads(line)["embedding"] for line in path.read_text().splitlines()]).shape
