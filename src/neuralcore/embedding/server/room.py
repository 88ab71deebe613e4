"""All connections of a server: how many there may be, who goes when one more comes, and who is late."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .metrics import Metrics

_OTHER_FILES = 128  # of the model, of libraries, of the listening socket


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a connection may take, in seconds.

    Args:
        idle_s: for nothing to come; longer than clients and proxies keep such connections: it is they who should close.
        head_s: from the first byte of a request to the end of its headers.
        ending_s: for a client to stop sending what nobody reads any more.
    """

    idle_s: float = 65.0
    head_s: float = 10.0
    ending_s: float = 30.0


class Guest(Protocol):
    """A connection, as far as its room has to know it."""

    @property
    def n_unsent(self) -> int:
        """Bytes of answers that its client's machine has not taken."""

    def abort(self) -> None:
        """Close it at once."""

    def drop_if_reset(self) -> None:
        """Close it if its client is gone."""

    def expire(self, now: float) -> None:
        """Close it if it is late."""


class Room:
    """Room for so many connections.

    When it is full, the one that has been waiting longest for the headers of a request makes room. So those who open
    connections and say nothing, or say it a byte at a time, displace each other, and whoever comes with a request is
    heard. Guests with a request under way are never closed for this; the gateway bounds those.

    Args:
        most: connections.
        metrics: those that had to go are counted there.
    """

    def __init__(self, most: int, metrics: Metrics, patience: Patience) -> None:
        self.patience, self.metrics = patience, metrics
        self._most = most
        self._all: set[Guest] = set()
        self._waiting: dict[Guest, None] = {}
        self._half_closed: set[Guest] = set()

    def enter(self, connection: Guest) -> None:
        """One more is here, for which another may have to leave."""
        self._all.add(connection)
        if len(self._all) > self._most and self._waiting:
            oldest = next(iter(self._waiting))
            self.leave(oldest)
            oldest.abort()
            self.metrics.displaced.inc()

    def leave(self, connection: Guest) -> None:
        """It is gone."""
        self._all.discard(connection)
        self._half_closed.discard(connection)
        self._waiting.pop(connection, None)

    def wait(self, connection: Guest) -> None:
        """It may have to make room, after those that wait already."""
        self._waiting.setdefault(connection)

    def work(self, connection: Guest) -> None:
        """It has a request under way."""
        self._waiting.pop(connection, None)

    def watch(self, connection: Guest) -> None:
        """It sends no more, but may still listen."""
        self._half_closed.add(connection)

    def look(self) -> None:
        """Drop those that listen no more either."""
        for connection in list(self._half_closed):
            connection.drop_if_reset()

    def sweep(self, now: float) -> None:
        """Drop those that are late."""
        for connection in list(self._all):
            connection.expire(now)

    @property
    def all_is_sent(self) -> bool:
        """Whether every answer was taken by its client's machine, or waits in this one's."""
        return not any(connection.n_unsent for connection in self._all)


def most_connections(wanted: int) -> int:
    """How many of the wanted connections this process may have; its limit of open files is raised for them."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows has no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_FILES
    if resource.RLIM_INFINITY not in {soft, hard} and soft < needed:
        soft = min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(16, min(wanted, soft - _OTHER_FILES))
