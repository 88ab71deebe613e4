"""Reads tensors of a model.safetensors, one at a time, and refuses damaged ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ...errors import ModelCorrupt

Array = NDArray[np.float32]

# What a head or a task model puts before its encoder's tensor names.
_PREFIXES = ("", "bert.", "mpnet.", "nomic_bert.", "model.", "0.auto_model.")


class Checkpoint:
    """Tensors by name, as float32.

    Args:
        path: the model.safetensors.

    Raises:
        ModelCorrupt: truncated, not a safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            file: Any = safe_open(path, framework="numpy")
            self._file = file.__enter__()
        except (SafetensorError, OSError) as error:
            actual = str(error) or "an unreadable file"
            raise ModelCorrupt(str(path), expected="a safetensors file", actual=actual) from error
        self._names = {_without_prefix(name): name for name in self._file.keys()}  # noqa: SIM118 - not a dict

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._file.__exit__(kind, error, tb)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def read(self, *names: str, shape: Sequence[int]) -> Array:
        """The tensor that has one of these names.

        Args:
            names: the names it goes by, in old and new checkpoints.
            shape: what its shape must be; -1 for any size.

        Returns:
            float32 of that shape.

        Raises:
            ModelCorrupt: no such tensor, another shape, or values that are not finite.
        """
        name = next((name for name in names if name in self._names), None)
        if name is None:
            raise ModelCorrupt(str(self._path), expected=f"a tensor {' or '.join(names)}", actual="none")
        tensor = np.asarray(self._file.get_tensor(self._names[name]))
        if len(tensor.shape) != len(shape) or any(w not in (-1, n) for w, n in zip(shape, tensor.shape, strict=True)):
            expected, actual = f"{name} of shape {tuple(shape)}", f"shape {tensor.shape}"
            raise ModelCorrupt(str(self._path), expected=expected, actual=actual)
        tensor = tensor.astype(np.float32, copy=False)
        if not np.isfinite(tensor).all():
            raise ModelCorrupt(str(self._path), expected=f"finite values in {name}", actual="NaN or infinity")
        return tensor


def _without_prefix(name: str) -> str:
    prefix = next((prefix for prefix in _PREFIXES if prefix and name.startswith(prefix)), "")
    return name.removeprefix(prefix)
