"""Model folders, and what can be wrong with them: a value, a file, a tensor, a graph, a name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

_LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 90868376\n"
_DELETED = object()
_WRONG: list[Any] = [
    _DELETED, None, True, False, 0, -1, 7, 2**40, 2**70, 1e308, -0.5, float("nan"), float("inf"), "", "x", "\ud800",
    "../..", "/etc/passwd", "a\0b", "x" * 100_000, [], [[]], ["x"], [None], {}, {"a": 1},
]  # fmt: skip


Alter = Callable[[Path], object]


@dataclass(frozen=True)
class Altered:
    """A folder to be made and altered.

    Args:
        name: of what is wrong with it.
        kind: one of `FOLDERS`.
        alter: does it.
        refused: whether no vectors may come of it.
        precision: to be asked for.
        as_nobody: whether to load it from an account that may not read everything.
        most_files: how many files the process may have open; None for what is usual.
    """

    name: str
    kind: str
    alter: Alter
    refused: bool = False
    precision: str = "fp32"
    as_nobody: bool = False
    most_files: int | None = None


def draw(random: Random) -> Iterator[Altered]:
    """Changes of every kind, in random order, without end."""
    kinds = [_value, _value, _value, _value, _file, _file, _tensor, _graph, _name, _few_files]
    while True:
        yield random.choice(kinds)(random)


def _plain(folder: Path) -> Path:
    written: Path = import_module("tests.tiny_model").write(folder, prompts={"query": "q: ", "document": "d: "})
    return written


def _sharded(folder: Path) -> Path:
    from safetensors.numpy import load_file

    path = _plain(folder) / "model.safetensors"
    tensors = load_file(path)
    path.unlink()
    import_module("tests.tensor_files").save_shards(folder, tensors, n_shards=2)
    return folder


def _of_graph(folder: Path) -> Path:
    from neuralcore.embedding.backends.onnx.write import write_onnx
    from neuralcore.embedding.store.folder import ModelFolder

    model = ModelFolder(_plain(folder))
    write_onnx(model.stack(), model.config(), folder / "model.onnx")
    (folder / "model.safetensors").unlink()
    return folder


def _of_family(family: str, folder: Path) -> Path:
    _plain(folder)
    import_module("tests.checkpoints").MAKERS[family](5).save(folder)
    return folder


FOLDERS: dict[str, Callable[[Path], Path]] = {
    "plain": _plain,
    "sharded": _sharded,
    "graph": _of_graph,
    "mpnet": partial(_of_family, "mpnet"),
    "nomic": partial(_of_family, "nomic_transformers"),
    "nomic of the Hub": partial(_of_family, "nomic_hub"),
}


_JSON_FILES = [
    "config.json", "config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json",
    "config_sentence_transformers.json", "tokenizer_config.json", "tokenizer.json",
]  # fmt: skip


def _value(random: Random) -> Altered:
    """A value of a JSON file is something else. Which one is drawn when the file is there."""
    kind, seed, value = random.choice(list(FOLDERS)), random.random(), random.choice(_WRONG)
    name = random.choice(_JSON_FILES)
    place = _place(kind, name, Random(seed))
    told = "taken out" if value is _DELETED else repr(value)[:40]
    return Altered(f"{name} {'.'.join(map(str, place))} is {told}", kind, partial(_set, name, place, value))


def _place(kind: str, name: str, random: Random) -> list[str | int]:
    """The way to some value of a JSON file."""
    with TemporaryDirectory() as temporary:
        value = json.loads((FOLDERS[kind](Path(temporary) / "model") / name).read_bytes())
    place: list[str | int] = []
    while isinstance(value, (dict, list)) and value and (not place or random.random() < 0.8):
        key = random.choice(list(value)) if isinstance(value, dict) else random.randrange(len(value))
        place.append(key)
        value = value[key]
    return place


def _set(name: str, place: list[str | int], value: Any, folder: Path) -> None:
    content = json.loads((folder / name).read_bytes())
    holder = content
    for key in place[:-1]:
        holder = holder[key]
    if value is _DELETED:
        del holder[place[-1]]
    else:
        holder[place[-1]] = value
    (folder / name).write_text(json.dumps(content))


def _file(random: Random) -> Altered:
    """A whole file is something else."""
    kind = random.choice(list(FOLDERS))
    with TemporaryDirectory() as temporary:
        folder = FOLDERS[kind](Path(temporary) / "model")
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    name, told = random.choice(names), random.choice(list(_REPLACEMENTS))
    alter = partial(_replace, name, told, random.random())
    return Altered(f"{name} is {told}", kind, alter, as_nobody=told == "not readable")


def _replace(name: str, told: str, seed: float, folder: Path) -> None:
    _REPLACEMENTS[told](folder / name, Random(seed))


def _again(path: Path, make: Callable[[], object]) -> None:
    path.unlink()
    make()


def _flip(path: Path, random: Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(random.choice([1, 1, 8, 100])):
        content[random.randrange(min(len(content), random.choice([64, 4096, 1 << 30])))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def _lengthen(path: Path, _: Random) -> None:
    with path.open("r+b") as file:
        file.truncate(6 << 30)


_REPLACEMENTS: dict[str, Callable[[Path, Random], object]] = {
    "empty": lambda path, _: path.write_bytes(b""),
    "cut": lambda path, random: os.truncate(path, random.randrange(path.stat().st_size)),
    "flipped": _flip,
    "after a byte-order mark": lambda path, _: path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes()),
    "in UTF-16": lambda path, _: path.write_bytes(path.read_bytes().decode("latin-1").encode("utf-16")),
    "a pointer of git-LFS": lambda path, _: path.write_bytes(_LFS),
    "a folder": lambda path, _: _again(path, path.mkdir),
    "a link to nothing": lambda path, _: _again(path, lambda: path.symlink_to("blobs/gone")),
    "a link to itself": lambda path, _: _again(path, lambda: path.symlink_to(path)),
    "a pipe": lambda path, _: _again(path, lambda: os.mkfifo(path)),
    "a device without end": lambda path, _: _again(path, lambda: path.symlink_to("/dev/zero")),
    "of 6 GiB": _lengthen,
    "noise": lambda path, random: path.write_bytes(random.randbytes(random.choice([1, 8, 9, 100, 5000]))),
    "brackets": lambda path, _: path.write_bytes(b"[" * 1_000_000),
    "a list": lambda path, _: path.write_bytes(b"[1, 2]"),
    "null": lambda path, _: path.write_bytes(b"null"),
    "an empty object": lambda path, _: path.write_bytes(b"{}"),
    "a web page": lambda path, _: path.write_bytes(b"<!DOCTYPE html><html>404</html>"),
    "not readable": lambda path, _: path.chmod(0),
    "gone": lambda path, _: path.unlink(),
}


def _tensor(random: Random) -> Altered:
    """Weights or their header are something else."""
    kind, seed = random.choice([kind for kind in FOLDERS if kind not in ("graph", "sharded")]), random.random()
    told, alter = random.choice(list(_TENSORS.items()))
    refused = told in {"one number is not finite", "a tensor is gone", "a tensor has another name"}
    precision = random.choice(["fp32", "fp32", "fp32", "int8"])
    return Altered(told, kind, lambda folder: alter(folder, Random(seed)), refused=refused, precision=precision)


def _rewritten(folder: Path, random: Random, change: Callable[[dict[str, Any], str], object]) -> None:
    from safetensors.numpy import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors, random.choice([name for name in tensors if "token_type" not in name]))
    save_file(tensors, path)


def _headed(folder: Path, random: Random) -> None:
    """One value of the header is something else; the bytes stay."""
    path = folder / "model.safetensors"
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    entry = header[random.choice(list(header))]
    key = random.choice(list(entry))
    entry[key] = random.choice(
        [*(value for value in _WRONG if value is not _DELETED), [0, 2**62], [-8, 0], [48], "I8", "BF16"]
    )
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + content[end:])


def _scaled(tensors: dict[str, Any], name: str, factor: float) -> None:
    tensors[name] = (tensors[name].astype("float64") * factor).clip(-3e38, 3e38).astype("float32")


_TENSORS: dict[str, Callable[[Path, Random], None]] = {
    "one number is not finite": partial(
        _rewritten, change=lambda tensors, name: tensors[name].reshape(-1).__setitem__(-1, float("nan"))
    ),
    "a tensor is gone": partial(_rewritten, change=lambda tensors, name: tensors.pop(name)),
    "a tensor has another name": partial(_rewritten, change=lambda tensors, name: tensors.update(x=tensors.pop(name))),
    "a tensor is flat": partial(
        _rewritten, change=lambda tensors, name: tensors.__setitem__(name, tensors[name].reshape(1, -1))
    ),
    "a tensor is cut": partial(
        _rewritten, change=lambda tensors, name: tensors.__setitem__(name, tensors[name][:1].copy())
    ),
    "a tensor is empty": partial(
        _rewritten, change=lambda tensors, name: tensors.__setitem__(name, tensors[name][:0].copy())
    ),
    "a tensor is of integers": partial(
        _rewritten, change=lambda tensors, name: tensors.__setitem__(name, tensors[name].astype("int8"))
    ),
    "a tensor is huge": partial(_rewritten, change=partial(_scaled, factor=1e38)),
    "a tensor is zero": partial(_rewritten, change=partial(_scaled, factor=0.0)),
    "its header is changed": _headed,
}


def _graph(random: Random) -> Altered:
    """The graph of a folder without a checkpoint is something else."""
    seed, precision = random.random(), random.choice(["fp32", "fp32", "fp16", "int8", "dynamic-int8"])
    told, alter = random.choice(list(_GRAPHS.items()))
    return Altered(told, "graph", lambda folder: alter(folder, Random(seed)), precision=precision)


def _regraphed(folder: Path, random: Random, change: Callable[[Any, Random], object]) -> None:
    import onnx

    path = folder / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    change(model, random)
    path.write_bytes(model.SerializeToString())


def _move(model: Any, random: Random, key: str, value: Any) -> None:
    tensor = random.choice([tensor for tensor in model.graph.initializer if tensor.external_data])
    for entry in tensor.external_data:
        if entry.key == key:
            entry.value = str(value)


def _node(model: Any, random: Random) -> Any:
    return random.choice(model.graph.node)


def _constant(model: Any, random: Random) -> Any:
    return random.choice(model.graph.initializer)


def _change(change: Callable[[Any, Random], object]) -> Callable[[Path, Random], None]:
    return partial(_regraphed, change=change)


_GRAPHS: dict[str, Callable[[Path, Random], None]] = {
    "bytes of the graph are flipped": lambda folder, random: _flip(folder / "model.onnx", random),
    "bytes of the weights are flipped": lambda folder, random: _flip(folder / "model.onnx.data", random),
    "a node is gone": _change(lambda model, random: model.graph.node.remove(_node(model, random))),
    "a node reads something else": _change(lambda model, random: _node(model, random).input.__setitem__(0, "nothing")),
    "a node reads nothing": _change(lambda model, random: _node(model, random).ClearField("input")),
    "a node is told nothing": _change(lambda model, random: _node(model, random).ClearField("attribute")),
    "a node is of another kind": _change(
        lambda model, random: setattr(_node(model, random), "op_type", random.choice(["Add", "Nope"]))
    ),
    "a tensor has another size": _change(
        lambda model, random: _constant(model, random).dims.append(random.choice([0, 2, -1, 1 << 40]))
    ),
    "a tensor has another type": _change(
        lambda model, random: setattr(_constant(model, random), "data_type", random.randrange(30))
    ),
    "weights begin elsewhere": _change(
        lambda model, random: _move(model, random, "offset", random.choice([-1, 7, 1 << 40, 1 << 70, "x"]))
    ),
    "weights are longer": _change(
        lambda model, random: _move(model, random, "length", random.choice([-1, 0, 7, 1 << 40, "x"]))
    ),
    "there is no output": _change(lambda model, _: model.graph.ClearField("output")),
    "there is no input": _change(lambda model, _: model.graph.ClearField("input")),
    "there is no graph": _change(lambda model, _: model.ClearField("graph")),
    "its operators are of no version": _change(lambda model, _: model.ClearField("opset_import")),
    "its operators are of the future": _change(
        lambda model, _: setattr(model.opset_import[0], "version", 1 << 40)
    ),
}  # fmt: skip


def _few_files(random: Random) -> Altered:
    """A whole folder, for a process that may open few files."""
    return Altered("few files may be open", random.choice(list(FOLDERS)), str, most_files=random.randrange(3, 14))


def _name(random: Random) -> Altered:
    """A name leads out of the folder, to a model that would work."""
    kind, told, alter = random.choice(_NAMES)
    name = random.choice(["../secret", "x/../../secret", "<secret>", "..\\secret", "/etc/passwd"])
    return Altered(f"{told} leads to {name}", kind, lambda folder: alter(folder, name), refused=True)


def _lead(name: str, folder: Path, file: str) -> str:
    target = name.replace("<secret>", str(folder.parent / "secret"))
    return target if target == "/etc/passwd" else f"{target}{chr(92) if chr(92) in target else '/'}{file}".rstrip("/\\")


def _lead_graph(folder: Path, name: str) -> None:
    def change(model: Any, _: Random) -> None:
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = _lead(name, folder, "model.onnx.data")

    _regraphed(folder, Random(0), change)


def _lead_shard(folder: Path, name: str) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"] = {tensor: _lead(name, folder, shard) for tensor, shard in index["weight_map"].items()}
    path.write_text(json.dumps(index))


def _lead_module(number: int, folder: Path, name: str) -> None:
    path = folder / "modules.json"
    modules = json.loads(path.read_text())
    modules[number]["path"] = _lead(name, folder, modules[number]["path"])
    path.write_text(json.dumps(modules))


_NAMES: list[tuple[str, str, Callable[[Path, str], None]]] = [
    ("graph", "the place of the weights", _lead_graph),
    ("sharded", "a shard", _lead_shard),
    ("plain", "the encoder's folder", partial(_lead_module, 0)),
    ("plain", "the pooling's folder", partial(_lead_module, 1)),
    ("graph", "the encoder's folder", partial(_lead_module, 0)),
]
