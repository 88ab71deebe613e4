"""Products and words as integers, rounded in view of what calibration texts are before each product."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from ...families.forward import embed_tokens, run_layer
from ...families.stack import Array, Embeddings, Layer, Linear, Stack
from ...types import TokenBatch
from .file import Named
from .integers import pack_product
from .rounding import quantize_rows_of

_LARGEST = 1e15
_INPUTS = {"qkv": "query", "gate": "up"}  # whose input a product shares


class Calibrated:
    """Makes the tensors of a model in INT8; the texts go through one layer after the other.

    Args:
        stack: the encoder.
        embeddings: what makes its first vectors.
        tokens: calibration texts.
    """

    def __init__(self, stack: Stack, embeddings: Embeddings, tokens: TokenBatch) -> None:
        self._stack, self._offsets = stack, tokens.offsets.tolist()
        self._x, self._bias = embed_tokens(stack, embeddings, tokens.ids, self._offsets), embeddings.distance_bias

    def words(self, embeddings: Embeddings, scale: float) -> Iterator[Named]:
        """The table of words and the scales of its rows."""
        words, word_scale = quantize_rows_of(embeddings.words)
        yield "words", words
        yield "word_scale", word_scale * np.float32(scale)

    def products(self, number: int, layer: Layer, linears: Mapping[str, Linear], /) -> Iterator[Named]:
        """Those of the next layer, whose scores need no scale: their parts by name.

        Raises:
            OverflowError: numbers are beyond reason.
        """
        inputs = self._run(number, layer)
        for name, values in (*inputs.items(), *((name, linear.weight) for name, linear in linears.items())):
            _check_size(f"{name} of layer {number}", values)
        for name, linear in linears.items():
            product = pack_product(linear, inputs[_INPUTS.get(name, name)])
            for part in ("weight", "column_scale", "column_sum", "bias"):
                yield f"{name}.{part}", getattr(product, part)

    def _run(self, number: int, layer: Layer) -> dict[str, Array]:
        """What its products see of the texts."""
        attentions = self._stack.attentions
        attention = replace(attentions[number], scale=1.0)
        stack = replace(self._stack, attentions=(*attentions[:number], attention))
        seen: dict[str, Array] = {}
        with np.errstate(over="ignore", invalid="ignore"):  # _check_size tells of it
            self._x = run_layer(
                stack, number, layer, self._x, offsets=self._offsets, distance_bias=self._bias, observe=seen.__setitem__
            )
        return seen


def _check_size(name: str, values: Array) -> None:
    """Larger numbers, whose sums of squares float32 does not hold, and NaN would become integers of any size."""
    largest = np.abs(values).max()
    if not largest <= _LARGEST:
        raise OverflowError(f"{name} reaches {largest:g}")
