"""The command line's readers and writers: what goes in comes out, whole, with its types, or not at all."""

import csv
import datetime
import decimal
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neuralcore.embedding import EmbeddingEngine
from neuralcore.embedding.cli.process import run
from neuralcore.embedding.store import make_store
from tests import tiny_model
from tests.ready import ready_graph

TEXTS = ["the cat sat", "", "ünïcödé 日本語", 'with "quotes", commas', "the red dog ran on the mat"]
ENDINGS = [".npy", ".jsonl", ".parquet"]
COMMAND = [sys.executable, "-m", "neuralcore.embedding.cli"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("model")


@pytest.fixture(scope="module")
def options(place) -> list[str]:
    model = tiny_model.write(place / "tiny", prompts={"query": "red "})
    return ["--model", str(model), "--cache-dir", str(place / "cache"), "--offline"]


@pytest.fixture(scope="module")
def engine(options):
    with EmbeddingEngine.from_pretrained(options[1], cache_dir=options[3]) as engine:
        yield engine


@pytest.fixture
def embed(options, capfd):
    """Runs the command in this process; what it wrote to both streams comes back."""

    def embed(*arguments, code: int = 0) -> tuple[str, str]:
        result = run(["embed", *options, *map(str, arguments)])
        out, err = capfd.readouterr()
        assert result == code, err
        return out, err

    return embed


def write_input(path: Path, texts=TEXTS) -> Path:
    rows = [{"id": number, "text": text} for number, text in enumerate(texts)]
    match path.suffix:
        case ".txt":
            path.write_bytes("".join(f"{text}\n" for text in texts).encode())
        case ".jsonl":
            path.write_bytes("".join(json.dumps(row) + "\n" for row in rows).encode())
        case ".csv":
            with path.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([["id", "text"], *(row.values() for row in rows)])
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def read_vectors(path: Path) -> np.ndarray:
    match path.suffix:
        case ".npy":
            return np.load(path)
        case ".jsonl":
            return np.array([row["embedding"] for row in read_rows(path)], np.float32)
        case ".parquet":
            return np.array([row["embedding"] for row in pq.read_table(path).to_pylist()], np.float32)
    raise AssertionError(path)


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".csv", ".parquet"])
def test_every_input_goes_to_every_output(embed, engine, tmp_path, kind, ending):
    source, output = write_input(tmp_path / f"in{kind}"), tmp_path / f"out{ending}"
    assert embed("--input", source, "--output", output) == ("", "")
    np.testing.assert_array_equal(read_vectors(output), engine.embed_batch(TEXTS))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, output.name])


@pytest.mark.parametrize("ending", ENDINGS)
def test_records_of_many_chunks_keep_their_own_vectors(embed, engine, tmp_path, ending):
    texts = [f"cat {number} dog {number % 13}" for number in range(2500)]
    output = tmp_path / f"out{ending}"
    embed("--input", write_input(tmp_path / "in.parquet", texts), "--output", output)
    np.testing.assert_array_equal(read_vectors(output), engine.embed_batch(texts))
    if ending != ".npy":
        rows = read_rows(output) if ending == ".jsonl" else pq.read_table(output).to_pylist()
        assert [(row["id"], row["text"]) for row in rows] == list(enumerate(texts))


def test_fields_that_only_some_lines_have_become_columns_with_nulls(embed, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "a", "x": 1}\n\n{"text": "b", "y": "z"}\n')
    embed("--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet").drop_columns(["embedding"])
    assert table.to_pylist() == [{"text": "a", "x": 1, "y": None}, {"text": "b", "x": None, "y": "z"}]


