"""What the packer writes and the check expects: one place for what both must agree on."""

from __future__ import annotations

PACK_VERSION = 4
"""Raised whenever what is written changes: cached files are then made anew."""

ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "silu")
"""Of feed-forward networks, in the order of `nc_activation` (native/include/neuralcore.h)."""

DENSE_ACTIVATIONS = (*ACTIVATIONS, "identity", "tanh", "sigmoid")
"""Of steps behind pooling, in the same order."""

MULTIPLE = 16
"""Sizes of every product and of a head are multiples of it."""

WIDEST = 2**16
"""Most inputs of a product: the sums of more could overflow (native/include/neuralcore.h)."""

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
