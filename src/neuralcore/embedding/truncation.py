"""What is said of texts that were longer than the model's limit."""

from __future__ import annotations

import warnings

import numpy as np

from .errors import InputError
from .types import TokenBatch


def report_cut(tokens: TokenBatch, max_tokens: int, *, first_index: int = 0, refuse: bool) -> None:
    """Warn of texts that were cut, or refuse them.

    Args:
        tokens: the texts, cut.
        max_tokens: the limit.
        first_index: the number of the first text, for the message.
        refuse: raise instead of warning.

    Raises:
        InputError: a text was cut; with its index.
    """
    cut = np.flatnonzero(tokens.full_lengths > tokens.lengths)
    if not len(cut):
        return
    index, longest = first_index + int(cut[0]), int(tokens.full_lengths[cut[0]])
    if refuse:
        reason = f"{longest} tokens, the limit is {max_tokens}; split it, or allow truncation='warn'"
        raise InputError(reason, index=index, limit=max_tokens)
    first_cut = f"the first is text {index} with {longest}"
    n_texts = "1 text was" if len(cut) == 1 else f"{len(cut)} texts were"
    warnings.warn(f"{n_texts} cut to {max_tokens} tokens; {first_cut}", stacklevel=3)
