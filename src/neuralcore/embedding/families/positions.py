"""Where tokens stand, and how many an architecture has positions for: the one place that knows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..documents import Document

_FEWEST_TOKENS = 3  # one between two special ones
UNLIMITED = 1_000_000
"""Stands for no limit; tokenizers without one say 1e30."""

# Families that count positions from the one after the pad token's, with the id of that token where config.json says
# none: create_position_ids_from_input_ids of transformers 5, and the defaults of its configurations.
_PAD_DEFAULTS = {
    "camembert": 1,
    "data2vec-text": 1,
    "esm": None,
    "ibert": 1,
    "layoutlmv3": 1,
    "lilt": 0,
    "longformer": 1,
    "luke": 1,
    "markuplm": 0,
    "roberta": 1,
    "roberta-prelayernorm": 1,
    "xlm-roberta": 1,
    "xlm-roberta-xl": 1,
    "xmod": 1,
}
_MPNET_PAD_ID = 1  # of the position table, whatever pad_token_id says
_LIMITS = ("max_position_embeddings", "n_positions")  # xlnet writes -1 for no limit

# Families whose positions are angles alone, of which there are as many as a text has tokens.
_ENDLESS = {
    "eurobert", "gemma3_text", "gte", "jina_embeddings_v3", "llama", "modernbert", "new", "nomic_bert", "qwen2", "qwen3"
}  # fmt: skip
MOST_ANGLES = 1 << 17
"""Tables of angles are made for as many positions at most."""


def count_positions(architecture: Document, told: float | None = None) -> int:
    """The most tokens of one text, special tokens included; `UNLIMITED` where nothing says so.

    Args:
        architecture: config.json.
        told: the limit that the encoder is told. Where positions are angles alone, it may lie beyond config.json's.

    Raises:
        ModelCorrupt: a limit is no number, or leaves no positions for a token between two special ones.
    """
    limits = {key: architecture.integer(key, None, least=-1) for key in _LIMITS}
    rows = max((number for number in limits.values() if number and number > 0), default=None)
    if rows is None:
        return UNLIMITED
    pad_id = pad_position(architecture)
    first = 0 if pad_id is None else pad_id + 1
    if rows < first + _FEWEST_TOKENS:
        key = next(key for key, number in limits.items() if number == rows)
        before = f", after the {first} before the first token's," if first else ""
        raise architecture.refused(key, f"{_FEWEST_TOKENS} positions or more{before}")
    if told is not None and architecture.text("model_type", "") in _ENDLESS:
        rows = max(rows, int(min(told, MOST_ANGLES)))
    return rows - first


def pad_position(architecture: Document) -> int | None:
    """The pad token's id and position, in a family that counts positions from the next one; None in another.

    Args:
        architecture: config.json.

    Raises:
        ModelCorrupt: the id is no number.
    """
    family = architecture.text("model_type", "")
    if family == "mpnet":
        return _MPNET_PAD_ID
    if family not in _PAD_DEFAULTS:
        return None
    return architecture.integer("pad_token_id", _PAD_DEFAULTS[family])


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
    if pad_position is None and len(offsets) == 2:
        return np.arange(len(ids), dtype=np.int32)
    lengths = np.diff(offsets)
    if pad_position is None:
        return (np.arange(len(ids)) - np.repeat(offsets[:-1], lengths)).astype(np.int32)
    counted = ids != pad_position
    running = np.cumsum(counted)
    before = np.concatenate([[0], running])[offsets[:-1]]
    return (np.where(counted, running - np.repeat(before, lengths), 0) + pad_position).astype(np.int32)
