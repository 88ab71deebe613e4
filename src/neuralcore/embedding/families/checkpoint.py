"""The tensors of a checkpoint, one at a time, whatever file they are in and whatever older name they go by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Self

import numpy as np

from ..documents import leaves_folder, read_object
from ..errors import ModelCorrupt, UnsupportedModel
from .stack import Array
from .tensor_file import TensorFile

SAFETENSORS = "model.safetensors"
SAFETENSORS_INDEX = "model.safetensors.index.json"
INDEX_SUFFIX = ".safetensors.index.json"
"""How the file ends that says which tensor is in which file, of a checkpoint in several (shards)."""

# What any model may have before its encoder's tensor names; the name of its class is its family's to know.
_PREFIXES = ("model.", "0.auto_model.")
# LayerNorms of checkpoints that come from TensorFlow; transformers renames them in every model, and only these.
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}

_SHAPES = "Shapes follow from config.json and, for keys that it leaves out, from the defaults of its architecture."


class Checkpoint:
    """Tensors by name, as float32.

    Args:
        path: the model.safetensors, or the model.safetensors.index.json of one that is in several files.

    Raises:
        ModelCorrupt: truncated, not a safetensors file, or an index that does not say what is so.
        ModelUnavailable: a file cannot be read by this process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = _places(path)
        self._places = self._by_known_name(())

    def without(self, prefixes: Sequence[str]) -> Self:
        """The same tensors, where names may begin with what a task model of this family puts there ("bert.")."""
        same = copy(self)
        same._places = self._by_known_name(prefixes)
        return same

    def __contains__(self, name: str) -> bool:
        return name in self._places

    @property
    def names(self) -> set[str]:
        """All names that a tensor goes by here."""
        return set(self._places)

    def read(self, *names: str, shape: Sequence[int]) -> Array:
        """The tensor that has one of these names.

        Args:
            names: the names it goes by, in old and new checkpoints.
            shape: what its shape must be; -1 for any size but 0.

        Returns:
            float32 of that shape.

        Raises:
            ModelCorrupt: no such tensor, another shape, or values that are not finite.
            UnsupportedModel: it holds something else than floats, or is there by two names.
        """
        name = next((name for name in names if name in self._places), None)
        if name is None:
            raise ModelCorrupt(str(self._path), expected=f"a tensor {' or '.join(names)}", actual="none")
        (file, own_name), *others = self._places[name]
        if others:
            reason = f"it has both {own_name} and {others[0][1]}, which stand for one weight; take out one of them"
            raise UnsupportedModel(str(self._path), reason)
        actual = file.places[own_name].shape
        fits = len(actual) == len(shape) and all(w in (-1, n) for w, n in zip(shape, actual, strict=True))
        if not fits or 0 in actual:
            expected = f"{name} of shape {tuple(shape)}"
            raise ModelCorrupt(str(file.path), expected=expected, actual=f"shape {actual}", advice=_SHAPES)
        tensor = file.read(own_name)
        if not np.isfinite(tensor).all():
            raise ModelCorrupt(str(file.path), expected=f"finite values in {name}", actual="NaN or infinity")
        return tensor

    def _by_known_name(self, prefixes: Sequence[str]) -> dict[str, list[tuple[TensorFile, str]]]:
        places = defaultdict(list)
        for name, file in self._files.items():
            places[_as_known(name, (*prefixes, *_PREFIXES))].append((file, name))
        return places

    def refused(self, name: str, expected: str, actual: str) -> ModelCorrupt:
        """What to raise where a tensor is not what config.json says.

        Args:
            name: of a tensor that is there.
            expected: what it should have.
            actual: what it has.
        """
        path = self._places[name][0][0].path
        return ModelCorrupt(str(path), expected=f"{name} of {expected}", actual=actual, advice=_SHAPES)


def checkpoint_files(path: Path) -> list[Path]:
    """The files that hold a checkpoint's tensors, sorted: itself, or those that its index names.

    Raises:
        ModelCorrupt: an index that is none, or names files outside of its folder.
    """
    if not path.name.endswith(INDEX_SUFFIX):
        return [path]
    return sorted({path.parent / shard for shard in _read_index(path).values()})


def checkpoint_sha256(path: Path) -> str:
    """What tells a checkpoint's weights from those of another: its SHA-256, or that of its files' SHA-256s."""
    from ..files import sha256_of_all

    return sha256_of_all(checkpoint_files(path))


def _places(path: Path) -> dict[str, TensorFile]:
    """The file of each tensor: where the index says, if there is one; else where it is found, as transformers does."""
    files = {file: TensorFile(file) for file in checkpoint_files(path)}
    places = {name: file for file in files.values() for name in file.places}
    if not path.name.endswith(INDEX_SUFFIX):
        return places
    for name, shard in _read_index(path).items():
        file = files[path.parent / shard]
        if name not in file.places:
            raise ModelCorrupt(str(path), expected=f"{name} in {shard}, as it says", actual="no such tensor there")
        places[name] = file
    return places


def _read_index(path: Path) -> dict[str, str]:
    """The name of each tensor's file."""
    index = read_object(path, required=True).section("weight_map")
    shards = {name: index.text(name, "") for name in index}
    for name, shard in shards.items():
        if leaves_folder(shard) or not shard.endswith(".safetensors"):
            raise index.refused(name, "a safetensors file in the model's folder")
    if not shards:
        raise ModelCorrupt(str(path), expected="a weight_map from tensors to files", actual="none")
    return shards


def _as_known(name: str, prefixes: Sequence[str]) -> str:
    prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
    known = name.removeprefix(prefix)
    for old, new in _OLD_NAMES.items():
        known = known.replace(old, new)
    return known
