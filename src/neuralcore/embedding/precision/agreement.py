"""How near two models are: the numbers, and how near is near enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, VerificationFailed
from ..pooling import normalize
from ..types import Precision, Vectors

Embed = Callable[[Sequence[str]], Vectors]

_NEIGHBOURS = 10
_FEWEST_TEXTS = 3  # two have one similarity, which has no rank


@dataclass(frozen=True, slots=True)
class Agreement:
    """A model compared with a reference, over some texts.

    Attributes:
        n_texts: how many.
        mean_cosine, min_cosine: of each text's two vectors.
        largest_difference: of one component.
        neighbour_overlap: share of a text's ten nearest others that both find; 0 to 1.
        rank_correlation: Spearman's, of the similarities of all pairs of texts; -1 to 1.
        batch_shift: how far a component of the model's vectors moves between a text alone and all in one batch.
        precision: what the model is, where that was asked: it says which of `BOUNDS` hold.
    """

    n_texts: int
    mean_cosine: float
    min_cosine: float
    largest_difference: float
    neighbour_overlap: float
    rank_correlation: float
    batch_shift: float
    precision: Precision | None = None

    def to_dict(self) -> dict[str, float]:
        """The numbers, as plain JSON types."""
        return {name: value for name, value in asdict(self).items() if name != "precision"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an `Agreement` must reach: at least, and for `batch_shift` at most."""

    mean_cosine: float
    min_cosine: float
    neighbour_overlap: float
    rank_correlation: float
    batch_shift: float


BOUNDS: Mapping[Precision, Bounds] = {
    Precision.FP32: Bounds(0.99999, 0.9999, 0.99, 0.9999, 1e-5),
    Precision.FP16: Bounds(0.9999, 0.9995, 0.97, 0.9995, 1e-3),
    Precision.BF16: Bounds(0.99995, 0.9998, 0.9, 0.999, 1e-5),  # all of all-MiniLM-L6-v2 in bf16 by PyTorch: 0.999954
    Precision.INT8: Bounds(0.995, 0.98, 0.85, 0.99, 1e-3),
    Precision.DYNAMIC_INT8: Bounds(0.97, 0.90, 0.60, 0.95, 0.1),
}
"""How near to fp32 a model of each precision must be to be used."""


def measure(reference: Embed, model: Embed, texts: Sequence[str]) -> Agreement:
    """Compare a model with a reference.

    Args:
        reference: gives float32 (n, dimension) for n texts.
        model: the same, of the same dimension.
        texts: at least three, better a hundred, of the kind the model will meet.

    Raises:
        InputError: fewer than three texts.
        VerificationFailed: the vectors are not of one dimension, or not finite.

    Example:
        >>> def embed(texts):
        ...     return np.eye(len(texts), 4, dtype=np.float32)
        >>> measure(embed, embed, ["a", "b", "c"]).min_cosine
        1.0
    """
    if len(texts) < _FEWEST_TEXTS:
        raise InputError(f"a comparison needs at least {_FEWEST_TEXTS} texts, not {len(texts)}", limit=_FEWEST_TEXTS)
    expected, found = reference(texts), model(texts)
    if expected.shape != found.shape:
        raise VerificationFailed("dimension", bound=expected.shape[1], measured=found.shape[1])
    if not np.isfinite(found).all():
        raise VerificationFailed("share of finite components", bound=1.0, measured=float(np.isfinite(found).mean()))
    alone = np.concatenate([model([text]) for text in texts])
    own, other = normalize(expected), normalize(found)
    cosines = np.einsum("ij,ij->i", own, other, dtype=np.float64)
    cosines[~(own.any(axis=1) | other.any(axis=1))] = 1  # of a text without tokens, say: both are zero, and alike
    return Agreement(
        n_texts=len(texts),
        mean_cosine=float(cosines.mean()),
        min_cosine=float(cosines.min()),
        largest_difference=float(np.abs(expected - found).max()),
        neighbour_overlap=_overlap(own @ own.T, other @ other.T),
        rank_correlation=_rank_correlation(own @ own.T, other @ other.T),
        batch_shift=float(np.abs(found - alone).max()),
    )


def failures(agreement: Agreement, bounds: Bounds) -> list[VerificationFailed]:
    """Every bound that is not kept."""
    broken = []
    for metric, bound in asdict(bounds).items():
        measured = getattr(agreement, metric)
        kept = measured <= bound if metric == "batch_shift" else measured >= bound
        if not kept:  # NaN keeps no bound
            broken.append(VerificationFailed(metric.replace("_", " "), bound=bound, measured=measured))
    return broken


def _overlap(own: Vectors, other: Vectors) -> float:
    n_nearest = min(_NEIGHBOURS, len(own) - 1)
    pairs = zip(_nearest(own, n_nearest), _nearest(other, n_nearest), strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / n_nearest for a, b in pairs]))


def _nearest(similarities: Vectors, n_nearest: int) -> NDArray[np.int64]:
    others = similarities.copy()
    np.fill_diagonal(others, -np.inf)
    return np.argsort(-others, axis=1, kind="stable")[:, :n_nearest]


def _rank_correlation(own: Vectors, other: Vectors) -> float:
    pairs = np.triu_indices(len(own), 1)
    return float(np.corrcoef(_ranks(own[pairs]), _ranks(other[pairs]))[0, 1])


def _ranks(values: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.argsort(np.argsort(values, kind="stable"), kind="stable")
