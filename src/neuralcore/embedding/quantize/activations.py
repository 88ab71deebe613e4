"""What goes into each product while the model runs over texts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from ..cpu import available_threads
from ..providers import GpuOptions
from ..session import OnnxSession
from ..types import TokenBatch
from .model import Array, Model

_SAMPLED_TOKENS = 1024
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


def observe(model: Model, names: Sequence[str], tokens: TokenBatch) -> Mapping[str, Activations]:
    """Run the model over texts and look at some of its values.

    Args:
        model: the model as it is.
        names: values to look at, each (1, tokens, channels).
        tokens: the texts.
    """
    found = {name: Activations() for name in names}
    random = np.random.default_rng(_SEED)
    n_kept = -(-_SAMPLED_TOKENS // len(tokens))
    for values in _run(model, names, tokens):
        n_tokens = len(values[0])
        rows = random.permutation(n_tokens)[:n_kept].tolist()
        for name, of_one in zip(names, values, strict=True):
            found[name].add(of_one, rows)
    return found


def _run(model: Model, names: Sequence[str], tokens: TokenBatch) -> Iterator[list[Array]]:
    """The values for one text after the other: alone, none is padded."""
    with tempfile.TemporaryDirectory(prefix="neuralcore-") as folder:
        path = Path(folder) / "observed.onnx"
        n_outputs = len(model.graph.output)
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        model.save(path)
        del model.graph.output[n_outputs:]
        session = OnnxSession(path, device="cpu", n_threads=available_threads(), gpu=GpuOptions())
        for row in range(len(tokens)):
            feeds = session.feeds(*tokens.padded(np.array([row]), pad_id=0))
            yield [values.reshape(-1, values.shape[-1]) for values in session.run_many(names, feeds)]
