"""Address space that does not suffice ends in a clear error. `make faults` tries many more limits."""

import subprocess
import sys

import pytest

from neuralcore.embedding import OutOfMemory, memory
from neuralcore.embedding.stream import encode_windows
from tests.limits import limit_address_space

EXIT_CODE = 10


def run_limited(n_mib: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], check=False, capture_output=True, text=True, preexec_fn=limit_address_space(n_mib)
    )


def test_command_without_room_for_its_libraries_says_what_they_take():
    done = run_limited(90, "-m", "neuralcore.embedding.cli", "embed", "a text")
    assert done.returncode == EXIT_CODE
    assert "loading numpy takes some" in done.stderr
    assert "ulimit -v" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_needs_no_room():
    assert run_limited(90, "-m", "neuralcore.embedding.cli", "embed", "--help").returncode == 0


@pytest.mark.parametrize("module", ["backends.onnx.session", "tokenizer"])
def test_library_that_cannot_be_mapped_is_out_of_memory(module):
    code = (
        "import numpy, resource; from pathlib import Path; from neuralcore.embedding import OutOfMemory\n"
        "taken = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (taken + 20 * 2**20,) * 2)\n"
        f"try:\n    import neuralcore.embedding.{module}\n"
        "except OutOfMemory as error:\n    print('OutOfMemory', error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stdout.startswith("OutOfMemory no memory: loading "), done.stderr


def test_what_cannot_be_had_is_refused_and_what_can_is_given_back():
    with pytest.raises(MemoryError, match=r"a petabyte takes some 1,073,741,824 MiB"):
        memory.require(2**50, "a petabyte")
    for _ in range(10_000):
        memory.require(2**30, "a gigabyte, again and again")
    memory.require(0, "nothing")


def test_other_import_errors_are_left_alone():
    with pytest.raises(ImportError, match="missing"), memory.loading("missing", 1):
        raise ImportError("missing")
    with pytest.raises(OutOfMemory, match=r"loading large: .* no room"), memory.loading("large", 1):
        raise ImportError("large.so: failed to map segment from shared object: no room") from None


@pytest.mark.parametrize("has_room", [True, False])
def test_windows_are_the_same_whether_they_overlap_or_not(monkeypatch, has_room):
    monkeypatch.setattr(memory, "has_room", lambda n_bytes: has_room)
    texts = [str(number) for number in range(2500)]
    found = list(encode_windows(iter(texts), lambda window, first: (first, window), lambda tokens: tokens))
    assert [first for first, _ in found] == [0, 1024, 2048]
    assert [text for _, window in found for text in window] == texts
