"""One provoked fault."""

from collections.abc import Callable
from dataclasses import dataclass


class NotPossible(Exception):
    """This machine cannot provoke the fault (no right to mount, say); the message says why."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault to provoke.

    Args:
        name: what is provoked, in a few words; unique in its campaign.
        provoke: raises if the product did not hold (AssertionError, or whatever came through).
    """

    name: str
    provoke: Callable[[], None]
