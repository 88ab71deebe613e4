"""What most families read alike: products and norms by the names of their tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .checkpoint import Checkpoint
from .stack import Array, Linear, Norm, Norms


def read_linear(checkpoint: Checkpoint, *names: str, n_in: int, n_out: int, bias: bool | None = True) -> Linear:
    """A product, whose weight a checkpoint keeps as (out, in).

    Args:
        checkpoint: the weights.
        names: what it goes by, in old and new checkpoints, without ".weight".
        n_in: inputs.
        n_out: outputs.
        bias: whether it has one; None where only the checkpoint tells.
    """
    weights, biases = ([f"{name}.{part}" for name in names] for part in ("weight", "bias"))
    weight = checkpoint.read(*weights, shape=(n_out, n_in))
    has_bias = any(name in checkpoint for name in biases) if bias is None else bias
    return Linear(weight.T, checkpoint.read(*biases, shape=(n_out,)) if has_bias else None)


def read_parts(
    checkpoint: Checkpoint, packed: str, *parts: Sequence[str], n_in: int, n_out: int, bias: bool | None = True
) -> list[Linear]:
    """Products of one input, which lie side by side in one or are each by itself.

    Args:
        checkpoint: the weights.
        packed: the name of that one, without ".weight".
        parts: the names that each goes by, in their order.
        n_in: inputs.
        n_out: outputs of each.
        bias: as `read_linear`.
    """
    if f"{packed}.weight" in checkpoint:
        sizes = [n_out] * len(parts)
        return split(read_linear(checkpoint, packed, n_in=n_in, n_out=sum(sizes), bias=bias), *sizes)
    return [read_linear(checkpoint, *names, n_in=n_in, n_out=n_out, bias=bias) for names in parts]


def read_norm(checkpoint: Checkpoint, *names: str, size: int, bias: bool = True, plus_one: bool = False) -> Norm:
    """A norm's weight and bias.

    Args:
        checkpoint: the weights.
        names: what it goes by, in old and new checkpoints, without ".weight".
        size: components of what it scales.
        bias: whether it has one.
        plus_one: whether it multiplies by 1 + weight.
    """
    weights, biases = ([f"{name}.{part}" for name in names] for part in ("weight", "bias"))
    weight = checkpoint.read(*weights, shape=(size,))
    weight = weight + np.float32(1) if plus_one else weight
    return Norm(weight, checkpoint.read(*biases, shape=(size,)) if bias else None)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a layer is made of, where its names are other ones in old and in new checkpoints.

    Args:
        checkpoint: the weights.
        prefixes: the layer's own names, as many as its parts have.
    """

    checkpoint: Checkpoint
    prefixes: tuple[str, ...]

    def linear(self, *names: str, n_in: int, n_out: int, bias: bool | None = True) -> Linear:
        """A product; see `read_linear`."""
        return read_linear(self.checkpoint, *self._whole(names), n_in=n_in, n_out=n_out, bias=bias)

    def after(self, *names: str, size: int) -> Norms:
        """A norm behind an addition."""
        return Norms(after=read_norm(self.checkpoint, *self._whole(names), size=size))

    def _whole(self, names: tuple[str, ...]) -> list[str]:
        return [f"{prefix}.{name}" for prefix, name in zip(self.prefixes, names, strict=True)]


def read_table(checkpoint: Checkpoint, name: str, *, n_rows: int, n_columns: int) -> Array:
    """A table, float32 (n_rows or more, n_columns): it may be filled up with rows that are never looked up.

    Raises:
        ModelCorrupt: fewer rows.
    """
    table = checkpoint.read(name, shape=(-1, n_columns))
    if len(table) < n_rows:
        raise checkpoint.refused(name, f"{n_rows} rows or more, by config.json", f"{len(table)}")
    return table


def split(linear: Linear, *sizes: int) -> list[Linear]:
    """The products that lie side by side in one, by their numbers of outputs."""
    ends = np.cumsum(sizes)[:-1]
    biases: list[Array] | list[None] = [None] * len(sizes) if linear.bias is None else np.split(linear.bias, ends)
    return [Linear(weight, bias) for weight, bias in zip(np.split(linear.weight, ends, axis=1), biases, strict=True)]