def typed_table() -> pa.Table:
    """1,500 rows: the first chunk of `late` holds nothing but nulls."""
    n = 1500
    return pa.table(
        {
            "text": pa.array(["cat"] * n, pa.large_string()),
            "time": pa.array(range(n), pa.timestamp("ns")),
            "kind": pa.array(["x", "y"] * (n // 2)).dictionary_encode(),
            "small": pa.array([7] * n, pa.int16()),
            "late": pa.array([None] * 1400 + ["z"] * 100, pa.string()),
            "blob": pa.array([b"\xff"] * n),
        }
    )


def test_parquet_columns_keep_types_and_values(embed, tmp_path):
    table = typed_table()
    pq.write_table(table, tmp_path / "in.parquet")
    embed("--input", tmp_path / "in.parquet", "--output", tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.schema.field("embedding").type == pa.list_(pa.float32(), tiny_model.DIMENSION)
    assert found.drop_columns(["embedding"]).cast(table.schema).equals(table)
    assert [field.type for field in found.schema][:-1] == [field.type for field in table.schema]


def test_times_become_strings_in_json(embed, tmp_path):
    day = datetime.date(2026, 1, 2)
    table = pa.table({"text": ["cat"], "day": [day], "time": pa.array([1], pa.timestamp("ns"))})
    pq.write_table(table, tmp_path / "in.parquet")
    row = json.loads(embed("--input", tmp_path / "in.parquet")[0])
    assert (row["day"], row["time"]) == ("2026-01-02", "1970-01-01 00:00:00.000000001")


def test_json_of_every_type_is_json(embed, tmp_path):
    table = {
        "text": ["cat"], "nan": [float("nan")], "list": [[1.5, float("nan")]], "nested": [{"y": [float("nan"), None]}],
        "decimal": [decimal.Decimal("1.50")], "half": pa.array(np.array([1.5], np.float16)),
        "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), "big": [2**62],
        "span": [datetime.timedelta(days=1)], "clock": [datetime.time(1, 2)],
    }  # fmt: skip
    pq.write_table(pa.table(table), tmp_path / "in.parquet")
    row = json.loads(embed("--input", tmp_path / "in.parquet")[0], parse_constant=pytest.fail)
    del row["embedding"]
    assert row == {
        "text": "cat", "nan": None, "list": [1.5, None], "nested": {"y": [None, None]}, "decimal": "1.50", "half": 1.5,
        "map": [["a", 1]], "big": 2**62, "span": "1 day, 0:00:00", "clock": "01:02:00",
    }  # fmt: skip
    (tmp_path / "in.jsonl").write_text('{"text": "cat", "x": NaN}\n')
    assert json.loads(embed("--input", tmp_path / "in.jsonl")[0], parse_constant=pytest.fail)["x"] is None
    embed("--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.parquet")
    assert np.isnan(pq.read_table(tmp_path / "out.parquet")["x"][0].as_py())


def test_columns_of_one_name_are_kept_where_they_can_be(embed, engine, tmp_path):
    (tmp_path / "in.csv").write_text("id,text,id,\n1,cat,2,\n")
    embed("--input", tmp_path / "in.csv", "--output", tmp_path / "o.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "o.npy"), engine.embed_batch(["cat"]))
    pq.write_table(twice([1], [2], "id"), tmp_path / "in.parquet")
    embed("--input", tmp_path / "in.parquet", "--output", tmp_path / "o.parquet")
    assert pq.ParquetFile(tmp_path / "o.parquet").schema_arrow.names == ["id", "text", "id", "embedding"]


def test_integers_and_gaps_fit_into_a_column_of_floats_whole(embed, tmp_path):
    other = '{"text": "a", "x": 7, "y": null, "z": [{"w": 2}]}'
    (tmp_path / "in.jsonl").write_bytes(later('{"text": "a", "x": 1.5, "y": 2, "z": [{"w": 0.5, "v": 1}]}', other))
    embed("--input", tmp_path / "in.jsonl", "--output", tmp_path / "o.parquet")
    last = pq.read_table(tmp_path / "o.parquet").drop_columns(["embedding"]).to_pylist()[-1]
    assert last == {"text": "a", "x": 7.0, "y": None, "z": [{"w": 2.0, "v": None}]}


def test_earlier_embedding_is_replaced(embed, engine, tmp_path):
    pq.write_table(pa.table({"embedding": [[1.0]], "text": ["cat"]}), tmp_path / "in.parquet")
    for ending in (".jsonl", ".parquet"):
        embed("--input", tmp_path / "in.parquet", "--output", tmp_path / f"out{ending}")
        np.testing.assert_array_equal(read_vectors(tmp_path / f"out{ending}"), engine.embed_batch(["cat"]))
    assert pq.ParquetFile(tmp_path / "out.parquet").schema_arrow.names == ["text", "embedding"]


@pytest.mark.parametrize("kind", [".csv", ".parquet"])
def test_table_without_rows_keeps_its_columns(embed, tmp_path, kind):
    source = tmp_path / f"in{kind}"
    if kind == ".csv":
        source.write_text("id,text\n")
    else:
        pq.write_table(pa.table({"id": pa.array([], pa.int8()), "text": pa.array([], pa.string())}), source)
    embed("--input", source, "--output", tmp_path / "out.parquet")
    embed("--input", source, "--output", tmp_path / "out.npy")
    assert pq.read_table(tmp_path / "out.parquet").column_names == ["id", "text", "embedding"]
    assert np.load(tmp_path / "out.npy").shape == (0, tiny_model.DIMENSION)


def test_lone_surrogate_in_another_field_survives(embed, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "é", "x": "\\ud800"}\n')
    embed("--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl")
    row = read_rows(tmp_path / "out.jsonl")[0]
    assert (row["text"], row["x"]) == ("é", "\ud800")


def test_long_csv_field_with_line_breaks_is_one_text(embed, engine, tmp_path):
    text = "the cat\nsat, " * 20_000
    write_input(tmp_path / "in.csv", [text, "dog"])
    embed("--input", tmp_path / "in.csv", "--output", tmp_path / "o.npy", "--truncation", "truncate")
    np.testing.assert_array_equal(np.load(tmp_path / "o.npy"), engine.embed_batch([text, "dog"]))


def test_file_can_be_replaced_by_its_own_output(embed, engine, tmp_path):
    path = write_input(tmp_path / "both.jsonl")
    embed("--input", path, "--output", path)
    np.testing.assert_array_equal(read_vectors(path), engine.embed_batch(TEXTS))


def twice(first, second, name) -> pa.Table:
    """A table whose first and last column have one name."""
    other = "other" if name == "text" else "text"
    return pa.Table.from_arrays([pa.array(first), pa.array(["t"]), pa.array(second)], [name, other, name])


def later(first: str, other: str) -> bytes:
    """Lines whose last one comes in another chunk than the first."""
    return ((first + "\n") * 1100 + other + "\n").encode()


@pytest.mark.parametrize(
    ("name", "content", "ending", "message"),
    [
        ("in.txt", b"good\r\n\xff\n", ".npy", "line 2 is not UTF-8"),
        ("in.csv", b"id,body\n", ".npy", "no column 'text'; it has 'id', 'body'"),
        ("in.csv", b"", ".npy", "it has none at all"),
        ("in.csv", b"id,text\n1\n", ".npy", "line 2 has 1 fields, the header 2"),
        ("in.csv", b"id,text\n1,a,b\n", ".npy", "line 2 has 3 fields, the header 2"),
        ("in.csv", b'id,text\n1,"a\n', ".npy", "is not CSV"),
        ("in.jsonl", b"[" * 100_000 + b"\n", ".npy", "line 1 is not JSON"),
        ("in.jsonl", b'{"text": "a"}\n\n["b"]\n', ".npy", "line 3 is no JSON object"),
        ("in.jsonl", b'{"text": "a", "x": 1}\n{"text": "a", "x": "s"}\n', ".parquet", "do not fit into one table"),
        ("in.jsonl", b'{"text": "a"}\n' * 1100 + b'{"text": "a", "x": 1}\n', ".parquet", "column 'x' is not in"),
        ("in.parquet", b"garbage", ".npy", "is no Parquet file"),
        ("in.parquet", {"body": ["a"]}, ".npy", "no column 'text'; it has 'body'"),
        ("in.parquet", {"text": [1]}, ".npy", "holds int64, not texts"),
        ("in.parquet", {"text": ["a", None]}, ".npy", "row 2: column 'text' is null"),
        ("in.parquet", {"text": ["a"], "x": [b"\xff"]}, ".jsonl", "column 'x' holds bytes, which JSON cannot hold"),
        ("in.parquet", {"text": ["a"], "x": [[{"y": b"\xff"}]]}, ".jsonl", "column 'x' holds bytes"),
        ("in.parquet", {"text": ["a"], "x": [{"y": float("-inf")}]}, ".jsonl", "column 'x' holds -inf"),
        (
            "in.parquet",
            {"text": ["a"], "x": pa.array([3_000_000], pa.date32())},
            ".jsonl",
            "column 'x': date value out",
        ),
        ("in.parquet", {"text": ["a"], "x": pa.array([1], pa.time64("ns"))}, ".jsonl", "column 'x': Nanosecond"),
        ("in.jsonl", b'{"text": "a", "x": 1e999}\n', ".jsonl", "column 'x' holds inf"),
        ("in.jsonl", b'{"text": "a", "text": "b"}\n', ".npy", "line 1: the key 'text' stands there twice"),
        ("in.jsonl", b'{"text": "a"}\n{"text": "a", "x": {"y": 1, "y": 2}}\n', ".npy", "line 2: the key 'y'"),
        ("in.csv", b"text,id,text\na,1,b\n", ".npy", "the header has 2 columns 'text'; rename all but the one"),
        ("in.csv", b"id,text,id\n1,a,2\n", ".jsonl", "several columns are named 'id'"),
        ("in.csv", b"id,text,id\n1,a,2\n", ".parquet", "several columns are named 'id'"),
        ("in.parquet", twice(["a"], ["b"], "text"), ".npy", "in.parquet has 2 columns 'text'"),
        ("in.parquet", twice([1], [2], "id"), ".jsonl", "several columns are named 'id'"),
        ("in.jsonl", later('{"text": "a", "x": 1}', '{"text": "a", "x": 1.5}'), ".parquet", "held int64 before and"),
        ("in.jsonl", later('{"text": "a", "x": {"y": 1}}', '{"text": "a", "x": {"z": 1}}'), ".parquet", "'x' held str"),
        ("in.jsonl", later('{"text": "a", "x": 1.5}', '{"text": "a", "x": true}'), ".parquet", "holds bool beside"),
    ],
)
def test_unusable_input_says_where_and_leaves_nothing(embed, tmp_path, name, content, ending, message):
    if isinstance(content, (dict, pa.Table)):
        pq.write_table(pa.table(content), tmp_path / name)
    else:
        (tmp_path / name).write_bytes(content)
    out, errors = embed("--input", tmp_path / name, "--output", tmp_path / f"out{ending}", code=6)
    assert out == ""
    assert errors.startswith("error: ")
    assert message in errors
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_failure_keeps_the_file_that_was_there(embed, tmp_path):
    (tmp_path / "out.npy").write_text("precious")
    (tmp_path / "in.txt").write_bytes(b"fine\n" * 3000 + b"\xff\n")
    embed("--input", tmp_path / "in.txt", "--output", tmp_path / "out.npy", code=6)
    assert (tmp_path / "out.npy").read_text() == "precious"


def test_output_obeys_umask_and_follows_a_link(embed, tmp_path):
    (tmp_path / "link.npy").symlink_to("real.npy")
    before = os.umask(0o077)
    try:
        embed("cat", "--output", tmp_path / "link.npy")
    finally:
        os.umask(before)
    assert (tmp_path / "link.npy").is_symlink()
    assert (tmp_path / "real.npy").stat().st_mode & 0o777 == 0o600


def test_output_has_as_long_a_name_as_a_file_may_have_and_is_no_link_to_itself(embed, tmp_path):
    for name in ("x" * 251, "日" * 83):
        embed("cat", "--output", tmp_path / f"{name}.npy")
        assert np.load(tmp_path / f"{name}.npy").shape == (1, tiny_model.DIMENSION)
    (tmp_path / "loop.npy").symlink_to("loop.npy")
    result = run(["embed", "cat", "--output", str(tmp_path / "loop.npy")])
    assert result in {1, 6}  # Python 3.13 tells by an OSError


def test_query_flag_is_the_query_type(embed):
    vectors = [embed(*flag, "cat")[0] for flag in (("--query",), ("--type", "query"), ("--document",), ())]
    assert vectors[0] == vectors[1] != vectors[2] == vectors[3]
    assert "exclude each other" in embed("--query", "--type", "query", "cat", code=2)[1]


def test_folder_that_cannot_be_written_is_an_error_without_traceback(options):
    result = run_process("embed", *options, "cat", "--output", "/proc/o.npy")
    assert (result.returncode, result.stderr.startswith(b"error: "), b"Traceback" in result.stderr) == (1, True, False)


def run_process(*arguments, **streams) -> subprocess.CompletedProcess:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.run([*COMMAND, *arguments], timeout=60, check=False, **streams)


def test_dash_is_standard_input(options):
    for dash in (["-"], ["--input", "-"]):
        out = run_process("embed", *options, *dash, input=b"cat\ndog").stdout
        assert [json.loads(line)["text"] for line in out.splitlines()] == ["cat", "dog"]


def test_standard_output_is_utf8_whatever_the_locale(options):
    out = run_process("embed", *options, "日本", env={**os.environ, "PYTHONIOENCODING": "latin-1"}).stdout
    assert json.loads(out.decode())["text"] == "日本"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_disk_is_an_error_without_traceback(options):
    with Path("/dev/full").open("wb") as full:
        result = run_process("embed", *options, "cat", stdout=full)
    assert (result.returncode, result.stderr) == (1, b"error: [Errno 28] No space left on device\n")


def test_terminated_command_leaves_nothing(options, tmp_path):
    command = [*COMMAND, "embed", *options, "--output", str(tmp_path / "o.npy")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob("*/o.npy")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        errors = process.communicate(timeout=30)[1]
    assert (process.returncode, errors) == (143, b"")
    assert list(tmp_path.iterdir()) == []


def on_terminal(*arguments) -> str:
    """What a terminal of 80 columns shows, both streams together."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    with subprocess.Popen([*COMMAND, *arguments], stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # how Linux says that the other side has closed
            pass
    os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode()


def test_vectors_on_the_screen_are_not_mixed_with_a_bar(options):
    shown = on_terminal("embed", *options, "cat", "dog")
    assert [json.loads(line)["text"] for line in shown.splitlines()] == ["cat", "dog"]


def test_similarities_are_never_cut_on_a_narrow_terminal(options):
    for n_texts in (4, 14):
        lines = on_terminal("similarity", *options, *["the cat sat on the mat " * 4] * n_texts).splitlines()
        assert len(lines) == n_texts + 1
        assert all(line.count("1.00") == n_texts for line in lines[1:])


def test_control_characters_do_not_reach_the_screen(options):
    out = run_process("similarity", *options, "cat\x1b[31m", "[bold]dog[/bold]").stdout
    assert b"\x1b" not in out
    assert b"[bold]dog[/bold]" in out


def test_models_tell_damaged_and_half_fetched_ones(tmp_path, capfd):
    store = make_store(tmp_path)
    store.ensure(tiny_model.write(tmp_path / "tiny"))
    (store.cache / "sources/all-mpnet-base-v2").mkdir(parents=True)
    states = []
    for _ in range(3):
        assert run(["models", "--json", "--cache-dir", str(tmp_path)]) == 0
        found = {model["name"]: model["state"] for model in json.loads(capfd.readouterr().out)}
        assert found["all-mpnet-base-v2"] == "source only"
        states.append(found[str(tmp_path / "tiny")])
        if len(states) == 1:
            manifest = ready_graph(store, tmp_path / "tiny")
        else:
            manifest.model_path.unlink(missing_ok=True)
    assert states == ["source only", "ready", "damaged"]


def test_info_survives_a_broken_runtime_and_no_cache(tmp_path, capfd, monkeypatch):
    def broken():
        raise ImportError("libonnxruntime.so: no such file")

    monkeypatch.setattr("neuralcore.embedding.backends.onnx.session.available_providers", broken)
    assert run(["info", "--json", "--cache-dir", str(tmp_path / "none")]) == 0
    facts = json.loads(capfd.readouterr().out)
    assert facts["providers"] == ["none: ImportError: libonnxruntime.so: no such file"]
    assert facts["cache_bytes"] == 0
