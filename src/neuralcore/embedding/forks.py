"""What a forked child must begin anew: it has none of its parent's threads, and the locks they held stay locked."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Generic, Protocol, Self, TypeVar, overload
from weakref import WeakSet

V = TypeVar("V")


class HasThreads(Protocol):
    """Owns threads, or locks that another thread may hold."""

    def forget_threads(self) -> None:
        """Begin anew, without a look at what other threads may have left half done."""


class Once(Generic[V]):
    """A property that is found when it is first asked for, and kept. Threads that ask together may all find it.

    `functools.cached_property` has a lock of its own before Python 3.12: a child that is forked while a thread holds it
    waits for ever.
    """

    def __init__(self, find: Callable[[Any], V]) -> None:
        self._find, self._name = find, ""
        self.__doc__ = find.__doc__

    def __set_name__(self, _: type[Any], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, owner: None, kind: type[Any]) -> Self: ...

    @overload
    def __get__(self, owner: object, kind: type[Any]) -> V: ...

    def __get__(self, owner: object | None, kind: type[Any]) -> Self | V:
        if owner is None:
            return self
        found: V = owner.__dict__.setdefault(self._name, self._find(owner))  # which is looked at before this, next time
        return found


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
