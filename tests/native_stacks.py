"""Random encoders of sizes that the kernels know, those of random_stacks.py, larger; and how they are packed."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuralcore.embedding.backends.native.pack import pack_model
from neuralcore.embedding.families.stack import Stack
from neuralcore.embedding.types import Precision, TokenBatch
from tests import checkpoints
from tests.random_stacks import LIKE, Features, random_stack

FEATURES: Mapping[str, Features] = {
    name: replace(
        features, hidden=checkpoints.HIDDEN, wide=checkpoints.WIDE, head_size=16, longest=64, size=None,
        words=checkpoints.VOCABULARY, word_scale=1.0 if features.word_scale == 1 else checkpoints.HIDDEN**0.5,
    )
    for name, features in LIKE.items()
}  # fmt: skip

_ALIKE = ("bert", "xlm-roberta")  # as much as the checkpoints of checkpoints.py have
PARAMETERS = [pytest.param(name, marks=pytest.mark.full) if name in _ALIKE else name for name in FEATURES]
"""Of a test: those that the checkpoints of BERT and MPNet stand for only where all is tried."""


def native_stack(name: str) -> Stack:
    """One of `FEATURES`, always the same."""
    return random_stack(sorted(FEATURES).index(name) + 1, FEATURES[name])


def pack(stack: Stack, tokens: TokenBatch, path: Path, precision: Precision = Precision.INT8, **options: Any) -> None:
    """Pack an encoder, in INT8 with these calibration texts."""
    pack_model(stack, path, precision=precision, tokens=tokens if precision is Precision.INT8 else None, **options)
