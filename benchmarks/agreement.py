"""Whether two targets give the same vectors."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np


class Agreement(NamedTuple):
    """How far the vectors of one target are from those of another, over all workloads."""

    min_cosine: float
    max_difference: float


def compare(path: Path, reference_path: Path) -> Agreement:
    """Compare the vectors that two measurements wrote."""
    with np.load(path) as own, np.load(reference_path) as reference:
        pairs = [(own[name].astype(np.float64), reference[name].astype(np.float64)) for name in reference.files]
    cosines = [(a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1) for a, b in pairs]
    return Agreement(
        min_cosine=float(min(cosine.min() for cosine in cosines)),
        max_difference=float(max(np.abs(a - b).max() for a, b in pairs)),
    )
