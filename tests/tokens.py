"""Token batches without a tokenizer."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from neuralcore.embedding.types import TokenBatch


def token_batch(rows: Sequence[Any]) -> TokenBatch:
    lengths = np.array([len(row) for row in rows], np.int64)
    ids = np.concatenate([np.zeros(0), *rows]).astype(np.int32)
    return TokenBatch(ids, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), lengths)
