"""What a forked child must begin anew: it has none of its parent's threads, and the locks they held stay locked."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class HasThreads(Protocol):
    """Owns threads, or locks that another thread may hold."""

    def forget_threads(self) -> None:
        """Begin anew, without a look at what other threads may have left half done."""


_owners: WeakSet[HasThreads] = WeakSet()


def reset_in_children(owner: HasThreads) -> None:
    """Call `owner.forget_threads()` in every child that is forked, before anything else runs there.

    Whether a child asks for its process id later is too late: its threads may ask together.

    Args:
        owner: only a weak reference is kept.
    """
    _owners.add(owner)


def _reset() -> None:
    for owner in list(_owners):
        owner.forget_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset)
