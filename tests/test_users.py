"""The store among several users: shared folders, users without a home, locks of others."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from neuralcore.embedding import EmbeddingEngine, InputError, files
from neuralcore.embedding.store import make_store
from tests import hub_server
from tests.ready import ready_graph, ready_variant
from tests.users import as_user

ANNE, BOB, GROUP = 23_451, 23_452, 23_450
LOAD = """
import os, sys
os.umask(int(sys.argv[3], 8))
from neuralcore.embedding.precision.variants import ensure_variant
from neuralcore.embedding.store import make_store
from neuralcore.embedding.types import Precision
store = make_store(sys.argv[1], endpoint=sys.argv[2], sources=("mirror",))
for model in sys.argv[4:]:
    source = store.ensure(model, refresh=True, thorough=True)
    print(ensure_variant(store, source, Precision.FP32, thorough=True).model_path)
"""
HOMELESS = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}


@pytest.fixture
def hub(tiny_folder):
    with hub_server.running(repositories={"org/one": tiny_folder, "org/two": tiny_folder}) as state:
        yield state


@pytest.fixture
def open_path(tmp_path):
    """A folder that other users can come to."""
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    return tmp_path


def run_as(user: int, command: list[str], **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        as_user(user, command, group=GROUP), capture_output=True, text=True, check=False, **options
    )  # fmt: skip


def load_as(user: int, cache: Path, url: str, *models: str, umask: str = "002"):
    return run_as(user, [sys.executable, "-c", LOAD, str(cache), url, umask, *models])


def test_two_users_of_a_group_share_a_cache(hub, open_path):
    cache = open_path / "cache"
    cache.mkdir()
    os.chown(cache, 0, GROUP)
    cache.chmod(0o2775)
    for user, models in ((ANNE, ["org/one"]), (BOB, ["org/two", "org/one"])):
        result = load_as(user, cache, hub.url, *models)
        assert result.returncode == 0, result.stderr
    assert not list(cache.rglob(".partial-*"))
    assert not list(cache.rglob("*.tmp"))


def test_cache_of_another_user_is_read_and_not_written(hub, open_path):
    cache = open_path / "cache"
    ready_variant(make_store(cache, endpoint=hub.url), "org/one")
    command = [sys.executable, "-c", LOAD.replace("refresh=True", "refresh=False"), str(cache), hub.url, "022"]
    assert run_as(ANNE, [*command, "org/one"]).returncode == 0
    result = run_as(ANNE, [*command, "org/two"])
    assert "ModelUnavailable" in result.stderr
    assert "NEURALCORE_CACHE" in result.stderr


def test_lock_of_another_user_can_be_taken(open_path):
    with files.locked(open_path / "lock", "a test"):
        pass
    code = f"""
from neuralcore.embedding import files
with files.locked(files.Path({str(open_path / "lock")!r}), ""):
    pass
"""
    result = run_as(ANNE, [sys.executable, "-c", code])
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("arguments", "code"), [(["embed", "a text"], 6), (["models"], 6), (["info"], 0)])
def test_command_without_a_home_says_how_to_name_a_folder(arguments, code):
    result = run_as(ANNE, [sys.executable, "-m", "neuralcore.embedding.cli", *arguments], env=HOMELESS)
    assert "NEURALCORE_CACHE" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert result.returncode == code


def test_command_without_a_home_works_in_a_named_folder(hub, open_path):
    ready_variant(make_store(open_path, endpoint=hub.url), "org/one")
    command = [sys.executable, "-m", "neuralcore.embedding.cli", "embed", "-m", "org/one", "--offline", "a text"]
    result = run_as(ANNE, command, env=HOMELESS | {"NEURALCORE_CACHE": str(open_path)})
    assert result.returncode == 0, result.stderr


def test_help_needs_no_home():
    result = run_as(ANNE, [sys.executable, "-m", "neuralcore.embedding.cli", "--help"], env=HOMELESS)
    assert result.returncode == 0, result.stderr


def test_model_that_is_used_where_it_lies_needs_no_home(hub, open_path):
    store = make_store(open_path / "c", endpoint=hub.url)
    built = ready_graph(store, "org/one")
    shutil.copy(store.ensure("org/one").tokenizer_path, built.folder)
    code = f"""
from neuralcore.embedding import EmbeddingEngine
print(EmbeddingEngine.from_pretrained({str(built.folder.parent / "as-found")!r}).embed("a text").shape)
"""
    built.folder.rename(built.folder.with_name("as-found"))
    (built.folder.with_name("as-found") / "config.json").write_text('{"hidden_size": 48, "model_type": "other"}')
    result = run_as(ANNE, [sys.executable, "-c", code], env=HOMELESS)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("option", ["model", "cache_dir"])
def test_home_of_nobody_is_refused_by_name(option):
    with pytest.raises(InputError, match="~nobody-at-all"):
        EmbeddingEngine.from_pretrained(**{"model": "org/one", "offline": True, option: "~nobody-at-all/x"})


def test_wait_behind_a_lock_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(files, "SILENT_WAIT_S", 0.05)
    code = f"""
from neuralcore.embedding import files
with files.locked(files.Path({str(tmp_path / "lock")!r}), ""):
    print("held", flush=True)
    input()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as holder:
        assert holder.stdout.readline() == "held\n"

        class Release:
            """Lets go as soon as the wait has been spoken of."""

            def __str__(self) -> str:
                holder.stdin.write("\n")
                holder.stdin.flush()
                return "it makes a model ready"

        with files.locked(tmp_path / "lock", Release()):
            pass
    assert "waiting for another process: it makes a model ready" in caplog.text
