"""BERT (arXiv:1810.04805): all-MiniLM-L6-v2, bge-*-en-v1.5, e5-*-v2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..documents import Document
from .architecture import read_size, require
from .checkpoint import Checkpoint
from .positions import pad_position
from .post_norm import BERT_DEFAULTS, Names, Shape, post_norm_stack, read_bert_embeddings
from .stack import Embeddings, Stack

PREFIXES = ("bert.",)


def defaults(_: Document) -> Mapping[str, Any]:
    """Of `BertConfig`."""
    return {**BERT_DEFAULTS, "vocab_size": 30522, "type_vocab_size": 2, "pad_token_id": 0}


def read_stack(config: Document, checkpoint: Checkpoint) -> Stack:
    """See `families.read_stack`."""
    require(config, position_embedding_type="absolute", is_decoder=False, is_causal=False)
    require(config, add_cross_attention=False)
    shape, n_segments = Shape.of(config), read_size(config, "type_vocab_size")

    def read_embeddings() -> Embeddings:
        return read_bert_embeddings(checkpoint, shape, n_segments, shape.hidden)

    return post_norm_stack(checkpoint, shape, Names(), read_embeddings, pad_position=pad_position(config))
