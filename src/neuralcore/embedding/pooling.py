"""From token vectors to one vector a text, in numpy: for models whose graph does not pool by itself."""

from __future__ import annotations

import numpy as np

from .config import PoolingStrategy
from .errors import InputError
from .types import Lengths, Vectors

_SMALLEST_NORM = 1e-12  # torch.nn.functional.normalize divides by max(norm, 1e-12)


def pool(hidden: Vectors, lengths: Lengths, *strategies: PoolingStrategy) -> Vectors:
    """Pool token vectors over each text's own tokens.

    Args:
        hidden: float32 (n, longest, dimension); cells past a text's end hold anything.
        lengths: int64 (n,), tokens of each text. A text without tokens gets the zero vector.
        strategies: how; what several give is laid side by side.

    Returns:
        float32 (n, dimension * strategies).
    """
    parts = [_pool(hidden, lengths, strategy) for strategy in strategies]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _pool(hidden: Vectors, lengths: Lengths, strategy: PoolingStrategy) -> Vectors:
    mask = (np.arange(hidden.shape[1]) < lengths[:, None])[:, :, None]
    some = (lengths > 0)[:, None]
    match strategy:
        case PoolingStrategy.CLS:
            pooled = hidden[:, 0]
        case PoolingStrategy.MEAN | PoolingStrategy.MEAN_WITH_ATTENTION:
            # where=, not a product: padding may hold NaN, and NaN times zero is NaN.
            pooled = hidden.sum(axis=1, where=mask) / np.maximum(lengths, 1)[:, None]
        case PoolingStrategy.MAX:
            pooled = hidden.max(axis=1, where=mask, initial=-np.inf)
        case PoolingStrategy.LAST_TOKEN:
            pooled = hidden[np.arange(len(hidden)), np.maximum(lengths - 1, 0)]
        case PoolingStrategy.MEAN_SQRT_LEN:
            pooled = hidden.sum(axis=1, where=mask) / np.sqrt(np.maximum(lengths, 1))[:, None]
        case PoolingStrategy.WEIGHTED_MEAN:
            places = np.arange(1, hidden.shape[1] + 1, dtype=np.float32)[None, :, None]
            weights = lengths * (lengths + 1) / 2
            with np.errstate(invalid="ignore", over="ignore"):  # padding may hold anything
                weighted = hidden * places
            pooled = weighted.sum(axis=1, where=mask) / np.maximum(weights, 1)[:, None]
    return np.where(some, pooled, 0).astype(np.float32)


def normalize(vectors: Vectors) -> Vectors:
    """Scale each row to unit length (L2). Zero rows stay zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = vectors / np.maximum(norms, np.float32(_SMALLEST_NORM))
    return scaled


def shorten(vectors: Vectors, dimensions: int | None, kept_dimensions: int | None) -> Vectors:
    """What an engine gives of its encoder's vectors.

    Args:
        vectors: float32 (n, dimension).
        dimensions: what the caller asks for (see `truncate`); None takes what the model's folder says.
        kept_dimensions: that: how many components are kept, without scaling again; None keeps all.
    """
    if dimensions is not None:
        return truncate(vectors, dimensions)
    return vectors if kept_dimensions is None else vectors[:, :kept_dimensions].copy()


def truncate(vectors: Vectors, dimensions: int) -> Vectors:
    """Keep the first components and scale each row to unit length again.

    Only for models trained for it (Matryoshka representation learning, arXiv:2205.13147).

    Args:
        vectors: float32 (n, dimension).
        dimensions: how many components to keep.

    Returns:
        float32 (n, dimensions), unit length.

    Raises:
        InputError: more components asked for than there are, or fewer than one.
    """
    if not 1 <= dimensions <= vectors.shape[1]:
        raise InputError(f"dimensions must be 1 to {vectors.shape[1]}, not {dimensions}", limit=vectors.shape[1])
    return normalize(vectors[:, :dimensions])
