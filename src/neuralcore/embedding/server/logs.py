"""Structured logs: one JSON object a line on standard error, written by a thread: a slow reader blocks nobody."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from queue import Full, Queue
from typing import Any

import orjson

_LOGGER = logging.getLogger("neuralcore.server")
_MOST_WAITING = 10_000


def log(event: str, level: int = logging.INFO, **fields: object) -> None:
    """Log an event and its facts. Never pass a text of a user."""
    if _LOGGER.isEnabledFor(level):
        _LOGGER.log(level, event, extra={"fields": fields})


@contextmanager
def logging_as_json() -> Iterator[None]:
    """Write this server's events, and uvicorn's warnings, to standard error while the block runs."""
    queue: Queue[Any] = Queue(_MOST_WAITING)
    writer = logging.StreamHandler(sys.stderr)
    writer.setFormatter(_JsonFormatter())
    listener, handler = QueueListener(queue, writer), _DroppingHandler(queue)
    loggers = ((_LOGGER, logging.INFO), (logging.getLogger("uvicorn"), logging.WARNING))
    for logger, level in loggers:
        logger.addHandler(handler)
        logger.setLevel(level)
    listener.start()
    try:
        yield
    finally:
        for logger, _ in loggers:
            logger.removeHandler(handler)
        listener.stop()


class _DroppingHandler(QueueHandler):
    """Drops lines when nobody reads them, rather than to wait or to fill the memory."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except Full:
            return


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": when, "level": record.levelname.lower(), "event": record.getMessage()}
        if record.exc_info and record.exc_info[1]:  # without the message of the error, which may quote a text
            error = record.exc_info[1]
            last = traceback.extract_tb(error.__traceback__)[-1:]
            line |= {"error": type(error).__name__, "where": "".join(f"{at.filename}:{at.lineno}" for at in last)}
        return orjson.dumps(line | getattr(record, "fields", {})).decode()
