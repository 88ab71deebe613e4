"""Where a token stands in its text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def position_ids(ids: NDArray[np.int32], offsets: NDArray[np.int64], pad_position: int | None) -> NDArray[np.int32]:
    """Rows of the table of positions, for the tokens of several texts.

    Args:
        ids: int32 (total,), all texts' token ids.
        offsets: int64 (n + 1,), where texts begin and end.
        pad_position: None where positions count from 0; else they count from the one after it, and tokens of this id
            have this position and are not counted, as in MPNet.

    Returns:
        int32 (total,).
    """
    lengths = np.diff(offsets)
    if pad_position is None:
        return (np.arange(len(ids)) - np.repeat(offsets[:-1], lengths)).astype(np.int32)
    counted = ids != pad_position
    running = np.cumsum(counted)
    before = np.concatenate([[0], running])[offsets[:-1]]
    return (np.where(counted, running - np.repeat(before, lengths), 0) + pad_position).astype(np.int32)
