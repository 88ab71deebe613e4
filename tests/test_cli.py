"""The command line, as processes: what a person or a script sees."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

TEXTS = ["the cat sat", "", "ünïcödé 日本語", 'with "quotes", commas', "the red dog ran " * 30]


@pytest.fixture
def cache(minilm_cache) -> dict[str, str]:
    return {**os.environ, "NEURALCORE_CACHE": str(minilm_cache), "HF_HUB_OFFLINE": "1"}


@pytest.fixture
def run(cache):
    def run(*arguments, stdin: str | bytes = b"", code: int = 0) -> subprocess.CompletedProcess:
        stdin = stdin.encode() if isinstance(stdin, str) else stdin
        command = [sys.executable, "-m", "neuralcore.embedding.cli", *map(str, arguments)]
        result = subprocess.run(command, input=stdin, capture_output=True, env=cache, timeout=100, check=False)
        assert result.returncode == code, result.stderr.decode()
        return result

    return run


@pytest.fixture(scope="module")
def expected(minilm) -> np.ndarray:
    return minilm.embed_batch(TEXTS)


def write_input(folder: Path, kind: str) -> Path:
    path = folder / f"input.{kind}"
    rows = [{"id": number, "body": text} for number, text in enumerate(TEXTS)]
    match kind:
        case "txt":
            path.write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        case "csv":
            with path.open("w", encoding="utf-8-sig", newline="") as file:
                writer = csv.DictWriter(file, ["id", "body"])
                writer.writeheader()
                writer.writerows(rows)
        case "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def read_output(path: Path) -> np.ndarray:
    match path.suffix:
        case ".npy":
            return np.load(path)
        case ".jsonl":
            return vectors_of(path.read_text(encoding="utf-8"))
        case ".parquet":
            return np.stack(pq.read_table(path)["embedding"].to_numpy(zero_copy_only=False))
    raise AssertionError(path)


def vectors_of(lines: str) -> np.ndarray:
    return np.array([json.loads(line)["embedding"] for line in lines.splitlines()], np.float32)


@pytest.mark.parametrize(
    ("kind", "ending"), [("txt", "npy"), ("jsonl", "jsonl"), ("csv", "parquet"), ("parquet", "npy")]
)
def test_files_in_and_out(run, tmp_path, expected, kind, ending):
    source, output = write_input(tmp_path, kind), tmp_path / f"output.{ending}"
    result = run("embed", "--input", source, "--column", "body", "--output", output)
    np.testing.assert_allclose(read_output(output), expected, atol=1e-6)
    assert (result.stdout, result.stderr) == (b"", b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name, output.name]


def test_other_columns_are_kept(run, tmp_path):
    source = write_input(tmp_path, "csv")
    for ending in ("jsonl", "parquet"):
        run("embed", "--input", source, "--column", "body", "--output", tmp_path / f"o.{ending}")
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["id"], row["body"]) for row in rows] == [(str(i), text) for i, text in enumerate(TEXTS)]
    table = pq.read_table(tmp_path / "o.parquet")
    assert table.column_names == ["id", "body", "embedding"]
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 384)


def test_arguments_to_standard_output(run, expected):
    out = run("embed", TEXTS[0], TEXTS[2]).stdout.decode()
    np.testing.assert_allclose(vectors_of(out), expected[[0, 2]], atol=1e-6)
    assert json.loads(out.splitlines()[1])["text"] == TEXTS[2]


def test_lines_of_standard_input_are_texts_even_empty_ones(run, expected):
    out = run("embed", stdin="\r\n".join(TEXTS)).stdout.decode()
    np.testing.assert_allclose(vectors_of(out), expected, atol=1e-6)


def test_many_lines_stream_through(run, tmp_path):
    lines = "".join(f"word {number % 7}\n" for number in range(5000))
    run("embed", "--output", tmp_path / "o.npy", stdin=lines)
    vectors = np.load(tmp_path / "o.npy")
    assert vectors.shape == (5000, 384)
    np.testing.assert_allclose(vectors[:7], vectors[4900:4907], atol=1e-6)


@pytest.mark.parametrize("ending", ["npy", "jsonl", "parquet"])
def test_no_texts_give_a_valid_file_without_rows(run, tmp_path, ending):
    run("embed", "--output", tmp_path / f"o.{ending}")
    if ending == "npy":
        assert np.load(tmp_path / "o.npy").shape == (0, 384)
    elif ending == "parquet":
        assert pq.read_table(tmp_path / "o.parquet").num_rows == 0
    else:
        assert (tmp_path / "o.jsonl").read_bytes() == b""


def test_queries_get_the_query_prefix(run, tmp_path):
    from tests import tiny_model

    folder = tiny_model.write(tmp_path / "m", prompts={"query": "red "})
    options = ("embed", "--model", folder, "--cache-dir", tmp_path / "c")
    query, document = (
        run(*options, "--type", kind, text) for kind, text in (("query", "cat"), ("document", "red cat"))
    )
    np.testing.assert_allclose(vectors_of(query.stdout.decode()), vectors_of(document.stdout.decode()), atol=1e-6)


def test_any_text_is_a_prompt(run, tmp_path):
    from tests import tiny_model

    folder = tiny_model.write(tmp_path / "m", prompts={"document": "blue "})
    options = ("embed", "--model", folder, "--cache-dir", tmp_path / "c")
    own, same = (run(*options, "--prompt", *given) for given in (("red ", "cat"), ("", "red cat")))
    np.testing.assert_allclose(vectors_of(own.stdout.decode()), vectors_of(same.stdout.decode()), atol=1e-6)
    both = run(*options, "--prompt", "red ", "--query", "cat", code=2)
    assert "--prompt exclude each other" in both.stderr.decode()


def test_cut_texts_are_mentioned(run):
    errors = run("embed", "word " * 400).stderr.decode()
    assert errors == "warning: 1 text was cut to 256 tokens; the first is text 0 with 402\n"
    assert run("embed", "word " * 400, "--truncation", "truncate").stderr == b""


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "message"),
    [
        (("embed", "--model", "all-minilm-l6-v", "x"), b"", 3, "Did you mean 'all-MiniLM-L6-v2'"),
        (("embed", "--model", "org/nothing", "x"), b"", 4, "Network calls are switched off"),
        (("embed",), b"good\n\xff\xfe bad\n", 6, "line 2 is not UTF-8"),
        (("embed", "--truncation", "error"), b"word " * 400, 6, "the limit is 256"),
        (("embed", "--output", "vectors.pickle", "x"), b"", 6, ".npy, .jsonl, .parquet"),
        (("embed", "--output", "no/such/folder/o.npy", "x"), b"", 6, "there is no folder"),
        (("embed", "--device", "cuda", "x"), b"", 7, "onnxruntime-gpu"),
        (("embed", "--type", "poem", "x"), b"", 6, "has no prompt 'poem'"),
        (("embed", "--input", "no-such-file.txt"), b"", 2, "does not exist"),
        (("similarity", "alone"), b"", 2, "at least two"),
        (("fly",), b"", 2, "No such command"),
    ],
)
def test_errors_say_what_to_do_and_set_the_exit_code(run, arguments, stdin, code, message):
    result = run(*arguments, stdin=stdin, code=code)
    errors = result.stderr.decode()
    assert message in errors
    assert "Traceback" not in errors
    assert result.stdout == b"" or b"embedding" in result.stdout


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"other": 1}\n', "line 1 has no column 'text'; it has 'other'"),
        ("a.jsonl", '{"text": "fine"}\n{"text": 3}\n', "line 2: column 'text' holds int"),
        ("a.jsonl", '{"text": \n', "line 1 is not JSON"),
        ("a.csv", "id,body\n1,x\n", "the header has no column 'text'; it has 'id', 'body'"),
        ("a.docx", "", "its ending must be one of"),
    ],
)
def test_bad_input_files_leave_no_output(run, tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    result = run("embed", "--input", tmp_path / name, "--output", tmp_path / "o.npy", code=6)
    assert message in result.stderr.decode()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_debug_shows_where(run):
    assert "Traceback" in run("--debug", "embed", "--model", "nope", "x", code=3).stderr.decode()


def test_reader_that_leaves_early_is_no_error(cache):
    command = f"yes some text | head -20000 | {sys.executable} -m neuralcore.embedding.cli embed | head -1"
    result = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, env=cache, check=False)
    assert len(vectors_of(result.stdout.decode())) == 1
    assert b"Traceback" not in result.stderr
    assert b"Exception" not in result.stderr


def listen_to_interrupts() -> None:
    """Background jobs of a shell ignore them, and so would their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_interrupted_command_leaves_nothing(cache, tmp_path):
    output = tmp_path / "o.npy"
    command = [sys.executable, "-m", "neuralcore.embedding.cli", "embed", "--output", str(output)]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, env=cache, preexec_fn=listen_to_interrupts) as process:  # noqa: PLW1509
        process.stdin.write(b"some text\n" * 3000)
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("*/o.npy")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_similarity_is_a_matrix_for_programs_and_a_table_for_people(run, minilm):
    texts = ["a cat", "a kitten", "stock markets"]
    values = json.loads(run("similarity", "--json", *texts).stdout)
    vectors = minilm.embed_batch(texts)
    assert values["texts"] == texts
    np.testing.assert_allclose(values["similarity"], vectors @ vectors.T, atol=1e-4)
    table = run("similarity", *texts).stdout.decode()
    assert [line.split()[:2] for line in table.splitlines()[1:]] == [["1", "a"], ["2", "a"], ["3", "stock"]]
    assert f"{values['similarity'][0][1]:.2f}" in table


