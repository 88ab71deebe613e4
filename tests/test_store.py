"""The store against everything that goes wrong between a name and a model. The Hub's stand-in is on loopback."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from neuralcore.embedding import (
    EmbeddingEngine,
    InputError,
    ModelCorrupt,
    ModelUnavailable,
    Precision,
    UnsupportedModel,
)
from neuralcore.embedding.backends.native.kernels import absence
from neuralcore.embedding.files import staged_folder
from neuralcore.embedding.precision.graphs import ensure_graph
from neuralcore.embedding.store import Manifest, Store, make_store
from neuralcore.embedding.store.registry import find_spec
from tests import hub_server, tiny_model
from tests.damage import flip_byte
from tests.ready import ready_graph
from tests.users import as_plain_user

REPOSITORY = "org/tiny"
LOAD = """
import sys
from neuralcore.embedding.precision.variants import ensure_variant
from neuralcore.embedding.store import make_store
from neuralcore.embedding.types import Precision
store = make_store(sys.argv[1], endpoint=sys.argv[2], sources=("mirror",))
print(ensure_variant(store, store.ensure("org/tiny"), Precision.FP32).model_path)
"""


@pytest.fixture
def hub(tiny_folder):
    with hub_server.running(repositories={REPOSITORY: tiny_folder}) as state:
        yield state


@pytest.fixture
def store(hub, tmp_path) -> Store:
    return make_store(tmp_path / "cache", endpoint=hub.url, sources=("mirror",))


def load_in_process(cache, url, **options) -> subprocess.Popen:
    command = [sys.executable, "-c", LOAD, str(cache), url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_mirror_on_loopback_delivers_a_model_that_embeds(hub, tiny_folder, tmp_path):
    from_hub = EmbeddingEngine.from_pretrained(REPOSITORY, cache_dir=tmp_path / "c", endpoint=hub.url)
    from_folder = EmbeddingEngine.from_pretrained(tiny_folder, cache_dir=tmp_path / "c")
    texts = ["the cat sat", "a dog ran under the tree"]
    np.testing.assert_array_equal(from_hub.embed_batch(texts), from_folder.embed_batch(texts))
    assert from_hub.max_tokens == 32


def test_onnx_model_of_a_family_without_builder_brings_weights_of_any_name(tiny_folder, tmp_path):
    source = shutil.copytree(tiny_folder, tmp_path / "source")
    built = ready_graph(make_store(tmp_path / "other"), tiny_folder)
    model = onnx.load(str(built.model_path))
    (source / "onnx").mkdir()
    onnx.save(model, str(source / "onnx" / "model.onnx"), save_as_external_data=True, location="weights [1].bin")
    (source / "model.safetensors").unlink()
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "model_type": "squeezebert"}))
    expected = EmbeddingEngine.from_pretrained(tiny_folder, cache_dir=tmp_path / "other").embed("the cat sat")
    with hub_server.running(repositories={REPOSITORY: source}) as hub:
        engine = EmbeddingEngine.from_pretrained(REPOSITORY, cache_dir=tmp_path / "cache", endpoint=hub.url)
    np.testing.assert_allclose(engine.embed("the cat sat"), expected, atol=1e-6)


def test_second_load_makes_no_request_and_does_not_import_the_hub_client(hub, store):
    load_in_process(store.cache, hub.url).communicate(timeout=60)
    hub.requests.clear()
    code = LOAD + "\nassert 'huggingface_hub' not in sys.modules and 'onnx' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(store.cache), hub.url], check=True, capture_output=True)
    assert hub.requests == []


def test_offline_makes_no_request_even_when_nothing_is_cached(hub, store):
    with pytest.raises(ModelUnavailable, match="switched off") as caught:
        replace(store, offline=True).ensure(REPOSITORY)
    assert [attempt.source for attempt in caught.value.attempts] == ["cache"]
    assert hub.requests == []


def test_offline_builds_from_what_was_fetched_before(hub, store):
    expected = ready_graph(store, REPOSITORY).model_path.read_bytes()
    shutil.rmtree(store.cache / "models")
    hub.requests.clear()
    assert ready_graph(replace(store, offline=True), REPOSITORY).model_path.read_bytes() == expected
    assert hub.requests == []


def test_offline_variable_is_honoured(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert make_store().offline
    assert not make_store(offline=False).offline


def test_error_names_everything_that_was_tried(tmp_path):
    closed = make_store(tmp_path, endpoint="http://127.0.0.1:9", sources=("mirror",))
    with pytest.raises(ModelUnavailable) as caught:
        closed.ensure("all-MiniLM-L6-v2")
    assert [attempt.source for attempt in caught.value.attempts] == ["cache", "mirror http://127.0.0.1:9"]
    assert "refused" in str(caught.value)


def test_unpinned_model_is_not_taken_from_the_hub_when_a_mirror_is_configured(hub, tmp_path):
    store = make_store(tmp_path, endpoint=hub.url)
    with pytest.raises(ModelUnavailable) as caught:
        store.ensure("org/private")
    assert [attempt.source for attempt in caught.value.attempts] == ["cache", f"mirror {hub.url}"]


def test_unknown_name_suggests_the_closest(tmp_path):
    with pytest.raises(UnsupportedModel, match="all-MiniLM-L6-v2"):
        make_store(tmp_path).ensure("all-minilm-l6-v")


def test_hub_id_that_is_not_there_suggests_the_one_that_is_known(hub, store):
    with pytest.raises(ModelUnavailable, match=r"404(.|\n)*Known by name is BAAI/bge-small-en-v1\.5"):
        store.ensure("baai/bge-small-en-v15")
    with pytest.raises(ModelUnavailable) as caught:
        store.ensure("org/elsewhere")
    assert "Known by name" not in str(caught.value)


def test_unknown_source_is_refused():
    with pytest.raises(InputError, match="mirror, hub, index"):
        make_store(sources=("ftp",))


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b/c", "/no/such/folder", "org/..", ""])
def test_names_cannot_leave_the_cache(tmp_path, name):
    with pytest.raises(UnsupportedModel):
        make_store(tmp_path).ensure(name)


def test_killed_download_leaves_nothing_that_is_taken_for_a_model(tiny_folder, tmp_path):
    pad_weights(tiny_folder, n_bytes=12 << 20)
    with hub_server.running(repositories={REPOSITORY: tiny_folder}, seconds_per_mib=0.4) as hub:
        process = load_in_process(tmp_path / "c", hub.url)
        wait_until(lambda: hub.served_bytes > 4 << 20)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        hub.seconds_per_mib = 0
        store = make_store(tmp_path / "c", endpoint=hub.url)
        with pytest.raises(ModelUnavailable):
            replace(store, offline=True).ensure(REPOSITORY)
        store.ensure(REPOSITORY).check(thorough=True)


def test_download_cut_off_by_the_server_is_resumed(hub, store, tiny_folder):
    pad_weights(tiny_folder, n_bytes=24 << 20)
    hub.cut_after = 15 << 20
    store.ensure(REPOSITORY).check(thorough=True)
    assert hub.ranges == [f"bytes={15 << 20}-"]


def test_two_processes_at_once_fetch_once(tiny_folder, tmp_path):
    pad_weights(tiny_folder, n_bytes=2 << 20)
    with hub_server.running(repositories={REPOSITORY: tiny_folder}, seconds_per_mib=0.5) as hub:
        processes = [load_in_process(tmp_path / "c", hub.url) for _ in range(2)]
        outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    weights = [request for request in hub.requests if request.startswith("GET") and "safetensors" in request]
    assert len(weights) == 1


def test_wrong_content_from_the_mirror_is_refused(hub, store):
    hub.change = b"\x01"
    with pytest.raises(ModelCorrupt, match=r"model\.safetensors"):
        store.ensure(REPOSITORY)
    assert not list((store.cache / "models").rglob("*.onnx"))


def test_registry_model_with_other_weights_is_refused(tiny_folder, tmp_path):
    with hub_server.running(repositories={"sentence-transformers/all-MiniLM-L6-v2": tiny_folder}) as hub:
        store = make_store(tmp_path / "c", endpoint=hub.url, sources=("mirror",))
        with pytest.raises(ModelCorrupt) as caught:
            store.ensure("all-MiniLM-L6-v2")
    assert "53aa51172d142c89" in caught.value.expected


ODD_FOLDERS = ["x" * 255, "\u6a21" * 80, "a\nb", " "]


@pytest.mark.parametrize("name", ODD_FOLDERS)
def test_folder_of_any_name_is_loaded(tiny_folder, tmp_path, name):
    try:
        folder = Path(shutil.copytree(tiny_folder, tmp_path / name))
    except OSError as error:
        pytest.skip(f"no name here: {error}")
    first, second = (make_store(tmp_path / "cache").ensure(folder) for _ in range(2))
    assert first.files == second.files
    assert EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache").embed("x").size


EARLIER = [{"files": None}, {"files": []}, {"files": {}}, {"files": {"model": {"path": 5}}}, {"source": None}]


@pytest.mark.parametrize("changes", EARLIER)
def test_manifest_without_a_digest_that_is_damaged_is_made_again(store, changes):
    manifest = store.ensure(REPOSITORY)
    path = manifest.folder / "manifest.json"
    values = {key: value for key, value in json.loads(path.read_text()).items() if key != "digest"}
    path.write_text(json.dumps(values | changes))
    assert store.ensure(REPOSITORY).files == Manifest.read(manifest.folder).files


def test_manifest_that_cannot_be_parsed_or_is_a_folder_is_made_again(store):
    manifest = store.ensure(REPOSITORY)
    path = manifest.folder / "manifest.json"
    path.write_text("[" * 100_000)
    store.ensure(REPOSITORY)
    assert Manifest.read(manifest.folder)
    path.unlink()
    path.mkdir()
    store.ensure(REPOSITORY)
    assert Manifest.read(manifest.folder)


@pytest.mark.parametrize(
    ("where", "name"),
    [
        ("fp32", "model.onnx"),
        ("fp32", "model.onnx.data"),
        ("fp32", "manifest.json"),
        ("source", "tokenizer.json"),
        ("source", "manifest.json"),
    ],
)
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damaged_file_in_the_cache_is_made_again(store, where, name, damage):
    manifest = store.ensure(REPOSITORY) if where == "source" else ready_graph(store, REPOSITORY)
    path = manifest.folder / name
    whole = path.read_bytes()
    time.sleep(0.01)
    if damage == "flip":
        flip_byte(path)
    elif damage == "truncate":
        path.write_bytes(whole[: len(whole) // 2])
    else:
        path.unlink()
    again = ready_graph(store, REPOSITORY)
    again.check(thorough=True)
    store.ensure(REPOSITORY).check(thorough=True)
    if name != "manifest.json":
        assert path.read_bytes() == whole


def test_damage_that_keeps_size_and_time_is_found_by_a_thorough_check(store):
    path = ready_graph(store, REPOSITORY).folder / "model.onnx.data"
    stat, whole = path.stat(), path.read_bytes()
    flip_byte(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    ready_graph(store, REPOSITORY, thorough=True)
    assert path.read_bytes() == whole


def test_damaged_file_in_the_hub_cache_is_fetched_again(hub, store):
    store.ensure(REPOSITORY)
    shutil.rmtree(store.cache / "models")
    weights = next((store.cache / "hub").rglob("model.safetensors")).resolve()
    flip_byte(weights)
    store.ensure(REPOSITORY).check(thorough=True)
    assert hub_server.etag(weights.rename(weights.with_suffix(".safetensors"))) == weights.name


def test_truncated_blob_offline_is_an_error_that_says_so(store):
    store.ensure(REPOSITORY)
    shutil.rmtree(store.cache / "models")
    weights = next((store.cache / "hub").rglob("model.safetensors")).resolve()
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelCorrupt, match=r"model\.safetensors"):
        replace(store, offline=True).ensure(REPOSITORY)


def test_copied_cache_with_other_times_is_still_good(store, tmp_path):
    ready_graph(store, REPOSITORY)
    copy = tmp_path / "copy"
    shutil.copytree(store.cache / "models", copy / "models", copy_function=shutil.copyfile, symlinks=True)
    shutil.rmtree(store.cache)  # and with it the checkpoint
    manifest = ready_graph(make_store(copy, offline=True), REPOSITORY)
    assert manifest.model_path.is_relative_to(copy)


def test_leftovers_of_a_killed_conversion_are_removed(store):
    target = store.target(find_spec(REPOSITORY))
    leftover = target.parent / ".partial-killed"
    leftover.mkdir(parents=True)
    (leftover / "model.onnx").write_bytes(b"half")
    ready_graph(store, REPOSITORY)
    assert sorted(path.name for path in target.parent.iterdir()) == ["fp32", "source"]


def test_files_reach_the_disk_before_their_names(store, monkeypatch):
    """What a machine that loses power finds under a final name was there in full."""
    synced, renamed = set(), []
    fsync, rename, replace = os.fsync, Path.rename, Path.replace

    def noted_sync(descriptor: int) -> None:
        synced.add(identity(os.fstat(descriptor)))
        fsync(descriptor)

    def noted(move):
        def moved(path: Path, target):
            if any(parent.name.startswith(".partial-") for parent in path.parents):
                return move(path, target)  # in a folder that has no final name yet, and is synced whole before it has
            inside = [path, *path.rglob("*")] if path.is_dir() else [path]
            renamed.append(
                (Path(target).name, [identity(file.stat()) in synced for file in inside if not file.is_symlink()])
            )
            return move(path, target)

        return moved

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "rename", noted(rename))
    monkeypatch.setattr(Path, "replace", noted(replace))
    ready_graph(store, REPOSITORY)
    assert {"fp32", "source", "main"} <= {name for name, _ in renamed}
    assert len([name for name, _ in renamed if len(name) in (40, 64)]) >= 3, "blobs"
    assert all(all(were_synced) for _, were_synced in renamed)


def identity(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino


def test_two_models_of_the_package_index_do_not_remove_each_other(tmp_path):
    with staged_folder(tmp_path / "a", alone=False) as a:
        with staged_folder(tmp_path / "b", alone=False) as b:
            (b / "file").write_text("b")
        (a / "file").write_text("a")
    assert [(tmp_path / name / "file").read_text() for name in ("a", "b")] == ["a", "b"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_failed_conversion_leaves_nothing(hub, store, tiny_folder):
    (tiny_folder / "tokenizer.json").unlink()
    with pytest.raises(UnsupportedModel, match=r"tokenizer\.json"):
        store.ensure(REPOSITORY)
    assert not [path for path in (store.cache / "models").rglob("*") if path.is_file()]


def test_full_disk_is_an_error_that_says_so(store, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("neuralcore.embedding.precision.graphs.write_onnx", full)
    with pytest.raises(ModelUnavailable, match=r"No space left.*\n.*cache_dir="):
        ready_graph(store, REPOSITORY)
    monkeypatch.setattr("neuralcore.embedding.store.manifest.Manifest.write", full)
    shutil.rmtree(store.cache / "models")
    with pytest.raises(ModelUnavailable, match=r"No space left.*\n.*cache_dir="):
        store.ensure(REPOSITORY)


@pytest.fixture
def read_only():
    changed = []

    def protect(folder: Path):
        for path in [folder, *folder.rglob("*")]:
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o555)
                changed.append(path)

    yield protect
    for path in changed:
        path.chmod(0o755)


def test_read_only_cache_that_is_complete_is_used(hub, store, read_only):
    ready_graph(store, REPOSITORY)
    read_only(store.cache)
    command = as_plain_user([sys.executable, "-c", LOAD, str(store.cache), hub.url])
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert str(store.cache) in result.stdout


@pytest.mark.skipif(bool(absence()), reason=absence())
def test_graph_in_a_read_only_cache_is_run_where_the_kernels_would_need_to_write(hub, store, read_only):
    ensure_graph(store, store.ensure(REPOSITORY), Precision.INT8)
    read_only(store.cache)
    for backend, told in (("auto", "onnxruntime cpu"), ("native", "ModelUnavailable")):
        code = (
            "import sys; from neuralcore.embedding import EmbeddingEngine as E; "
            "print(E.from_pretrained('org/tiny', precision='int8', cache_dir=sys.argv[1], backend=sys.argv[2]).backend)"
        )
        command = as_plain_user([sys.executable, "-c", code, str(store.cache), backend])
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert told in result.stdout + result.stderr


def test_read_only_cache_without_the_model_is_an_error_that_says_so(hub, tmp_path, read_only):
    cache = tmp_path / "read-only"
    cache.mkdir()
    read_only(cache)
    result = subprocess.run(
        as_plain_user([sys.executable, "-c", LOAD, str(cache), hub.url]), capture_output=True, text=True, check=False
    )
    assert "ModelUnavailable" in result.stderr
    assert "NEURALCORE_CACHE" in result.stderr


def test_changed_branch_is_seen_only_on_refresh(hub, store, tiny_folder):
    before = ready_graph(store, REPOSITORY).files["weights"].sha256
    tiny_model.write(tiny_folder, seed=8)
    hub.commit = "f" * 40
    assert ready_graph(store, REPOSITORY).files["weights"].sha256 == before
    assert ready_graph(store, REPOSITORY, refresh=True).files["weights"].sha256 != before


def test_graph_of_a_branch_that_moved_since_is_not_made_from_other_weights(hub, store, tiny_folder):
    source = store.ensure(REPOSITORY)
    shutil.rmtree(store.cache / "hub")
    tiny_model.write(tiny_folder, seed=8)
    hub.commit = "f" * 40
    with pytest.raises(ModelCorrupt, match="--refresh") as caught:
        ready_graph(store, REPOSITORY)
    assert source.weights_sha256 in caught.value.expected
    assert ready_graph(store, REPOSITORY, refresh=True).weights_sha256 != source.weights_sha256


def test_checkpoint_that_was_damaged_since_is_fetched_again_before_anything_is_made_of_it(store):
    expected = ready_graph(store, REPOSITORY).model_path.with_name("model.onnx.data").read_bytes()
    shutil.rmtree(store.target(find_spec(REPOSITORY)).with_name("fp32"))
    flip_byte(next((store.cache / "hub").rglob("model.safetensors")).resolve())
    assert ready_graph(store, REPOSITORY).model_path.with_name("model.onnx.data").read_bytes() == expected


def test_cache_of_an_earlier_version_is_made_anew_and_leaves_nothing(store, caplog):
    graph = ready_graph(store, REPOSITORY)
    family, source = graph.folder.parent, store.ensure(REPOSITORY)
    shutil.move(source.tokenizer_path, graph.folder)  # as it was: no source apart, and all in one folder
    shutil.rmtree(source.folder)
    about = {key: value for key, value in source.source.items() if key != "made_from"}
    record = {"tokenizer": replace(source.files["tokenizer"])}
    replace(graph, source=about, files={**graph.files, **record}).write(graph.folder)
    shutil.copytree(graph.folder, family / "int8-native")
    assert not store.ready()
    source = store.ensure(REPOSITORY)
    assert [path.name for path in family.iterdir()] == ["source"]
    ready_graph(store, REPOSITORY).check(thorough=True)
    assert not caplog.text


def test_changed_folder_is_converted_again(tiny_folder, tmp_path):
    before = EmbeddingEngine.from_pretrained(tiny_folder, cache_dir=tmp_path / "c").embed("the cat")
    time.sleep(0.01)
    tiny_model.write(tiny_folder, seed=8)
    after = EmbeddingEngine.from_pretrained(tiny_folder, cache_dir=tmp_path / "c").embed("the cat")
    assert np.abs(before - after).max() > 0.01
    assert len(list((tmp_path / "c/models").rglob("source"))) == 1


def test_cache_is_never_in_the_temp_folder(monkeypatch):
    monkeypatch.setenv("TMPDIR", "/tmp/elsewhere")
    cache = make_store().cache
    assert Path.home() in cache.parents or "XDG_CACHE_HOME" in os.environ
    assert make_store("here").cache.is_absolute()


def test_cache_variable_names_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("NEURALCORE_CACHE", str(tmp_path))
    assert make_store().cache == tmp_path
    assert make_store().hub_cache == tmp_path / "hub"


def test_manifest_says_what_the_model_was_made_from(hub, store):
    for folder, files in (
        (store.ensure(REPOSITORY).folder, {"tokenizer"}),
        (ready_graph(store, REPOSITORY).folder, {"model", "weights"}),
    ):
        values = json.loads((folder / "manifest.json").read_text())
        assert values["source"]["repository"] == REPOSITORY
        assert hub_server.COMMIT in values["source"]["folder"]
        assert set(values["files"]) == files
        assert {"neuralcore-embedding", "onnx", "numpy"} <= values["versions"].keys()


def pad_weights(folder: Path, n_bytes: int) -> None:
    """Make the checkpoint larger by a tensor that no encoder reads."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "unused": np.zeros(n_bytes // 4, np.float32)}, folder / "model.safetensors")


def wait_until(condition, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
