"""Dense steps behind the pooling: what they are told, their weights, and what stands around them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from neuralcore.embedding import ModelCorrupt
from tests import families, tensor_files, tiny_model
from tests.altered_folders import AlteredFolder, change, write

SIZE = tiny_model.DIMENSION
POOLING = "1_Pooling/config.json"
CLASSES = "torch.nn.modules.activation."
IDENTITY = "torch.nn.modules.linear.Identity"
Alter = Callable[[Path], object]


def dense(folder: Path, path: str, n_in: int, n_out: int, **told: Any) -> None:
    """Write a Dense step with random weights, drawn by its path."""
    config = {"in_features": n_in, "out_features": n_out, "bias": True, "activation_function": CLASSES + "Tanh", **told}
    config = {key: value for key, value in config.items() if value is not ...}
    write(folder, f"{path}/config.json", config)
    random = np.random.RandomState(sum(path.encode()))
    tensors = {"linear.weight": random.normal(0, 0.2, (n_out, n_in))}
    if config["bias"]:
        tensors["linear.bias"] = random.normal(0, 0.2, n_out)
    if config.get("use_residual") and n_in != n_out:
        tensors["residual.weight"] = random.normal(0, 0.2, (n_out, n_in))
    save_file(
        {name: values.astype(np.float32) for name, values in tensors.items()}, folder / path / "model.safetensors"
    )


def steps(*kinds: str | tuple[Any, ...], pooling: Any = "mean", size: int = SIZE, **told: Any) -> Alter:
    """An encoder, a pooling, and then these steps: the name of a kind, or the sizes of a Dense and what it is told."""

    def alter(folder: Path) -> None:
        write(folder, POOLING, {"embedding_dimension": size, "pooling_mode": pooling})
        modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
        for number, kind in enumerate(kinds, start=2):
            if isinstance(kind, tuple):
                n_in, n_out, *own = kind
                dense(folder, f"{number}_Dense", n_in, n_out, **{**told, **(own[0] if own else {})})
            name = kind if isinstance(kind, str) else "Dense"
            modules.append((name, "1_Pooling" if name == "Pooling" else f"{number}_{name}"))
        entries = [
            {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
            for number, (name, path) in enumerate(modules)
        ]
        write(folder, "modules.json", entries)

    return alter


def one(**told: Any) -> Alter:
    """One Dense step of 48 to 24 components."""
    return steps((SIZE, 24), **told)


def then(alter: Alter, *others: Alter) -> Alter:
    """One after the other."""
    return lambda folder: [each(folder) for each in (alter, *others)]


def stored(dtype: str) -> Alter:
    """The weights of the first Dense step in another type."""

    def alter(folder: Path) -> None:
        path = folder / "2_Dense/model.safetensors"
        own = load_file(path)
        if dtype == "BF16":
            tensor_files.write(path, {name: tensor_files.as_bf16(values)[0] for name, values in own.items()})
        else:
            save_file({name: values.astype(dtype) for name, values in own.items()}, path)

    return alter


def tensors(**changed: Any) -> Alter:
    """Other tensors of the first Dense step; `...` takes one out."""

    def alter(folder: Path) -> None:
        path = folder / "2_Dense/model.safetensors"
        own = {**load_file(path), **{name.replace("_", "."): values for name, values in changed.items()}}
        save_file({name: values for name, values in own.items() if values is not ...}, path)

    return alter


def pickled(folder: Path) -> None:
    """As sentence-transformers 2 kept them."""
    (folder / "2_Dense/model.safetensors").rename(folder / "2_Dense/pytorch_model.bin")


def before_the_pooling(folder: Path) -> None:
    """Dense, then Pooling."""
    one()(folder)
    write(folder, "modules.json", [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate((("Transformer", ""), ("Dense", "2_Dense"), ("Pooling", "1_Pooling")))
    ])  # fmt: skip


def gemma(folder: Path) -> Path:
    """A decoder laid out like EmbeddingGemma, whose steps are then altered."""
    case = next(case for case in families.modules()["layouts"] if case.name == "embeddinggemma")
    return case.write(folder)


def wide_and_back(folder: Path) -> None:
    """As EmbeddingGemma does: two products without bias, to four times the components and back."""
    size = json.loads((folder / "config.json").read_text())["hidden_size"]
    steps((size, 4 * size), (4 * size, size), "Normalize", size=size, **NO_BIAS)(folder)


NO_BIAS = {"bias": False, "activation_function": IDENTITY}
# fmt: off
FOLDERS = [
    # As known models are laid out
    AlteredFolder("tanh_and_unit_length", steps((SIZE, SIZE), "Normalize", pooling="cls")),
    AlteredFolder("tanh_to_fewer", one()),
    AlteredFolder("two_without_bias", steps((SIZE, 96), (96, SIZE), "Normalize", **NO_BIAS)),
    AlteredFolder("two_behind_a_decoder", wide_and_back, plain=gemma),
    AlteredFolder("two_poolings", steps((2 * SIZE, 32), "Normalize", pooling=["mean", "cls"])),
    AlteredFolder("three_poolings", steps((3 * SIZE, 7), pooling=["max", "weightedmean", "mean_sqrt_len_tokens"])),
    # What a step is told
    AlteredFolder("no_activation_named", one(activation_function=...)),
    AlteredFolder("no_bias_named", one(bias=True, activation_function=IDENTITY)),
    AlteredFolder("relu", one(activation_function=CLASSES + "ReLU")),
    AlteredFolder("gelu", one(activation_function=CLASSES + "GELU")),
    AlteredFolder("silu", one(activation_function="torch.nn.SiLU")),
    AlteredFolder("sigmoid", one(activation_function="torch.nn.modules.Sigmoid")),
    AlteredFolder("residual", steps((SIZE, SIZE), use_residual=True)),
    AlteredFolder("residual_of_another_size", steps((SIZE, 24), "Normalize", use_residual=True)),
    AlteredFolder("names_of_input_and_output", one(module_input_name="sentence_embedding", module_output_name=None)),
    AlteredFolder("activation_of_its_own", one(activation_function="custom.Act"), "activation custom.Act"),
    AlteredFolder("activation_with_settings", one(activation_function=CLASSES + "Softmax"), "Softmax, which is"),
    AlteredFolder("activation_that_is_a_function", one(activation_function="torch.tanh"), "torch.tanh, which is not"),
    AlteredFolder("activation_as_an_object", one(activation_function={"type": "Tanh"}), "a text", ModelCorrupt),
    AlteredFolder("activation_null", one(activation_function=None), "the activation null"),
    AlteredFolder("told_something_new", one(rank=3), "its step Dense is told rank"),
    AlteredFolder("of_tokens", one(module_input_name="token_embeddings"), "makes token_embeddings of token_embeddings"),
    AlteredFolder("to_another_name", one(module_output_name="projected"), "makes projected of sentence_embedding"),
    # Its place
    AlteredFolder("dropout_between", steps("Dropout", (SIZE, 24), "Dropout")),
    AlteredFolder("unit_length_before", steps("Normalize", (SIZE, 24))),
    AlteredFolder("unit_length_before_a_residual", steps("Normalize", (SIZE, SIZE), use_residual=True)),
    AlteredFolder("unit_length_everywhere", steps("Normalize", (SIZE, 24), "Normalize", (24, SIZE), "Normalize")),
    AlteredFolder("pooled_again", steps((SIZE, 24), "Normalize", "Pooling")),
    AlteredFolder("before_the_pooling", before_the_pooling, "Dense comes before the pooling"),
    # Sizes
    AlteredFolder("of_another_size", steps((40, 24)), "48, the components of what comes before", ModelCorrupt),
    AlteredFolder("sizes_that_do_not_follow", steps((SIZE, 24), (32, 8)), "24, the components", ModelCorrupt),
    AlteredFolder("no_size", then(
        one(), lambda folder: change(folder, "2_Dense/config.json", out_features=...)), "out_features", ModelCorrupt),
    AlteredFolder("size_beyond_all_measure", then(
        one(), lambda folder: change(folder, "2_Dense/config.json", out_features=2**40)), "out_features", ModelCorrupt),
    AlteredFolder("size_as_text", then(
        one(), lambda folder: change(folder, "2_Dense/config.json", in_features="48")), "in_features", ModelCorrupt),
    # Weights
    AlteredFolder("fp16", then(one(), stored("float16"))),
    AlteredFolder("fp64", then(one(), stored("float64"))),
    AlteredFolder("bf16", then(one(), stored("BF16"))),
    AlteredFolder("pickled", then(one(), pickled), r"2_Dense.pytorch_model\.bin only; pickled"),
    AlteredFolder("no_weights", then(
        one(), lambda folder: (folder / "2_Dense/model.safetensors").unlink()), "2_Dense.*no such file", ModelCorrupt),
    AlteredFolder("no_config", then(
        one(), lambda folder: (folder / "2_Dense/config.json").unlink()), "2_Dense.*no such file", ModelCorrupt),
    AlteredFolder("weights_of_another_shape", then(
        one(), tensors(linear_weight=np.ones((24, 40), np.float32))), r"linear\.weight of shape", ModelCorrupt),
    AlteredFolder("weights_that_are_not_finite", then(
        one(), tensors(linear_weight=np.full((24, SIZE), np.nan, np.float32))), "NaN or infinity", ModelCorrupt),
    AlteredFolder("bias_that_is_missing", then(one(), tensors(linear_bias=...)), r"linear\.bias", ModelCorrupt),
    AlteredFolder("bias_that_should_not_be", then(
        one(bias=False), tensors(linear_bias=np.ones(24, np.float32))), r"linear\.bias", ModelCorrupt),
    AlteredFolder("residual_that_should_not_be", then(
        one(), tensors(residual_weight=np.ones((24, SIZE), np.float32))), r"residual\.weight", ModelCorrupt),
    AlteredFolder("weights_of_no_known_step", then(
        one(), tensors(gate_weight=np.ones((24, SIZE), np.float32))), r"gate\.weight", ModelCorrupt),
]
# fmt: on
