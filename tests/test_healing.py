"""Cached files that change behind the store's back: with another content, and the same size and time."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from neuralcore.embedding import EmbeddingEngine, InferenceError, ModelCorrupt, VerificationFailed
from neuralcore.embedding.backends.native.kernels import absence
from neuralcore.embedding.cli.commands import cli
from neuralcore.embedding.store import make_store
from tests import hub_server
from tests.damage import flip_byte
from tests.ready import ready_graph

REPOSITORY = "org/tiny"
TEXTS = ["the cat sat", "a dog ran under the tree", ""]
WEIGHTS = {"onnxruntime": "fp32/model.onnx.data", "native": "fp32-native/model.safetensors"}


@pytest.fixture
def hub(tiny_folder):
    with hub_server.running(repositories={REPOSITORY: tiny_folder}) as state:
        yield state


@pytest.fixture(
    params=["onnxruntime", pytest.param("native", marks=pytest.mark.skipif(bool(absence()), reason=absence()))]
)
def backend(request) -> str:
    return request.param


@pytest.fixture
def load(hub, tmp_path, backend):
    options = {"cache_dir": tmp_path / "cache", "endpoint": hub.url, "sources": ["mirror"], "threads": 2}
    options |= {"backend": backend}
    return lambda **more: EmbeddingEngine.from_pretrained(REPOSITORY, **options, **more)


@pytest.fixture
def weights(backend, tmp_path):
    """Finds the cached weights."""
    return lambda: next((tmp_path / "cache/models").rglob(WEIGHTS[backend]))


def unseen(path: Path, change) -> None:
    """Change a file's content, and neither its size nor its time."""
    before = path.stat()
    change(path)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def poison(path: Path) -> None:
    """Make every number a NaN; of a safetensors file, those of its largest tensor."""
    content = bytearray(path.read_bytes())
    first, last = _largest_tensor(content) if path.suffix == ".safetensors" else (0, len(content))
    content[first:last] = b"\xff" * (last - first)
    path.write_bytes(content)


def blur(path: Path) -> None:
    """Change numbers, and leave them numbers; of a safetensors file, those of its largest tensor."""
    content = bytearray(path.read_bytes())
    first, last = _largest_tensor(content) if path.suffix == ".safetensors" else (0, len(content))
    content[first:last] = np.frombuffer(content[first:last], np.float32)[::-1].tobytes()
    path.write_bytes(content)


def _largest_tensor(content: bytes) -> tuple[int, int]:
    start = 8 + int.from_bytes(content[:8], "little")
    places = [entry["data_offsets"] for name, entry in json.loads(content[8:start]).items() if name != "__metadata__"]
    first, last = max(places, key=lambda place: place[1] - place[0])
    return start + first, start + last


@pytest.mark.parametrize("name", ["model", "source/tokenizer.json", "source/manifest.json", "manifest.json"])
def test_file_that_cannot_be_read_is_made_again(load, weights, backend, name):
    with load() as engine:
        expected = engine.embed_batch(TEXTS)
    model = weights().with_name("model.onnx") if backend == "onnxruntime" else weights()
    path = model if name == "model" else model.parent.parent / name if "/" in name else model.with_name(name)
    whole = path.read_bytes()
    unseen(path, lambda path: path.write_bytes(b"\0" * len(whole)))
    with load() as engine:
        np.testing.assert_array_equal(engine.embed_batch(TEXTS), expected)
    if not name.endswith("manifest.json"):
        assert path.read_bytes() == whole


def test_bit_of_the_manifest_that_leaves_it_readable_is_noticed(load, tmp_path):
    with load() as engine:
        assert engine.max_tokens == 32
    for path in (tmp_path / "cache/models").rglob("manifest.json"):
        unseen(path, lambda path: path.write_bytes(path.read_bytes().replace(b'"max_tokens": 32', b'"max_tokens": 12')))
        with load() as engine:
            assert engine.max_tokens == 32


