"""Does a converted graph compute what its source computes? Asked in a fresh session, over several shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..backends.onnx.session import OnnxSession
from ..config import ModelConfig
from ..cpu import available_threads
from ..errors import VerificationFailed
from ..pooling import normalize, pool
from ..providers import GpuOptions
from ..samples import verification_texts
from ..tokenizer import Tokenizer
from ..types import TokenBatch

Hidden = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]
"""Ids and mask, int64 (texts, tokens), to hidden states, float32 (texts, tokens, hidden)."""

_LARGEST_DIFFERENCE = 1e-4
_LARGEST_SHIFT = 1e-4
_LOWEST_COSINE = 0.99999
_BATCHES = (1, 3, 8)  # texts
_LONGEST_AT_LIMIT = 2048  # tokens; longer limits are tested at this length, for time
_HIDDEN = "last_hidden_state"


@dataclass(frozen=True, slots=True)
class Checked:
    """What was measured.

    Attributes:
        n_shapes: of inputs that were run.
        padding_shift: how far a hidden state on a real token moves when its text is padded.
        hidden_difference: largest difference of hidden states on real tokens to the source; None without PyTorch.
        lowest_cosine: of the pooled vectors to the source's; None without PyTorch.
    """

    n_shapes: int
    padding_shift: float
    hidden_difference: float | None
    lowest_cosine: float | None

    def to_dict(self) -> dict[str, float]:
        """As plain JSON types, without what was not measured."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def check_conversion(path: Path, tokenizer_path: Path, config: ModelConfig, source: Hidden | None) -> Checked:
    """Run a graph on batches of 1, 3 and 8 texts, on one token, odd lengths and the limit, and compare.

    Args:
        path: the ONNX file.
        tokenizer_path: its tokenizer.
        config: its pooling and limit.
        source: the model it was made from, where that can be run.

    Raises:
        VerificationFailed: something is too far off.
    """
    session = OnnxSession(path, device="cpu", n_threads=available_threads(), gpu=GpuOptions())
    tokenizer = Tokenizer(tokenizer_path, max_tokens=config.max_tokens, lowercase=config.lowercase)
    batches = _batches(tokenizer, config)
    shifts, differences, cosines = [], [], []
    for tokens in batches:
        rows = np.arange(len(tokens))
        ids, mask = tokens.padded(rows, tokenizer.pad_id)
        hidden = session.run(_HIDDEN, session.feeds(ids, mask))
        shifts.append(_padding_shift(session, tokens, hidden, tokenizer.pad_id))
        if source is not None:
            expected = source(ids, mask)
            differences.append(float(np.abs((hidden - expected)[mask == 1]).max()))
            cosines.append(_lowest_cosine(hidden, expected, tokens, config))
    _require("shift by padding", shifts, at_most=_LARGEST_SHIFT)
    _require("difference of hidden states", differences, at_most=_LARGEST_DIFFERENCE)
    _require("1 - cosine to the source", [1 - cosine for cosine in cosines], at_most=1 - _LOWEST_COSINE)
    return Checked(
        n_shapes=len(batches),
        padding_shift=max(shifts),
        hidden_difference=max(differences, default=None),
        lowest_cosine=min(cosines, default=None),
    )


def _batches(tokenizer: Tokenizer, config: ModelConfig) -> list[TokenBatch]:
    """Real texts in batches of several sizes, one text of one word, and one at the limit."""
    texts = verification_texts()
    longest_tokens = min(config.max_tokens, _LONGEST_AT_LIMIT)
    at_limit = " ".join(texts * (1 + longest_tokens // 500))
    singles = [tokenizer.encode([text]) for text in ("a", texts[0], texts[-1])]
    several = [tokenizer.encode(texts[size : 2 * size]) for size in _BATCHES if size > 1]
    longest = tokenizer.encode([at_limit, texts[0]])
    return [*singles, *several, _cut(longest, longest_tokens)]


def _cut(tokens: TokenBatch, n_tokens: int) -> TokenBatch:
    rows = [tokens.ids[start:end][:n_tokens] for start, end in zip(tokens.offsets, tokens.offsets[1:], strict=False)]
    return TokenBatch(np.concatenate(rows), np.cumsum([0, *map(len, rows)]), tokens.full_lengths)


def _padding_shift(session: OnnxSession, tokens: TokenBatch, hidden: NDArray[np.float32], pad_id: int) -> float:
    """Each text alone against itself beside longer ones."""
    shifts = []
    for row, length in enumerate(tokens.lengths):
        alone = session.run(_HIDDEN, session.feeds(*tokens.padded(np.array([row]), pad_id)))
        shifts.append(float(np.abs(alone[0] - hidden[row, :length]).max()))
    return max(shifts)


def _lowest_cosine(
    hidden: NDArray[np.float32], expected: NDArray[np.float32], tokens: TokenBatch, config: ModelConfig
) -> float:
    own, other = (normalize(pool(values, tokens.lengths, *config.poolings)) for values in (hidden, expected))
    return float(np.einsum("ij,ij->i", own, other, dtype=np.float64).min())


def _require(metric: str, values: list[float], *, at_most: float) -> None:
    for value in values:
        if not value <= at_most:  # NaN is too far, too
            raise VerificationFailed(metric, bound=at_most, measured=value)