def test_models_lists_what_is_known_and_ready(run):
    found = {model["name"]: model for model in json.loads(run("models", "--json").stdout)}
    assert found["all-MiniLM-L6-v2"]["state"] == "ready"
    assert found["bge-small-en-v1.5"]["prefixes"].keys() == {"query"}
    assert found["nomic-embed-text-v1.5"]["max_tokens"] == 2048
    pinned = {name: found[name]["pinned"] for name in ("bge-small-en-v1.5", "bge-m3", "gte-small")}
    assert pinned == {"bge-small-en-v1.5": "hashes", "bge-m3": "commit", "gte-small": "no"}
    assert (found["gte-small"]["bytes"], found["gte-small"]["download_bytes"]) == (0, 67_000_000)
    table = run("models").stdout.decode()
    assert all(name in table for name in found)


def test_pull_makes_ready_and_verifies(run, minilm_cache):
    values = json.loads(run("pull", "all-MiniLM-L6-v2", "--verify", "--json").stdout)
    assert Path(values["folder"]).is_relative_to(minilm_cache)
    assert "ready" in run("pull", "all-MiniLM-L6-v2").stdout.decode()


def test_info_tells_versions_threads_providers_and_cache(run, minilm_cache):
    facts = json.loads(run("info", "--json").stdout)
    assert facts["cache"] == str(minilm_cache)
    assert facts["threads"] >= 1
    assert "CPUExecutionProvider" in facts["providers"]
    assert facts["onnxruntime"] != "not installed"
    assert "providers" in run("info").stdout.decode()


def test_help_loads_no_heavy_library():
    code = (
        "import sys; from neuralcore.embedding.cli.process import run; run(['--help']);"
        "print(sorted({'numpy', 'onnxruntime', 'rich.table'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.endswith("[]\n")


def test_installed_command_tells_its_version():
    command = Path(sys.executable).parent / "neuralcore"
    out = subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout
    assert out == "neuralcore, version 0.1.0\n"
