"""What a run is said to take at most is more than what it takes."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from neuralcore.embedding.backends.onnx.write import write_onnx
from neuralcore.embedding.config import ModelConfig
from tests.random_stacks import LIKE, Features, random_stack

pytestmark = [pytest.mark.full, pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/clear_refs is Linux's")]

LONGEST = 2048
SIZES = {
    "bert": {"hidden": 384, "wide": 1536, "n_heads": 12, "n_key_heads": 12, "head_size": 32},
    "mpnet": {"hidden": 384, "wide": 1536, "n_heads": 12, "n_key_heads": 12, "head_size": 32},
    "gte": {"hidden": 384, "wide": 1536, "n_heads": 6, "n_key_heads": 6, "head_size": 64},
    "modernbert": {"hidden": 384, "wide": 576, "n_heads": 6, "n_key_heads": 6, "head_size": 64},
    "qwen3": {"hidden": 256, "wide": 768, "n_heads": 16, "n_key_heads": 8, "head_size": 128},
    "gemma3": {"hidden": 256, "wide": 1024, "n_heads": 3, "n_key_heads": 1, "head_size": 256},
}
ENCODERS: dict[str, Features] = {name: replace(LIKE[name], longest=LONGEST, **sizes) for name, sizes in SIZES.items()}
ENCODERS["wide"] = replace(ENCODERS["gte"], hidden=64, wide=4096, n_heads=2, n_key_heads=2, head_size=32)
ENCODERS["many heads"] = replace(ENCODERS["bert"], hidden=64, wide=64, n_heads=32, n_key_heads=32, head_size=8)

RUN = """
import sys, numpy as np
from pathlib import Path
from neuralcore.embedding.backends.onnx.session import OnnxSession
from neuralcore.embedding.backends.onnx.working_memory import WorkingMemory
from neuralcore.embedding.providers import GpuOptions
path, n_texts, n_tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
session = OnnxSession(Path(path), device="cpu", n_threads=1, gpu=GpuOptions())
def run(*shape):
    ones = np.ones(shape, np.int64)
    session.run("sentence_embedding", session.feeds(ones, ones))
def resident(kind):
    line = next(line for line in open("/proc/self/status") if line.startswith(kind))
    return int(line.split()[1]) * 1024
run(1, 2)
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
run(n_texts, n_tokens)
said = n_texts * n_tokens * WorkingMemory.of_metadata(session.metadata, 0).bytes_per_token(n_tokens)
print([resident("VmHWM") - before, said])
"""


@pytest.mark.parametrize("name", ENCODERS)
def test_a_run_takes_no_more_than_is_said(tmp_path: Path, name: str) -> None:
    stack = random_stack(1, ENCODERS[name])
    path = tmp_path / "model.onnx"
    write_onnx(stack, ModelConfig(name="x", dimension=stack.size or stack.hidden, max_tokens=LONGEST), path)
    for shape in ((16, 128), (2, 1024), (1, LONGEST)):
        command = [sys.executable, "-c", RUN, str(path), *map(str, shape)]
        taken, said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        assert taken <= said
        assert said < 4 * taken
