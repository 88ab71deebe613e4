"""The command line where streams are closed, left or full, consoles poor, and signals come: quiet, whole or nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neuralcore.embedding.cli import process, writers
from neuralcore.embedding.cli.commands import cli
from neuralcore.embedding.cli.readers import text_source
from neuralcore.embedding.progress import progress_bar
from tests import command, tiny_model
from tests.users import as_user

STREAMS = (0, 1, 2)
MANY = b"the cat sat on the mat\n" * 5000


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> list[str]:
    place = tmp_path_factory.mktemp("model")
    model = tiny_model.write(place / "tiny")
    options = ["--model", str(model), "--cache-dir", str(place / "cache"), "--offline"]
    assert command.run(["embed", *options, "cat"]).returncode == 0
    return options


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), STREAMS], ids=str)  # the others: `python -m faults terminal`
def test_file_is_written_whatever_is_closed(options, tmp_path, closed):
    arguments = ["embed", *options, "cat", "the dog " * 50, "--output", tmp_path / "o.npy"]  # one is cut: a warning
    result = command.run(arguments, closed=closed)
    assert (result.returncode, result.stdout) == (0, b"")
    assert result.stderr.startswith(b"" if 2 in closed else b"warning: 1 text was cut")
    assert np.load(tmp_path / "o.npy").shape == (2, tiny_model.DIMENSION)
    assert command.names(tmp_path) == ["o.npy"]


@pytest.mark.parametrize(("arguments", "closed"), [(["cat"], (1,)), ([], (0,))])
def test_stream_that_is_needed_and_closed_is_an_error_in_one_line(options, arguments, closed):
    result = command.run(["embed", *options, *arguments], closed=closed)
    message = b"error: standard input or output is needed, and closed: name a file with --input or --output\n"
    assert (result.returncode, result.stderr) == (1, message)


def test_exit_code_is_the_error_of_a_command_that_cannot_say_anything(options):
    result = command.run(["embed", *options, "--type", "poem", "cat"], closed=STREAMS)
    assert (result.returncode, result.stdout, result.stderr) == (6, b"", b"")
    with Path("/dev/full").open("wb") as full:
        assert command.run(["fly"], stderr=full).returncode == 2


@pytest.mark.parametrize("encoding", ["latin-1", "latin-1:surrogateescape"])
def test_character_that_a_console_lacks_is_replaced(options, encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    result = command.run(["similarity", *options, "日本", "cat"], env=environment)
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"1.00" in result.stdout
    assert b" 1  ?? " in result.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["embed", "cat"]])
def test_reader_that_left_ends_a_command_quietly_as_its_signal_would(options, arguments):
    if arguments == ["embed", "cat"]:
        arguments = ["embed", *options, "cat"]
    writer = command.write_end_without_reader()
    result = command.run(arguments, stdout=writer)
    os.close(writer)
    assert (result.returncode, result.stderr) == (128 + signal.SIGPIPE, b"")


def test_server_needs_nobody_who_reads_where_it_listens(options):
    model, *others = options[1:]
    line = [*command.COMMAND, "serve", model, *others, "--port", "0"]
    script = ["bash", "-c", 'exec "$@" >&-', "bash", *line]
    with subprocess.Popen(script, stderr=subprocess.PIPE, preexec_fn=command.heed_signals) as started:  # noqa: PLW1509
        assert any(b'"ready"' in line for line in started.stderr)
        started.terminate()
        errors = started.communicate(timeout=30)[1]
    assert b"error" not in errors
    assert started.returncode in {0, 128 + signal.SIGTERM}


def test_first_line_is_enough_for_head(options):
    line = " ".join([sys.executable, "-m", "neuralcore.embedding.cli", "embed", *options])
    script = f'yes cat | head -20000 | {line} | head -1; echo "${{PIPESTATUS[2]}}"'
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert (result.stdout.splitlines()[1:], result.stderr) == (["141"], "")


def test_nobody_who_reads_messages_is_no_reason_to_lose_vectors(options, tmp_path):
    writer = command.write_end_without_reader()
    result = command.run(["embed", *options, "the dog " * 50, "-o", tmp_path / "o.npy"], stderr=writer)
    os.close(writer)
    assert result.returncode == 0
    assert np.load(tmp_path / "o.npy").shape == (1, tiny_model.DIMENSION)


def test_closed_terminal_leaves_nothing_and_the_code_that_shells_know(options, tmp_path):
    with command.start(["embed", *options, "-o", tmp_path / "o.npy"]) as started:
        started.stdin.write(MANY)
        command.wait_for(lambda: list(tmp_path.glob("*/o.npy")))
        started.send_signal(signal.SIGHUP)
        errors = started.communicate(timeout=30)[1]
    assert (started.returncode, errors) == (128 + signal.SIGHUP, b"")
    assert command.names(tmp_path) == []


def test_second_signal_does_not_end_the_tidying_up_that_the_first_began(monkeypatch):
    handlers = {}
    monkeypatch.setattr(process.signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(process, "_received", [])
    with pytest.raises(SystemExit) as caught:
        process._leave(signal.SIGTERM, None)
    assert caught.value.code == 128 + signal.SIGTERM
    assert handlers == dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_that_an_import_makes_an_error_of_is_still_a_signal(monkeypatch, capfd, number):
    """As when Ctrl-C comes while an extension module initializes itself."""

    def broken(_):
        try:
            process._leave(number, None)
        except BaseException as error:
            raise ImportError("initialization failed") from error

    monkeypatch.setattr(process, "_run", broken)
    monkeypatch.setattr(process, "_received", [])
    monkeypatch.setattr(process.signal, "signal", lambda *_: None)
    assert process.run([]) == 128 + number
    assert capfd.readouterr() == ("", "")


def test_hanging_up_is_ignored_where_nohup_says_so(options, tmp_path):
    def ignore():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with command.start(["embed", *options, "-o", tmp_path / "o.npy"], preexec_fn=ignore) as started:
        command.wait_for(lambda: list(tmp_path.glob("*/o.npy")))
        started.send_signal(signal.SIGHUP)
        errors = started.communicate(b"cat\n", timeout=30)[1]
    assert (started.returncode, errors) == (0, b"")
    assert np.load(tmp_path / "o.npy").shape == (1, tiny_model.DIMENSION)


def test_terminal_that_is_closed_takes_the_bar_with_it_and_not_the_work(options, tmp_path):
    ours, theirs = command.open_terminal()
    with command.start(["embed", *options, "-o", tmp_path / "o.npy"], stderr=theirs) as started:
        os.close(theirs)
        started.stdin.write(MANY)
        assert os.read(ours, 1)  # the bar is there
        os.close(ours)
        started.communicate(MANY, timeout=60)
    assert started.returncode == 0
    assert np.load(tmp_path / "o.npy").shape == (10_000, tiny_model.DIMENSION)


def test_bar_on_a_stream_that_fails_is_no_error(monkeypatch):
    class Gone:
        encoding = "utf-8"

        def isatty(self):
            return True

        def write(self, _):
            raise OSError(5, "Input/output error")

        flush = write_through = lambda self, *_: self.write("")

    monkeypatch.setattr(sys, "stderr", Gone())
    with progress_bar("label", 3) as advance:
        advance(3)


@pytest.mark.parametrize("name", [None, *cli.commands])
def test_help_shows_no_markup(name, capfd):
    assert process.run([*filter(None, [name]), "--help"]) == 0
    shown = capfd.readouterr().out
    assert "Usage: neuralcore" in shown
    assert "\\b" not in shown
    assert "\b" not in shown


@pytest.mark.parametrize("ending", ["npy", "parquet"])
def test_disk_that_fills_up_is_named_and_nothing_is_left(options, tmp_path, ending):
    output = tmp_path / f"o.{ending}"
    result = command.run(["embed", *options, "-o", output], input=MANY, preexec_fn=command.limit_files(10_000))
    assert (result.returncode, result.stderr) == (1, f"error: [Errno 27] File too large: '{output}'\n".encode())
    assert command.names(tmp_path) == []


def test_next_run_removes_what_a_killed_one_left_and_nothing_of_a_living_one(options, tmp_path):
    arguments = ["embed", *options, "-o", tmp_path / "o.npy"]
    with command.start(arguments) as killed:
        command.wait_for(lambda: list(tmp_path.glob("*/o.npy")))
        killed.kill()
    left = command.names(tmp_path)
    assert len(left) == 1
    (tmp_path / ".partial-o.npy-killed-before-it-had-its-lock").mkdir()
    with command.start(arguments) as living:
        command.wait_for(lambda: not (tmp_path / left[0]).exists() and list(tmp_path.glob("*/o.npy")))
        assert len(command.names(tmp_path)) == 1  # that of the killed one is gone
        assert command.run(["embed", *options, "cat", "dog", "-o", tmp_path / "o.npy"]).returncode == 0
        assert len(command.names(tmp_path)) == 2
        living.communicate(b"cat\n", timeout=30)
    assert living.returncode == 0
    assert np.load(tmp_path / "o.npy").shape == (1, tiny_model.DIMENSION)
    assert command.names(tmp_path) == ["o.npy"]


def test_output_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    path, named = tmp_path / "o.npy", []
    monkeypatch.setattr(writers.os, "fsync", lambda _: named.append(path.exists()))
    with writers.open_writer(path, text_source(["cat"]), 4) as write:
        write(next(text_source(["cat"]).chunks), np.zeros((1, 4), np.float32))
    assert (named, path.exists()) == ([False], True)


def test_pipe_is_not_replaced_by_a_file(options, tmp_path):
    os.mkfifo(tmp_path / "o.jsonl")
    result = command.run(["embed", *options, "cat", "-o", tmp_path / "o.jsonl"])
    assert result.returncode == 6
    assert b"is no file" in result.stderr
    assert (tmp_path / "o.jsonl").is_fifo()


def test_user_without_name_and_home_is_told_where_to_keep_models_and_gets_help_and_information():
    environment = {name: value for name, value in os.environ.items() if name not in {"HOME", "XDG_CACHE_HOME"}}

    def run(*arguments):
        line = as_user(54_321, [*command.COMMAND, *arguments])
        return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)

    helped, informed, embedded = run("--help"), run("info"), run("embed", "cat")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert (informed.returncode, informed.stderr) == (0, "")
    assert "cache                 none: this user has no home" in informed.stdout
    assert embedded.returncode == 6
    assert embedded.stderr.startswith("error: this user has no home")
