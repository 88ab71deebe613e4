"""`neuralcore verify`, `convert` and `--precision`, as processes."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from neuralcore.embedding import Precision
from neuralcore.embedding.backends.native.kernels import choose_isa
from tests import tiny_model


@pytest.fixture
def run(tmp_path):
    environment = {**os.environ, "NEURALCORE_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}

    def run(*arguments, code: int = 0) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "neuralcore.embedding.cli", *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, env=environment, timeout=100, check=False, text=True)
        assert result.returncode == code, result.stderr
        return result

    return run


def test_verify_prints_every_metric_with_its_bound(run, tiny_folder):
    lines = run("verify", tiny_folder, "--precision", "int8").stdout.splitlines()
    assert lines[0].split() == ["over", "93", "texts", "measured", "bound"]
    names = [line.split("  ")[0] for line in lines[1:]]
    assert names == ["mean cosine", "min cosine", "largest difference", "neighbour overlap", "rank correlation",
                     "batch shift"]  # fmt: skip
    assert lines[1].split()[-3:] == [">=", "0.995", "ok"]


def test_verify_leaves_with_exit_code_9_when_too_far(run, tiny_folder, tmp_path):
    other = tiny_model.write(tmp_path / "other", seed=8)
    result = run("verify", tiny_folder, "--reference", other, "--json", code=9)
    found = json.loads(result.stdout)
    assert found["passed"] is False
    assert found["mean_cosine"] < found["bounds"]["mean_cosine"]
    assert result.stderr.startswith("error: the model is too far from its reference: mean cosine is ")
    assert "too far" in run("verify", tiny_folder, "--reference", other, code=9).stdout


def test_verify_judges_an_int8_folder_by_the_bounds_of_int8(run, tiny_folder, tmp_path):
    run("convert", tiny_folder, "-o", tmp_path / "int8", "--precision", "int8")
    found = json.loads(run("verify", tmp_path / "int8", "--reference", "fp32", "--json").stdout)
    assert (found["precision"], found["passed"], found["bounds"]["mean_cosine"]) == ("int8", True, 0.995)
    tiny_folder.rename(tmp_path / "elsewhere")
    result = run("verify", tmp_path / "int8", "--reference", "fp32", code=3)
    assert "it is int8 itself" in result.stderr


def test_verify_takes_the_users_texts(run, tiny_folder, tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("the cat\na dog\n\nbig red tree\n")
    assert (
        json.loads(run("verify", tiny_folder, "--precision", "fp16", "--texts", path, "--json").stdout)["n_texts"] == 3
    )
    path.write_text("one\n")
    assert "at least three lines" in run("verify", tiny_folder, "--texts", path, code=2).stderr
    path.write_bytes(b"\xff\xfe")
    assert "not UTF-8" in run("verify", tiny_folder, "--texts", path, code=2).stderr


def test_verify_says_what_is_missing(run, tiny_folder):
    pytest.importorskip("neuralcore.embedding")
    try:
        import sentence_transformers  # noqa: F401
    except ImportError:
        result = run("verify", tiny_folder, code=8)
        assert "pip install 'neuralcore-embedding[verify]'" in result.stderr


def test_embed_with_a_precision_and_its_row_in_the_table(run, tiny_folder):
    fp32, int8 = (
        np.array(
            json.loads(run("embed", "the cat sat", "-m", tiny_folder, "--precision", precision).stdout)["embedding"]
        )
        for precision in ("fp32", "int8")
    )
    assert 0.99 < fp32 @ int8 < 1
    rows = [row for row in json.loads(run("models", "--json").stdout) if row["name"] == str(tiny_folder)]
    assert [row["precision"] for row in rows] == ["fp32", "int8"]
    assert rows[1]["measured"]["mean_cosine"] > 0.995
    assert "int8" in run("models").stdout


def test_convert_says_what_it_made_and_measured(run, tiny_folder, tmp_path):
    result = run("convert", tiny_folder, "-o", tmp_path / "out")
    assert result.stdout.startswith("tiny: converted (builtin exporter, fp32, ")
    assert "padding shift" in result.stdout
    again = run("convert", tiny_folder, "-o", tmp_path / "out", code=6)
    assert "exists already" in again.stderr
    found = json.loads(run("convert", tiny_folder, "-o", tmp_path / "b", "--precision", "int8", "--json").stdout)
    assert found["measured"]["n_texts"] == 93


def test_pull_makes_a_precision_ready(run, tiny_folder):
    for backend, name in (("onnxruntime", "fp16"), ("auto", "fp16-native" if choose_isa(Precision.FP16) else "fp16")):
        command = ("pull", tiny_folder, "--precision", "fp16", "--backend", backend, "--json")
        found = json.loads(run(*command).stdout)
        assert found["precision"] == "fp16"
        assert found["folder"].endswith(f"/{name}")
