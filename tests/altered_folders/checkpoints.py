"""Weights and config.json as they are found: old names, prefixes, heads, shards, precisions, links, keys left out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from neuralcore.embedding import ModelCorrupt
from tests import checkpoints, linked_folders, tensor_files
from tests.altered_folders import AlteredFolder, change, changed, plain, write

WEIGHTS = "model.safetensors"
Tensors = dict[str, Any]
Alter = Callable[[Path], object]
KEYS = ("layer_norm_eps", "hidden_act", "type_vocab_size", "pad_token_id", "position_embedding_type", "is_decoder")
OLD = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))


def tensors(make: Callable[[Tensors], Tensors]) -> Alter:
    """Other tensors in the same file."""
    return lambda folder: save_file(make(load_file(folder / WEIGHTS)), folder / WEIGHTS)


def renamed(*pairs: tuple[str, str], prefix: str = "") -> Alter:
    """Tensors by other names."""

    def rename(name: str) -> str:
        for new, old in pairs:
            name = name.replace(new, old)
        return prefix + name

    return tensors(lambda own: {rename(name): values for name, values in own.items()})


def stored(*kinds: str) -> Alter:
    """Tensors of several types in turn, which config.json asks to be computed in float32."""

    def alter(folder: Path) -> None:
        made = {}
        for number, (name, values) in enumerate(load_file(folder / WEIGHTS).items()):
            kind = kinds[number % len(kinds)]
            if kind == "BF16":
                made[name] = tensor_files.as_bf16(values)[0]
            else:
                data = values.astype({"F64": "<f8", "F32": "<f4", "F16": "<f2"}[kind])
                made[name] = kind, list(values.shape), data.tobytes()
        tensor_files.write(folder / WEIGHTS, made)
        change(folder, "config.json", dtype="float32")

    return alter


def sharded(folder: Path) -> None:
    """In three files and an index."""
    own = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    tensor_files.save_shards(folder, own)


def with_forgetful_index(folder: Path) -> None:
    """In three files; two tensors are not in the index."""
    sharded(folder)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    for name in ("encoder.layer.1.output.dense.bias", "embeddings.LayerNorm.weight"):
        del index["weight_map"][name]
    path.write_text(json.dumps(index))


def beside_shards_of_another(folder: Path) -> None:
    """One file, and the index of other weights beside it."""
    tensor_files.save_shards(folder, checkpoints.bert(99).tensors)


def with_heads(own: Tensors) -> Tensors:
    """What a masked language model and a pooler have besides, and a buffer of integers."""
    size = checkpoints.HIDDEN
    return {
        **own,
        "bert.pooler.dense.weight": np.ones((size, size), np.float32),
        "bert.pooler.dense.bias": np.ones(size, np.float32),
        "bert.embeddings.position_ids": np.arange(64)[None],
        "cls.predictions.bias": np.ones(checkpoints.VOCABULARY, np.float32),
        "cls.predictions.transform.LayerNorm.gamma": np.full(size, 7, np.float32),
        "cls.predictions.transform.LayerNorm.beta": np.full(size, 7, np.float32),
        "cls.predictions.transform.dense.weight": np.ones((size, size), np.float32),
    }


def both(*alterations: Alter) -> Alter:
    """One after the other."""
    return lambda folder: [alter(folder) for alter in alterations]


def moved_to_its_own_folder(folder: Path) -> None:
    """The layout of sentence-transformers 1: the encoder in 0_Transformer."""
    encoder = folder / "0_Transformer"
    encoder.mkdir()
    for path in list(folder.iterdir()):
        if path.is_file() and path.name not in ("modules.json", "config_sentence_transformers.json"):
            path.rename(encoder / path.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    write(folder, "modules.json", modules)


def linked(link: Callable[[Path, Path], Path]) -> Alter:
    """Every file a link, to what lies beside the folder."""

    def alter(folder: Path) -> None:
        whole = folder.with_name(folder.name + "-whole")
        folder.rename(whole)
        made = link(whole, folder.with_name(folder.name + "-links"))
        made.rename(folder) if link is linked_folders.as_hard_links else folder.symlink_to(made)

    return alter


def of(make: Callable[[int], Any], seed: int) -> Callable[[Path], Path]:
    """A folder whose encoder is of another family."""

    def write_folder(folder: Path) -> Path:
        plain(folder)
        make(seed).save(folder)
        return folder

    return write_folder


def without_keys(folder: Path) -> None:
    """config.json without all that its class has the same default for."""
    change(folder, "config.json", **dict.fromkeys(KEYS, ...))


def null(key: str) -> Alter:
    """A key that says null, which is not to leave it out."""

    def alter(folder: Path) -> None:
        write(folder, "config.json", {**json.loads((folder / "config.json").read_text()), key: None})

    return alter


def with_another_under_a_prefix(own: Tensors) -> Tensors:
    """All tensors once more, of another model, under the prefix of a task model."""
    return own | {f"bert.{name}": values for name, values in checkpoints.bert(99).tensors.items()}


def nothing(folder: Path) -> None:
    """As it is."""


LINEAR = {"rope_type": "linear", "factor": 2.0}
MPNET, NOMIC = of(checkpoints.mpnet, 21), of(checkpoints.nomic_transformers, 22)


def nomic_in_names_of_the_hub(folder: Path) -> Path:
    """Tensors in the names of the Hub's own class, config.json in those of transformers."""
    of(checkpoints.nomic_hub, 23)(folder)
    write(folder, "config.json", checkpoints.nomic_hub(23).reference)
    return folder


