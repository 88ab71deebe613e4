"""Texts in the order in which they run, so that those of a group lie one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...families.positions import position_ids
from ...types import Lengths, TokenBatch


class Group(NamedTuple):
    """Texts that run together.

    Args:
        rows: which texts of the batch; a slice where they are neighbours in order.
        ids: int32 (total,), of all of them.
        positions: int32 (total,), rows of the table of positions.
        offsets: int64 (n + 1,), where they begin and end, from 0.
    """

    rows: Lengths | slice
    ids: NDArray[np.int32]
    positions: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def longest(self) -> int:
        """Tokens of its longest text."""
        return int((self.offsets[1:] - self.offsets[:-1]).max())


def arrange(tokens: TokenBatch, plan: Sequence[Lengths], pad_position: int | None) -> list[Group]:
    """The groups of a batch; all that is copied is copied once for all of them.

    Args:
        tokens: the batch.
        plan: rows of each group, none of a text without tokens.
        pad_position: see `position_ids`.
    """
    order = np.concatenate(plan) if len(plan) > 1 else plan[0]
    is_in_order = len(order) == len(tokens) and (len(order) == 1 or bool((order[1:] > order[:-1]).all()))
    taken = tokens if is_in_order else tokens.take(order)
    positions = position_ids(taken.ids, taken.offsets, pad_position)
    ends = np.cumsum([0, *map(len, plan)]).tolist()
    groups = []
    for first, last in pairwise(ends):
        offsets = taken.offsets[first : last + 1]
        start, end = int(offsets[0]), int(offsets[-1])
        rows = slice(first, last) if is_in_order else order[first:last]
        groups.append(Group(rows, taken.ids[start:end], positions[start:end], offsets - start))
    return groups
