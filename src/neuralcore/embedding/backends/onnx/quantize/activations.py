"""What goes into each product while the model runs over texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from ....cpu import available_threads
from ....providers import GpuOptions
from ....types import TokenBatch
from ..session import OnnxSession, check_inputs
from .model import Array, Model, node

_SAMPLED_TOKENS, _SAMPLED_BYTES = 1024, 1 << 28
_SEED = 0


class Activations:
    """Values of one input over all texts.

    Attributes:
        low, high: float32 (channels,), the range of each channel, zero included.
        sample: float32 (tokens, channels), some tokens of every text.
    """

    def __init__(self) -> None:
        self.low = self.high = np.zeros(1, np.float32)
        self._samples: list[Array] = []

    @property
    def sample(self) -> Array:
        """See the class."""
        return np.concatenate(self._samples)

    def add(self, values: Array, rows: Sequence[int]) -> None:
        """Add float32 (tokens, channels), and keep some of its rows."""
        self.low = np.minimum(self.low, values.min(axis=0))
        self.high = np.maximum(self.high, values.max(axis=0))
        self._samples.append(values[rows])


@dataclass(frozen=True, slots=True)
class Calibration:
    """Texts to run a model over.

    Args:
        tokens: the texts.
        folder: where a copy of the model may be kept for a while.
    """

    tokens: TokenBatch
    folder: Path

    def observe(self, model: Model, names: Sequence[str]) -> dict[str, Activations]:
        """Look at some of a model's values.

        Args:
            model: the model as it is.
            names: values to look at, each (1, tokens, channels), or (1, channels) of a whole text.

        Raises:
            UnsupportedModel: it takes inputs that are not an encoder's.
        """
        found = {name: Activations() for name in names}
        random = np.random.default_rng(_SEED)
        for number, values in enumerate(self._run(model, names, ())):
            tokens = [one.reshape(-1, one.shape[-1]) for one in values]
            n_kept, every = self._share(sum(one.shape[-1] * one.itemsize for one in tokens))
            n_tokens = max(map(len, tokens))
            rows = random.permutation(n_tokens)[: 0 if number % every else n_kept].tolist()
            for name, of_one in zip(names, tokens, strict=True):
                # Behind the pooling there is one row, that of the text.
                found[name].add(of_one, rows if len(of_one) == n_tokens else range(len(of_one)))
        return found

    def largest(self, model: Model, names: Sequence[str], added: Sequence[onnx.NodeProto] = ()) -> Mapping[str, float]:
        """The largest size that each of a model's values has; NaN if one of its numbers is.

        Args:
            model: the model as it is.
            names: the values, floats of any shape.
            added: nodes that compute those among them which the model has not.

        Raises:
            UnsupportedModel: it takes inputs that are not an encoder's.
        """
        sizes = [f"{name}.largest" for name in names]
        reductions = [
            reduction
            for name, size in zip(names, sizes, strict=True)
            for reduction in (
                node("Abs", [name], f"{name}.size"),
                node("ReduceMax", [f"{name}.size"], size, keepdims=0),
            )
        ]
        found = np.zeros(len(names))
        for values in self._run(model, sizes, [*added, *reductions]):
            found = np.maximum(found, [float(value) for value in values])
        return dict(zip(names, found.tolist(), strict=True))

    def _share(self, bytes_per_token: int) -> tuple[int, int]:
        """How many tokens are kept, and of each how many-th text."""
        n_texts = len(self.tokens)
        n_tokens = max(1, min(_SAMPLED_TOKENS, _SAMPLED_BYTES // bytes_per_token))
        return -(-n_tokens // n_texts), -(-n_texts // n_tokens)

    def _run(self, model: Model, names: Sequence[str], added: Sequence[onnx.NodeProto]) -> Iterator[list[Array]]:
        """The values for one text after the other: alone, none is padded."""
        check_inputs(model.inputs(), model.path)
        path = self.folder / "observed.onnx"
        _save_with_outputs(model, path, names, added)
        session = OnnxSession(path, device="cpu", n_threads=available_threads(), gpu=GpuOptions())
        for row in range(len(self.tokens)):
            feeds = session.feeds(*self.tokens.padded(np.array([row]), pad_id=0))
            yield session.run_many(names, feeds)


def _save_with_outputs(model: Model, path: Path, names: Sequence[str], added: Sequence[onnx.NodeProto]) -> None:
    """Write the model as it would be with other nodes and outputs; it stays as it is."""
    n_outputs, nodes = len(model.graph.output), model.nodes
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    model.nodes = [*nodes, *added]
    model.save(path)
    model.nodes = nodes
    del model.graph.output[n_outputs:]
