"""How the weights of a product lie, whatever their precision."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

PANEL = 16
"""Columns of a panel."""


def pack_columns(weight: NDArray[Any], group: int) -> NDArray[Any]:
    """Weights (in, out) as panels: (out / 16, in / group, 16, group).

    Args:
        weight: of any type.
        group: neighbours among the inputs that lie side by side.
    """
    n_in, n_out = weight.shape
    panels = weight.reshape(n_in // group, group, n_out // PANEL, PANEL)
    return np.ascontiguousarray(panels.transpose(2, 0, 3, 1))
