"""Where the kernels' time goes, when somebody asks."""

import re
import subprocess
import sys
import time

import numpy as np
import pytest

from neuralcore.embedding import settings
from neuralcore.embedding.backends.native.encoder import NativeEncoder
from neuralcore.embedding.backends.native.isas import absence
from neuralcore.embedding.backends.native.stages import STAGES, counting, format_stages, read_cycles
from neuralcore.embedding.config import ModelConfig
from neuralcore.embedding.types import TokenBatch
from tests.native_stacks import native_stack, pack

pytestmark = pytest.mark.skipif(bool(absence()), reason=absence() or "there are kernels")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    path = tmp_path_factory.mktemp("stages") / "model.safetensors"
    stack = native_stack("bert")
    pack(stack, _tokens(), path)
    return NativeEncoder(path, ModelConfig(name="bert", dimension=48, max_tokens=64), threads=2)


def _tokens():
    ids = np.arange(1, 61, dtype=np.int32)
    return TokenBatch(ids, np.array([0, 7, 20, 60]), np.array([7, 13, 40]))


def test_every_stage_is_counted_and_no_more_than_passed(encoder):
    began = time.perf_counter()
    with counting():
        for _ in range(20):
            encoder.encode(_tokens())
        cycles = read_cycles()
    passed_s = time.perf_counter() - began
    assert list(cycles) == list(STAGES)
    assert all(n > 0 for n in cycles.values()), cycles
    assert sum(cycles.values()) < 2 * passed_s * 10e9  # on two threads of a CPU below 10 GHz


def test_nothing_is_counted_unless_asked_for(encoder):
    with counting():
        pass
    encoder.encode(_tokens())
    assert set(read_cycles().values()) == {0}


def test_shares_add_up():
    table = format_stages(dict(zip(STAGES, range(1, 10), strict=True)))
    shares = [float(share) for share in re.findall(r"([\d.]+)%", table)]
    assert len(shares) == len(STAGES)
    assert sum(shares) == pytest.approx(100, abs=0.5)
    assert format_stages(dict.fromkeys(STAGES, 0)).count("0.0%") == len(STAGES)


@pytest.mark.parametrize(("value", "is_on"), [("1", True), ("yes", True), ("", False), ("0", False)])
def test_table_is_on_standard_error_when_the_variable_asks(encoder, value, is_on, tmp_path):
    code = (
        "import sys, numpy as np; from pathlib import Path;"
        "from neuralcore.embedding.backends.native.encoder import NativeEncoder;"
        "from neuralcore.embedding.config import ModelConfig; from neuralcore.embedding.types import TokenBatch;"
        "encoder = NativeEncoder(Path(sys.argv[1]), ModelConfig(name='bert', dimension=48, max_tokens=64));"
        "encoder.encode(TokenBatch(np.arange(1, 9, dtype=np.int32), np.array([0, 8]), np.array([8])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, encoder.path],
        env=settings.of_child(NEURALCORE_PROFILE=value), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == ""
    assert ("attention" in done.stderr) == is_on
    assert is_on or done.stderr == ""
