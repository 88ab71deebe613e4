"""ELECTRA (arXiv:2003.10555): google/electra-*-discriminator. BERT, whose tables may have a width of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..documents import Document
from .architecture import read_size, require
from .checkpoint import Checkpoint
from .post_norm import BERT_DEFAULTS, Names, Shape, post_norm_stack, read_bert_embeddings
from .reading import read_linear
from .stack import Embeddings, Stack

PREFIXES = ("electra.",)


def defaults(_: Document) -> Mapping[str, Any]:
    """Of `ElectraConfig`: the sizes of the small model."""
    sizes = {"hidden_size": 256, "embedding_size": 128, "num_attention_heads": 4, "intermediate_size": 1024}
    return {**BERT_DEFAULTS, **sizes, "vocab_size": 30522, "type_vocab_size": 2, "pad_token_id": 0}


def read_stack(config: Document, checkpoint: Checkpoint) -> Stack:
    """See `families.read_stack`."""
    require(config, position_embedding_type="absolute", is_decoder=False, is_causal=False)
    require(config, add_cross_attention=False)
    shape, n_segments = Shape.of(config), read_size(config, "type_vocab_size")
    width = read_size(config, "embedding_size")
    projected = width if width != shape.hidden else None  # where they are equal, the class has no projection

    def read_embeddings() -> Embeddings:
        embeddings = read_bert_embeddings(checkpoint, shape, n_segments, width)
        if projected is None:
            return embeddings
        projection = read_linear(checkpoint, "embeddings_project", n_in=width, n_out=shape.hidden)
        return replace(embeddings, projection=projection)

    return post_norm_stack(checkpoint, shape, Names(), read_embeddings, embedding_size=projected)
