"""MPNet (arXiv:2004.09297): all-mpnet-base-v2. BERT with relative positions as well, and no token types."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..documents import Document
from .checkpoint import Checkpoint
from .positions import pad_position
from .post_norm import BERT_DEFAULTS, Names, Shape, post_norm_stack
from .reading import read_norm
from .stack import Array, Embeddings, Stack

PREFIXES = ("mpnet.",)

_MAX_DISTANCE = 128  # of relative positions, fixed in the reference implementation
_NAMES = Names(
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    out="attention.attn.o",
    attention_norm="attention.LayerNorm",
)


def defaults(_: Document) -> Mapping[str, Any]:
    """Of `MPNetConfig`."""
    return {**BERT_DEFAULTS, "vocab_size": 30527, "relative_attention_num_buckets": 32, "pad_token_id": 1}


def read_stack(config: Document, checkpoint: Checkpoint) -> Stack:
    """See `families.read_stack`."""
    shape = Shape.of(config)
    n_buckets = config.integer("relative_attention_num_buckets", 0, least=4, most=1 << 16)

    def read_embeddings() -> Embeddings:
        hidden, n_positions = shape.hidden, shape.n_positions
        biases = checkpoint.read("encoder.relative_attention_bias.weight", shape=(n_buckets, shape.n_heads))
        return Embeddings(
            words=checkpoint.read("embeddings.word_embeddings.weight", shape=(shape.n_words, hidden)),
            positions=checkpoint.read("embeddings.position_embeddings.weight", shape=(n_positions, hidden)),
            distance_bias=np.ascontiguousarray(bias_by_distance(biases, n_positions)),
            norm=read_norm(checkpoint, "embeddings.LayerNorm", size=hidden),
        )

    return post_norm_stack(checkpoint, shape, _NAMES, read_embeddings, pad_position=pad_position(config))


def bias_by_distance(biases: Array, n_positions: int) -> Array:
    """The biases as a table over the distance key - query, from 1 - n_positions to n_positions - 1.

    Args:
        biases: float32 (buckets, heads).
        n_positions: the longest sequence.

    Returns:
        float32 (heads, 2 n_positions - 1).
    """
    distance = np.arange(1 - n_positions, n_positions)
    return biases[_bucket(distance, len(biases))].T


def _bucket(distance: NDArray[np.int64], n_buckets: int) -> NDArray[np.int64]:
    """T5's buckets (arXiv:1910.10683, 2.1): half for each direction; half of those exact, the rest logarithmic."""
    half = n_buckets // 2
    exact = half // 2
    size = np.abs(distance)
    # float32, like the reference: where the logarithm meets a bucket's edge, precision decides the side.
    ratio = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact))
    ratio = ratio / np.float32(math.log(_MAX_DISTANCE / exact)) * np.float32(half - exact)
    far = np.minimum(exact + ratio.astype(np.int64), half - 1)
    return np.where(distance > 0, half, 0) + np.where(size < exact, size, far)
