"""Tables of token vectors: StaticEmbedding of sentence-transformers, and folders of model2vec."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from neuralcore.embedding import ModelCorrupt
from tests import tensor_files, tiny_model
from tests.altered_folders import AlteredFolder, write

SIZE, N_TOKENS = 24, tiny_model.tokenizer().get_vocab_size()
WEIGHTS = "model.safetensors"
Alter = Callable[[Path], object]


def tokenizer(**changes: Any) -> dict[str, Any]:
    """The tiny WordPiece tokenizer, which puts [CLS] and [SEP] around a text and was saved with padding."""
    return {**json.loads(tiny_model.tokenizer().to_str()), "truncation": None, **changes}


def table(n_rows: int | None = None, n_columns: int = SIZE, *, seed: int = 3) -> np.ndarray:
    """Random rows, one for each token of the tokenizer."""
    n_rows = n_rows or N_TOKENS
    return np.random.RandomState(seed).normal(0, 1, (n_rows, n_columns)).astype(np.float32)


def modules(folder: Path, *kinds: str, path: str = "") -> None:
    """The steps, of which the first one lies in `path`."""
    paths = [path, *(f"{number}_{kind}" for number, kind in enumerate(kinds[1:], start=1))]
    write(folder, "modules.json", [
        {"idx": number, "name": str(number), "path": own, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, own) in enumerate(zip(kinds, paths, strict=True))
    ])  # fmt: skip


def static(folder: Path, *, path: str = "") -> Path:
    """As sentence-transformers writes it, with vectors of unit length."""
    (folder / path).mkdir(parents=True, exist_ok=True)
    write(folder, f"{path}/tokenizer.json" if path else "tokenizer.json", tokenizer())
    save_file({"embedding.weight": table()}, folder / path / WEIGHTS)
    modules(folder, "StaticEmbedding", "Normalize", path=path)
    write(folder, "config_sentence_transformers.json", {"prompts": {}, "default_prompt_name": None})
    return folder


def model2vec(folder: Path) -> Path:
    """As model2vec writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, "tokenizer.json", tokenizer(padding=None))
    save_file({"embeddings": table(seed=4)}, folder / WEIGHTS)
    config = {"model_type": "model2vec", "architectures": ["StaticModel"], "seq_length": 1_000_000,
              "hidden_dim": SIZE, "normalize": True, "embedding_dtype": "float32", "max_length": 512}  # fmt: skip
    write(folder, "config.json", config)
    modules(folder, "StaticEmbedding", "Normalize", path=".")
    return folder


def quantized(folder: Path) -> Path:
    """As model2vec writes a model whose tokens share rows: few rows, which row each token has, and its weight."""
    model2vec(folder)
    random = np.random.RandomState(5)
    tensors = {
        "embeddings": table(16, seed=5),
        "mapping": random.randint(0, 16, N_TOKENS).astype(np.int64),
        "weights": random.uniform(0.1, 2, N_TOKENS).astype(np.float32),
    }
    save_file(tensors, folder / WEIGHTS)
    return folder


def nothing(folder: Path) -> None:
    """As it is."""


def tensors(**changed: Any) -> Alter:
    """Other tensors; `...` takes one out."""

    def alter(folder: Path) -> None:
        own = {**load_file(folder / WEIGHTS), **{name.replace("_", "."): values for name, values in changed.items()}}
        save_file({name: values for name, values in own.items() if values is not ...}, folder / WEIGHTS)

    return alter


def stored(dtype: str) -> Alter:
    """The table in another type."""

    def alter(folder: Path) -> None:
        own = load_file(folder / WEIGHTS)
        name = next(name for name in own if name.startswith("embedding"))
        if dtype == "BF16":
            data = {other: ("F32", list(each.shape), each.tobytes()) for other, each in own.items()}
            tensor_files.write(folder / WEIGHTS, {**data, name: tensor_files.as_bf16(own[name])[0]})
        else:
            own[name] = (own[name] * (20 if dtype == "int8" else 1)).astype(dtype)
            save_file(own, folder / WEIGHTS)

    return alter


def tokens(**changes: Any) -> Alter:
    """Another tokenizer.json."""
    return lambda folder: write(folder, "tokenizer.json", tokenizer(**changes))


def with_settings_of_a_tokenizer(folder: Path) -> None:
    """Which StaticEmbedding does not read."""
    write(folder, "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": False,
                                            "model_max_length": 5})  # fmt: skip
    write(folder, "sentence_bert_config.json", {"max_seq_length": 4, "do_lower_case": True})
    write(folder, "config.json", {"model_type": "bert", "hidden_size": 7})


def in_its_own_folder(folder: Path) -> Path:
    """The layout of sentence-transformers 3 to 5."""
    return static(folder, path="0_StaticEmbedding")


