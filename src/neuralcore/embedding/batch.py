"""Which texts run together."""

from __future__ import annotations

import math

import numpy as np

from .errors import InputError
from .types import Lengths, TokenBatch

_RUNS_PER_THREAD = 4  # at least, while runs are not tiny: one more or less then makes little difference at the end


def plan(lengths: Lengths, budget: int) -> list[Lengths]:
    """Group texts into micro-batches: longest first, each as many texts as fit a budget of padded tokens.

    Neighbours in length run together, so little is padded; the longest run first, so that threads working side by side
    end at about the same time.

    Args:
        lengths: int64 (n,), tokens of each text.
        budget: most padded tokens (texts x longest) of a micro-batch. A longer text runs alone.

    Returns:
        Row numbers of each micro-batch; together they hold every row once. `out[rows] = vectors` restores the order.

    Example:
        >>> [rows.tolist() for rows in plan(np.array([3, 9, 4]), budget=8)]
        [[1], [2, 0]]
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        n_texts = max(1, budget // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + n_texts])
        start += n_texts
    return batches


def even_budget(lengths: Lengths, n_threads: int, *, tiny: int) -> int:
    """Tokens of a run when every thread shall get several, or one at least of a few texts.

    Args:
        lengths: int64 (n,), tokens of each text; none is 0.
        n_threads: runs that go side by side.
        tiny: tokens below which a run is not worth cutting further.
    """
    n_tokens, longest = int(lengths.sum()), int(lengths.max())
    fair = math.ceil(n_tokens / n_threads)
    return min(fair, max(tiny, math.ceil(n_tokens / (n_threads * _RUNS_PER_THREAD)) + longest))


def refuse_beyond(n_words: int, tokens: TokenBatch) -> None:
    """Refuse ids that a model has no vectors for: its tokenizer has more tokens than it has words.

    Raises:
        InputError: with the number of the first such text of the batch.
    """
    if len(tokens.ids) and not 0 <= int(tokens.ids.min()) <= int(tokens.ids.max()) < n_words:
        place = int(np.flatnonzero((tokens.ids < 0) | (tokens.ids >= n_words))[0])
        index = int(np.searchsorted(tokens.offsets, place, side="right")) - 1
        reason = f"token id {tokens.ids[place]} is beyond the {n_words} words of the model; its tokenizer has more"
        raise InputError(reason, index=index)
