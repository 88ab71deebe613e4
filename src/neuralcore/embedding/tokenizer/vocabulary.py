"""A large Unigram vocabulary in a file of its own, beside its tokenizer.json in the cache: JSON takes most of a start.

The first line is JSON: the digests of that tokenizer.json and of what follows, how many bytes of it are pieces, and all
that tokenizer.json says but its pieces. Then come the pieces and their scores, as they are spelled, with `_BETWEEN`
between them. Where a digest is another, the file counts as none.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ..documents import open_file, parse_json
from ..errors import ModelCorrupt, ModelUnavailable
from .unigram import Load, Unigram, is_frame, read_unigram

_SUFFIX = ".pieces"
_VERSION = 1
_BETWEEN = "\0"
_OF_SCORES = b"0123456789+-.eE" + _BETWEEN.encode()
_KIND = "the pieces of a tokenizer"
_MOST_TIMES = 4  # as long as the tokenizer.json, which spells all that it holds


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
        tokenizer = path.read_bytes()
        with open_file(path.with_suffix(_SUFFIX), _KIND) as file:
            line, _, body = file.read(_MOST_TIMES * len(tokenizer)).partition(b"\n")
        header = parse_json(path, line, _KIND)
        digests = _digests(tokenizer, body)
    except (OSError, ModelCorrupt, ModelUnavailable):
        return None
    match header:
        case {"version": 1, "digests": [*expected], "pieces_bytes": int(end), "document": dict(document)}:
            if tuple(expected) == digests:
                return _made(document, body[:end], body[end:], load)
    return None


def _made(document: dict[str, Any], pieces: bytes, scores: bytes, load: Load) -> Unigram | None:
    """None of what was not written here: the file may lie in a folder of somebody else."""
    own, spelled = (part.decode().split(_BETWEEN) for part in (pieces, scores))
    if len(own) != len(spelled) or scores.translate(None, _OF_SCORES) or not is_frame(document, len(own)):
        return None
    unigram = Unigram(document, own, spelled, load)
    return unigram if unigram.is_clear else None


def _digests(*contents: bytes) -> tuple[str, ...]:
    return tuple(hashlib.sha256(content).hexdigest() for content in contents)
