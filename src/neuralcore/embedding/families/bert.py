"""BERT (arXiv:1810.04805): all-MiniLM-L6-v2, bge-*-en-v1.5, e5-*-v2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..documents import Document
from .architecture import read_size, require
from .checkpoint import Checkpoint
from .positions import pad_position
from .post_norm import BERT_DEFAULTS, Names, Shape, post_norm_stack
from .reading import read_norm
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
        hidden = shape.hidden
        words = checkpoint.read("embeddings.word_embeddings.weight", shape=(shape.n_words, hidden))
        positions = checkpoint.read("embeddings.position_embeddings.weight", shape=(shape.n_positions, hidden))
        segments = checkpoint.read("embeddings.token_type_embeddings.weight", shape=(n_segments, hidden))
        return Embeddings(
            words=words,
            positions=positions + segments[0],  # one text is one segment, always of type 0
            norm=read_norm(checkpoint, "embeddings.LayerNorm", size=hidden),
        )

    return post_norm_stack(checkpoint, shape, Names(), read_embeddings, pad_position=pad_position(config))
