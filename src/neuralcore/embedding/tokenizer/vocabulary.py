"""A large Unigram vocabulary in a file of its own, beside its tokenizer.json in the cache: JSON takes most of a start.

The first line is JSON: the digests of that tokenizer.json and of what follows, how many bytes of it are pieces, and all
that tokenizer.json says but its pieces. Then come the pieces and their scores, as they are spelled, with `_BETWEEN`
between them. Where a digest is another, the file counts as none.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ..documents import parse_json
from ..errors import ModelCorrupt
from .unigram import Load, Unigram, read_unigram

_SUFFIX = ".pieces"
_VERSION = 1
_BETWEEN = "\0"


def write_vocabulary(path: Path, load: Load) -> None:
    """Write the vocabulary of a tokenizer.json beside it, if it is a Unigram's.

    Args:
        path: the tokenizer.json.
        load: opens one.
    """
    content = path.read_bytes()
    unigram = read_unigram(content.decode(), load) if b'"Unigram"' in content else None
    if unigram is None or any(_BETWEEN in piece for piece in unigram.pieces):
        return
    pieces = _BETWEEN.join(unigram.pieces).encode()
    body = pieces + _BETWEEN.join(map(str, unigram.scores)).encode()
    header = {
        "version": _VERSION,
        "digests": _digests(content, body),
        "pieces_bytes": len(pieces),
        "document": unigram.document,
    }
    path.with_suffix(_SUFFIX).write_bytes(json.dumps(header).encode() + b"\n" + body)


def read_vocabulary(path: Path, load: Load) -> Unigram | None:
    """The vocabulary that was written beside a tokenizer.json; None if there is none, or it is of another one."""
    try:
        content = path.with_suffix(_SUFFIX).read_bytes()
        line, _, body = content.partition(b"\n")
        header = parse_json(path, line, "the pieces of a tokenizer")
        digests = _digests(path.read_bytes(), body)
    except (OSError, ModelCorrupt):
        return None
    match header:
        case {"version": 1, "digests": [*expected], "pieces_bytes": int(end), "document": dict(document)}:
            if tuple(expected) == digests:
                pieces, scores = (part.decode().split(_BETWEEN) for part in (body[:end], body[end:]))
                return Unigram(document, pieces, scores, load)
    return None


def _digests(*contents: bytes) -> tuple[str, ...]:
    return tuple(hashlib.sha256(content).hexdigest() for content in contents)