FOLDERS = [
    AlteredFolder("gamma_beta", renamed(*OLD)),
    AlteredFolder("gamma_beta_mpnet", renamed(*OLD), plain=MPNET),
    AlteredFolder("gamma_beta_nomic", renamed(*OLD), plain=NOMIC),
    AlteredFolder("prefix", renamed(prefix="bert.")),
    AlteredFolder("prefix_mpnet", renamed(prefix="mpnet."), plain=MPNET),
    AlteredFolder("prefix_nomic", renamed(prefix="nomic_bert."), plain=NOMIC),
    AlteredFolder("heads_prefix_gamma_beta", both(renamed(*OLD, prefix="bert."), tensors(with_heads))),
    AlteredFolder("without_keys", without_keys),
    AlteredFolder("without_keys_mpnet", without_keys, plain=MPNET),
    AlteredFolder("without_keys_nomic", without_keys, plain=NOMIC),
    AlteredFolder("another_epsilon", changed("config.json", layer_norm_eps=0.1)),
    AlteredFolder("another_activation", changed("config.json", hidden_act="gelu_new")),
    AlteredFolder("fp16", stored("F16")),
    AlteredFolder("bf16", stored("BF16")),
    AlteredFolder("fp64", stored("F64")),
    AlteredFolder("mixed", stored("BF16", "F32", "F16", "F64")),
    AlteredFolder("shards", sharded),
    AlteredFolder("shards_mpnet", sharded, plain=MPNET),
    AlteredFolder("shards_prefix_gamma_beta", both(renamed(*OLD, prefix="bert."), sharded)),
    AlteredFolder("shards_forgotten", with_forgetful_index),
    AlteredFolder("beside_shards_of_another", beside_shards_of_another),
    AlteredFolder("own_folder", moved_to_its_own_folder),
    AlteredFolder("own_folder_shards", both(sharded, moved_to_its_own_folder)),
    AlteredFolder("hub_cache", linked(linked_folders.as_hub_cache)),
    AlteredFolder("hard_links", linked(linked_folders.as_hard_links)),
    AlteredFolder("nomic_in_names_of_the_hub", nothing, plain=nomic_in_names_of_the_hub),
    AlteredFolder("segments", changed("config.json", type_vocab_size=3), "token_type", ModelCorrupt),
    AlteredFolder("layers_as_text", changed("config.json", num_hidden_layers="3"), "num_hidden_layers", ModelCorrupt),
    AlteredFolder("layers_as_float", changed("config.json", num_hidden_layers=3.0), "num_hidden_layers", ModelCorrupt),
    AlteredFolder("no_weights", lambda folder: (folder / WEIGHTS).unlink(), "neither"),
    AlteredFolder("null_activation", null("hidden_act"), "hidden_act", ModelCorrupt),
    AlteredFolder("null_epsilon", null("layer_norm_eps"), "layer_norm_eps", ModelCorrupt),
    AlteredFolder("null_heads", null("num_attention_heads"), "num_attention_heads", ModelCorrupt),
    AlteredFolder("both_prefixes", tensors(with_another_under_a_prefix), "stand for one weight"),
    AlteredFolder("quick_gelu", changed("config.json", hidden_act="quick_gelu"), "quick_gelu"),
    AlteredFolder(
        "relative", changed("config.json", position_embedding_type="relative_key"), "position_embedding_type"
    ),
    AlteredFolder("decoder", changed("config.json", is_decoder=True), "is_decoder"),
    AlteredFolder("rope_scaling", changed("config.json", rope_scaling=LINEAR), "rope_scaling", plain=NOMIC),
    AlteredFolder("head_dim", changed("config.json", head_dim=8), "head_dim", plain=NOMIC),
    AlteredFolder("layers_negative", changed("config.json", num_hidden_layers=-1), "num_hidden_layers", ModelCorrupt),
    AlteredFolder("layers_zero", changed("config.json", num_hidden_layers=0), "num_hidden_layers", ModelCorrupt),
]
