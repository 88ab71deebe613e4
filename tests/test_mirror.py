"""Fetching from a mirror that does not behave. Real servers on loopback; nothing may leave the cache or hang."""

import json

import pytest
from safetensors.numpy import load_file, save_file

from neuralcore.embedding.models.store import Store, make_store
from tests import hub_server

REPOSITORY = "org/tiny"


@pytest.fixture
def hub(tiny_folder):
    with hub_server.running(repositories={REPOSITORY: tiny_folder}) as state:
        yield state


@pytest.fixture
def store(hub, tmp_path) -> Store:
    return make_store(tmp_path / "cache", endpoint=hub.url, sources=("mirror",))


def test_shards_of_a_checkpoint_are_fetched(hub, store, tiny_folder):
    shard(tiny_folder)
    (tiny_folder / "model-00003-of-00003.safetensors").write_bytes(b"named by nobody")
    folder = store.fetch(REPOSITORY)
    assert sorted(path.name for path in folder.glob("*.safetensors*")) == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]


def test_checkpoint_in_one_file_wins_over_shards(hub, store, tiny_folder):
    whole = (tiny_folder / "model.safetensors").read_bytes()
    shard(tiny_folder)
    (tiny_folder / "model.safetensors").write_bytes(whole)
    assert [path.name for path in store.fetch(REPOSITORY).glob("*.safetensors")] == ["model.safetensors"]


def test_settings_of_the_tokenizer_are_fetched(hub, store, tiny_folder):
    (tiny_folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert (store.fetch(REPOSITORY) / "tokenizer_config.json").read_text() == '{"do_lower_case": false}'


def shard(folder):
    """Cut a checkpoint in two, as transformers does."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in sorted(set(weight_map.values())):
        save_file({name: tensors[name] for name in names if weight_map[name] == file}, folder / file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
