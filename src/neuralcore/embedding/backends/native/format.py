"""What the packer writes and the check expects: one place for what both must agree on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...types import Precision

PACK_VERSION = 5
"""Raised whenever what is written changes: cached files are then made anew."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a precision keeps the weights of a model.

    Args:
        dtype: of products' weights. uint16 holds bfloat16: the upper halves of float32.
        group: neighbours among the inputs of a product that lie side by side.
        words: dtype of the table of words.
    """

    dtype: str
    group: int
    words: str

    @property
    def has_scales(self) -> bool:
        """Whether there are scales of words and columns, and sums of columns."""
        return self.dtype == "int8"


FORMS: Mapping[Precision, Form] = {
    Precision.INT8: Form("int8", 4, "int8"),
    Precision.FP32: Form("float32", 1, "float32"),
    Precision.FP16: Form("float16", 1, "float16"),
    Precision.BF16: Form("uint16", 2, "float16"),  # words take no part in a product: halves are nearer to them
}
"""In the order of `nc_precision` (native/include/neuralcore.h)."""

ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "silu")
"""Of feed-forward networks, in the order of `nc_activation` (native/include/neuralcore.h)."""

DENSE_ACTIVATIONS = (*ACTIVATIONS, "identity", "tanh", "sigmoid")
"""Of steps behind pooling, in the same order."""

MULTIPLE = 16
"""Sizes of every product and of a head are multiples of it."""

WIDEST = 2**16
"""Most inputs of a product: the sums of more could overflow (native/include/neuralcore.h)."""

WIDEST_HEAD = 1024
"""Most components of a head: a row of it lies on the kernels' stack."""

MOST_POSITIONS = 2**20
"""Rows of a table of positions; those of learned ones are far fewer."""

EPSILONS = (1e-30, 1.0)
"""The least and the most that a norm adds: float32 still tells the least from 0."""

NORM_PLACES = tuple(
    f"{sublayer}_{place}" for sublayer in ("attention", "feed_forward") for place in ("before", "inner", "after")
)
"""Names of the norms of a layer, each of which may be absent."""

HEAD_NORMS = ("query_norm", "key_norm", "value_norm")
"""Names of the norms of a layer's heads, each of which may be absent."""