def without_modules(normalize: bool | None) -> Alter:
    """model2vec's first layout; `normalize` says what its config.json does."""

    def alter(folder: Path) -> None:
        (folder / "modules.json").unlink()
        config = json.loads((folder / "config.json").read_text())
        config.pop("normalize")
        write(folder, "config.json", config if normalize is None else {**config, "normalize": normalize})

    return alter


def prompts(folder: Path) -> None:
    """Prompts of queries and documents, and fewer components."""
    settings = {"prompts": {"query": "the red ", "document": "a tree "}, "default_prompt_name": None}
    write(folder, "config_sentence_transformers.json", {**settings, "truncate_dim": 16})


def one(name: str, alter: Alter, *refused: Any, plain: Callable[[Path], Path] = static) -> AlteredFolder:
    """A folder of this group."""
    return AlteredFolder(name, alter, *refused, plain=plain)


TRUNCATION = {"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0}
# fmt: off
FOLDERS = [
    one("static", nothing),
    one("in_its_own_folder", nothing, plain=in_its_own_folder),
    one("not_of_unit_length", lambda folder: modules(folder, "StaticEmbedding")),
    one("dropout", lambda folder: modules(folder, "StaticEmbedding", "Dropout", "Normalize")),
    one("settings_of_a_tokenizer", with_settings_of_a_tokenizer),
    one("truncation", tokens(truncation=TRUNCATION)),
    one("truncation_of_the_beginning", tokens(truncation={**TRUNCATION, "direction": "Left"})),
    one("no_unknown_token", tokens(model={
        **tokenizer()["model"], "vocab": {"the": 0, "cat": 1, "[UNK]": 2, "dog": 3}}, added_tokens=[])),
    one("prompts_and_fewer_components", prompts),
    one("fp16", stored("float16")),
    one("bf16", stored("BF16")),
    one("fp64", stored("float64")),
    one("more_rows_than_tokens", tensors(embedding_weight=table(500))),
    one("model2vec", nothing, plain=model2vec),
    one("model2vec_not_of_unit_length", lambda folder: modules(folder, "StaticEmbedding", path="."), plain=model2vec),
    one("model2vec_fp16", stored("float16"), plain=model2vec),
    one("model2vec_without_modules", without_modules(True), plain=model2vec),
    one("model2vec_without_modules_not_of_unit_length", without_modules(None), plain=model2vec),
    one("shared_rows", nothing, plain=quantized),
    one("shared_rows_without_weights", tensors(weights=...), plain=quantized),
    one("shared_rows_fp16", stored("float16"), plain=quantized),
    one("shared_rows_int8", stored("int8"), plain=quantized),
    one("weights_alone", tensors(mapping=..., embeddings=table()), plain=quantized),
    one("both_names", tensors(embedding_weight=table(seed=9)), plain=quantized),
    # Refused
    one("int8", stored("int8"), "holds I8 numbers"),
    one("pickled", lambda folder: (folder / WEIGHTS).rename(folder / "pytorch_model.bin"), "pytorch_model.bin only"),
    one("no_weights", lambda folder: (folder / WEIGHTS).unlink(), "no such file", ModelCorrupt),
    one("no_tokenizer", lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json"),
    one("no_table", tensors(embedding_weight=..., other=table()), "a tensor embedding.weight", ModelCorrupt),
    one("table_of_one_axis", tensors(embedding_weight=table()[0]), "2 axes", ModelCorrupt),
    one("empty_table", tensors(embedding_weight=table()[:0]), "2 axes", ModelCorrupt),
    one("mapping_beyond", tensors(mapping=np.full(N_TOKENS, 16)), "a row below 16", ModelCorrupt, plain=quantized),
    one("mapping_below", tensors(mapping=np.full(N_TOKENS, -1)), "a row below 16", ModelCorrupt, plain=quantized),
    one("mapping_of_floats", tensors(mapping=np.ones(N_TOKENS, np.float32)), "holds F32", plain=quantized),
    one("too_few_weights", tensors(weights=np.ones(3, np.float32)), "a weight for each", ModelCorrupt, plain=quantized),
    one("weights_not_finite", tensors(weights=np.full(N_TOKENS, np.nan, np.float32)), "finite", ModelCorrupt,
        plain=quantized),
    one("limit_of_one_token", tokens(truncation={**TRUNCATION, "max_length": 1}), "max_length", ModelCorrupt),
    one("pooling", lambda folder: modules(folder, "StaticEmbedding", "Pooling"), "StaticEmbedding gives none"),
    one("dense", lambda folder: modules(folder, "StaticEmbedding", "Dense"), "Dense follows StaticEmbedding"),
    one("two_tables", lambda folder: modules(folder, "StaticEmbedding", "StaticEmbedding"), "two encoders"),
    one("layer_norm", lambda folder: modules(folder, "StaticEmbedding", "LayerNorm"), "not run here: LayerNorm"),
]
# fmt: on
