"""A folder that is not what it should be is refused with its own file's path, and told what to do."""

import json
import os
import subprocess
import sys

import pytest

from neuralcore.embedding import EmbeddingEngine, ModelCorrupt
from neuralcore.embedding.backends.onnx.write import write_onnx
from neuralcore.embedding.errors import EmbeddingError
from neuralcore.embedding.store.folder import ModelFolder
from tests import tensor_files, tiny_model
from tests.stacks import stack_of

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 90868376\n"
FILES = ["config.json", "model.safetensors", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json",
         "config_sentence_transformers.json", "tokenizer_config.json"]  # fmt: skip


def load(folder, tmp_path):
    return EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache", threads=1)


def put_folder(path):
    path.unlink()
    path.mkdir()


def put_link(path):
    path.unlink()
    path.symlink_to("blobs/0123")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: path.write_bytes(b""), "an empty file"),
        (lambda path: path.write_bytes(POINTER), "git lfs pull"),
        (put_folder, "a folder"),
        (put_link, "a link to blobs/0123"),
        (lambda path: path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes()), "byte-order mark|a header of"),
        (lambda path: path.write_bytes(b"[1, 2" * 9), "line 1|a header of|expected a JSON object, found a list"),
        (
            lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
            "JSON|fewer|its header tells of",
        ),
    ],
    ids=["empty", "pointer", "folder", "link", "mark", "other", "cut"],
)
def test_damaged_file_is_told_by_its_own_path(tmp_path, name, damage, told):
    folder = tiny_model.write(tmp_path / "model")
    damage(folder / name)
    with pytest.raises(ModelCorrupt, match=told) as caught:
        load(folder, tmp_path)
    assert caught.value.path == str(folder / name)
    assert "again" in str(caught.value) or "git lfs pull" in str(caught.value)


def test_pointer_in_the_place_of_a_shard_is_told_by_its_own_path(tmp_path):
    from safetensors.numpy import load_file

    folder = tiny_model.write(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    tensor_files.save_shards(folder, tensors)
    shard = folder / "model-00002-of-00003.safetensors"
    shard.write_bytes(POINTER)
    with pytest.raises(ModelCorrupt, match="git lfs pull") as caught:
        load(folder, tmp_path)
    assert caught.value.path == str(shard)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_pipe_or_device_in_the_place_of_a_file_is_not_waited_for(tmp_path, name, make):
    folder = tiny_model.write(tmp_path / "model")
    model = ModelFolder(folder)
    write_onnx(stack_of(folder / "model.safetensors", model.architecture), model.config(), folder / "model.onnx")
    (folder / "model.safetensors").unlink()
    (folder / name).unlink()
    make(folder / name)
    with pytest.raises(ModelCorrupt, match="neither file nor folder") as caught:
        load(folder, tmp_path)
    assert caught.value.path == str(folder / name)


def test_link_to_nothing_that_nobody_reads_is_left_alone(tmp_path):
    folder = tiny_model.write(tmp_path / "model")
    (folder / "training_state.json").symlink_to("gone")
    (folder / "checkpoint-500").mkdir()
    (folder / "checkpoint-500/optimizer.safetensors").symlink_to("gone")
    with load(folder, tmp_path) as engine:
        assert engine.embed("cat").shape == (48,)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "1_Pooling/config.json"])
def test_file_that_this_account_may_not_read_is_not_called_damaged(tmp_path, name):
    folder = tiny_model.write(tmp_path / "model")
    (folder / name).chmod(0)
    program = f"""
import os, sys
from pathlib import Path
import neuralcore.embedding.engine, neuralcore.embedding.backends.onnx.write.graph
import neuralcore.embedding.store.preparation, neuralcore.embedding.precision.packing, filelock
from neuralcore.embedding import EmbeddingEngine, ModelUnavailable
cache = Path(sys.argv[2])
cache.mkdir()
if os.geteuid() == 0:  # root may read everything
    for folder in (cache, *Path(sys.argv[1]).parents):
        folder.stat().st_uid == 0 and str(folder).startswith({str(tmp_path.parents[1])!r}) and folder.chmod(0o755)
    os.chown(cache, 65534, 65534)
    os.setuid(65534)
try: EmbeddingEngine.from_pretrained(sys.argv[1], cache_dir=cache, threads=1)
except ModelUnavailable as error: print(error)
"""
    command = [sys.executable, "-c", program, str(folder), str(tmp_path / "cache")]
    output = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "HOME": "/tmp"})
    assert f"'{folder / name}' could not be had" in output.stdout, output
    assert "Permission denied" in output.stdout


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("config.json", {"num_hidden_layers": 0}, "num_hidden_layers"),
        ("config.json", {"num_hidden_layers": -2}, "num_hidden_layers"),
        ("config.json", {"num_attention_heads": "3"}, "num_attention_heads"),
        ("config.json", {"hidden_size": [48]}, "hidden_size"),
        ("config.json", {"model_type": ["bert"]}, "model_type"),
        ("config.json", {"max_position_embeddings": "64"}, "max_position_embeddings"),
        ("1_Pooling/config.json", {"word_embedding_dimension": "48"}, "word_embedding_dimension"),
        ("1_Pooling/config.json", {"word_embedding_dimension": 47}, "47|48"),
        ("sentence_bert_config.json", {"max_seq_length": "all"}, "max_seq_length"),
        ("config_sentence_transformers.json", {"prompts": ["q: "]}, "prompts"),
        ("config_sentence_transformers.json", {"prompts": {"query": 3}}, "query"),
        ("tokenizer_config.json", {"model_max_length": [512]}, "model_max_length"),
    ],
)
def test_value_of_the_wrong_type_is_told_by_its_key(tmp_path, name, change, told):
    folder = tiny_model.write(tmp_path / "model")
    if name == "tokenizer_config.json":
        (folder / "sentence_bert_config.json").unlink()  # which would say it first
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(EmbeddingError, match=told) as caught:
        load(folder, tmp_path)
    if isinstance(caught.value, ModelCorrupt):
        assert caught.value.path == str(path)