def test_weights_that_make_no_finite_vector_are_made_again_while_the_engine_runs(load, weights, backend):
    with load() as engine:
        assert engine.backend.startswith(backend)
        expected = engine.embed_batch(TEXTS)
    unseen(weights(), poison)
    with load() as engine:
        np.testing.assert_array_equal(engine.embed_batch(TEXTS), expected)
    with load() as engine:
        np.testing.assert_array_equal(engine.embed_batch(TEXTS), expected)


def test_threads_that_find_the_damage_together_heal_it_once(load, weights, caplog):
    with load() as engine:
        expected = engine.embed_batch(TEXTS)
    unseen(weights(), poison)
    together = Barrier(4)

    def embed(_) -> np.ndarray:
        together.wait()
        return engine.embed_batch(TEXTS)

    with load() as engine, ThreadPoolExecutor(4) as pool:
        for vectors in pool.map(embed, range(4)):
            np.testing.assert_array_equal(vectors, expected)
    assert caplog.text.count("not finite: the hashes") == 1


def test_model_that_never_was_finite_is_an_error_after_one_look(load, hub, tiny_folder, caplog):
    poison(tiny_folder / "model.safetensors")
    with pytest.raises((InferenceError, ModelCorrupt, VerificationFailed), match=r"finite|NaN|nan"), load() as engine:
        engine.embed_batch(TEXTS)


def test_damage_that_cannot_be_mended_is_an_error(load, hub, tmp_path):
    load().close()
    for folder in ("models", "hub"):
        for path in (tmp_path / "cache" / folder).rglob("*"):
            if path.suffix in {".data", ".safetensors"} and not path.is_symlink():
                unseen(path, poison)
    for blob in (tmp_path / "cache/hub").rglob("blobs/*"):
        unseen(blob, poison)
    with pytest.raises(ModelCorrupt), load(offline=True) as engine:
        engine.embed_batch(TEXTS)


def test_numbers_that_changed_are_found_by_verification_only(load, weights):
    with load() as engine:
        expected = engine.embed_batch(TEXTS)
    unseen(weights(), blur)
    with load() as engine:
        assert np.abs(engine.embed_batch(TEXTS) - expected).max() > 0.01
    with load(verify_files=True) as engine:
        np.testing.assert_array_equal(engine.embed_batch(TEXTS), expected)


@pytest.mark.parametrize("backend", ["onnxruntime"], indirect=True)
def test_weights_beside_an_onnx_file_of_the_hub_are_verified(load, hub, tiny_folder, tmp_path):
    built = ready_graph(make_store(tmp_path / "other"), tiny_folder)
    model = onnx.load(str(built.model_path))
    (tiny_folder / "model.safetensors").unlink()
    onnx.save(model, str(tiny_folder / "model.onnx"), save_as_external_data=True, location="model.onnx_data")
    with load() as engine:
        expected = engine.embed_batch(TEXTS)
    unseen(next((tmp_path / "cache/hub").rglob("model.onnx_data")).resolve(), flip_byte)
    with load(verify_files=True) as engine:
        np.testing.assert_array_equal(engine.embed_batch(TEXTS), expected)


def test_commands_verify_on_request(load, hub, weights, backend, tmp_path):
    load().close()
    data = weights()
    whole = data.read_bytes()
    unseen(data, blur)
    arguments = ["embed", "-m", REPOSITORY, "--cache-dir", str(tmp_path / "cache"), "--endpoint", hub.url]
    arguments += ["--backend", backend]
    assert CliRunner().invoke(cli, [*arguments, "a text"]).exit_code == 0
    assert data.read_bytes() != whole
    assert CliRunner().invoke(cli, [*arguments, "--verify", "a text"]).exit_code == 0
    assert data.read_bytes() == whole
    assert "--verify" in CliRunner().invoke(cli, ["serve", "--help"]).output


def test_folder_of_the_user_is_never_touched(tiny_folder, tmp_path):
    source = shutil.copytree(tiny_folder, tmp_path / "mine")
    (source / "tokenizer.json").write_bytes(b"\0" * 100)
    with pytest.raises(ModelCorrupt, match=r"tokenizer\.json"):
        EmbeddingEngine.from_pretrained(source, cache_dir=tmp_path / "c")
    assert (source / "tokenizer.json").read_bytes() == b"\0" * 100
