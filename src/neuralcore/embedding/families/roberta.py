"""RoBERTa (arXiv:1907.11692), XLM-RoBERTa and CamemBERT: bge-m3, multilingual-e5-base, all-distilroberta-v1.

BERT whose positions count from the one after the pad token's id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..documents import Document
from . import bert
from .architecture import read_size
from .checkpoint import Checkpoint
from .stack import Stack

PREFIXES = ("roberta.",)
_WORDS_OF_CLASS = {"roberta": 50265}


def defaults(config: Document) -> Mapping[str, Any]:
    """Of `RobertaConfig`, `XLMRobertaConfig` and `CamembertConfig`, which differ in their words only."""
    n_words = _WORDS_OF_CLASS.get(config.text("model_type", ""), 30522)
    return {**bert.defaults(config), "vocab_size": n_words, "pad_token_id": 1}


def read_stack(config: Document, checkpoint: Checkpoint) -> Stack:
    """See `families.read_stack`."""
    n_words = read_size(config, "vocab_size")
    if config.integer("pad_token_id", n_words) >= n_words:  # null, too, for which transformers knows no positions
        raise config.refused("pad_token_id", "the id of a word, from which positions count,")
    return bert.read_stack(config, checkpoint)
