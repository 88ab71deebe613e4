"""Random weights of a case, the same on every machine, and the files they are written to.

`RandomState` and its legacy distributions are frozen by NumPy, so golden values stay valid.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tests import tensor_files

Kind = Literal["fp32", "fp16", "bf16"]
Tensors = dict[str, NDArray[np.float32]]


class Draw:
    """Draws tensors by name, one after the other."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.RandomState(seed)
        self.tensors: Tensors = {}

    def normal(self, name: str, *shape: int, scale: float, mean: float = 0.0) -> None:
        """A tensor of any shape."""
        self.tensors[name] = self._random.normal(mean, scale, shape).astype(np.float32)

    def table(self, name: str, rows: int, size: int, *, scale: float = 0.7) -> None:
        """The `.weight` of an embedding."""
        self.normal(f"{name}.weight", rows, size, scale=scale)

    def linear(self, name: str, n_in: int, n_out: int, *, bias: bool = True, scale: float = 1.3) -> None:
        """The `.weight` and `.bias` of a product, which gives numbers of order `scale` for such of order one."""
        self.normal(f"{name}.weight", n_out, n_in, scale=scale * n_in**-0.5)
        if bias:
            self.normal(f"{name}.bias", n_out, scale=0.1)

    def norm(self, name: str, size: int, *, bias: bool = True, mean: float = 1.0) -> None:
        """The `.weight` and `.bias` of a norm; `mean` is 0 where a family multiplies by 1 + weight."""
        self.normal(f"{name}.weight", size, scale=0.1, mean=mean)
        if bias:
            self.normal(f"{name}.bias", size, scale=0.1)


DrawTensors = Callable[[Draw], None]


def save(folder: Path, tensors: Tensors, kind: Kind = "fp32", *, n_shards: int = 1) -> None:
    """Write model.safetensors, or shards and their index.

    Args:
        folder: where.
        tensors: float32; rounded to `kind`.
        kind: how numbers are written.
        n_shards: how many files.
    """
    encoded = {name: _encode(own, kind) for name, own in tensors.items()}
    if n_shards == 1:
        tensor_files.write(folder / "model.safetensors", encoded)
        return
    names = [f"model-{number + 1:05}-of-{n_shards:05}.safetensors" for number in range(n_shards)]
    places = {name: names[number % n_shards] for number, name in enumerate(encoded)}
    for shard in names:
        tensor_files.write(folder / shard, {name: own for name, own in encoded.items() if places[name] == shard})
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _encode(values: NDArray[np.float32], kind: Kind) -> tuple[str, list[int], bytes]:
    if kind == "bf16":
        return tensor_files.as_bf16(values)[0]
    data = values.astype({"fp32": "<f4", "fp16": "<f2"}[kind])
    return {"fp32": "F32", "fp16": "F16"}[kind], list(values.shape), data.tobytes()
