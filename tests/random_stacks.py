"""Encoders with random weights, made in memory: any combination of what a `Stack` can say."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from neuralcore.embedding.families.stack import (
    Activation,
    Attention,
    Embeddings,
    End,
    Layer,
    Linear,
    Norm,
    NormKind,
    Norms,
    Rotary,
    Stack,
)

WORDS = 60


@dataclass(frozen=True, kw_only=True)
class Features:
    """What a random encoder has. Norms stand at the `places` named: any of "before", "inner", "after"."""

    hidden: int = 20
    wide: int = 28
    n_heads: int = 3
    n_key_heads: int = 3
    head_size: int = 8
    longest: int = 12
    norm: NormKind = "layer"
    places: Sequence[str] = ("after",)
    first_norm: bool = True
    norm_biases: bool = True
    head_norms: str = ""
    end_norm: bool = False
    biases: bool = True
    activation: Activation = "gelu"
    gated: bool = False
    positions: bool = True
    pad_position: int | None = None
    distance_bias: bool = False
    thetas: Sequence[float] = ()
    windows: Sequence[int | None] = (None, None, None)
    causal: bool = False
    word_scale: float = 1.0
    embedding_size: int | None = None
    size: int | None = None
    epsilon: float = 1e-6
    words: int = WORDS


def random_stack(seed: int, features: Features) -> Stack:
    """An encoder of these features; values stay of order one."""
    some, random = features, np.random.RandomState(seed)

    def values(*shape: int, scale: float = 1.0, mean: float = 0.0) -> Any:
        return random.normal(mean, scale, shape).astype(np.float32)

    def linear(n_in: int, n_out: int) -> Linear:
        bias = values(n_out, scale=0.1) if some.biases else None
        return Linear(values(n_in, n_out, scale=1 / sqrt(n_in)), bias)

    def norm(size: int) -> Norm:
        has_bias = some.norm == "layer" and some.norm_biases
        return Norm(values(size, scale=0.2, mean=1.0), values(size, scale=0.1) if has_bias else None)

    def norms(number: int) -> Norms:
        kept = {place: norm(some.hidden) for place in some.places}
        if number == 0 and not some.first_norm:
            kept.pop("before", None)
        return Norms(**kept)

    def layer(number: int) -> Layer:
        width, key_width = some.n_heads * some.head_size, some.n_key_heads * some.head_size
        normed = [part for part in ("query", "key", "value") if part[0] in some.head_norms]
        return Layer(
            query=linear(some.hidden, width),
            key=linear(some.hidden, key_width),
            value=linear(some.hidden, key_width),
            out=linear(width, some.hidden),
            attention_norms=norms(number),
            up=linear(some.hidden, some.wide),
            gate=linear(some.hidden, some.wide) if some.gated else None,
            down=linear(some.wide, some.hidden),
            feed_forward_norms=norms(-1),
            **{f"{part}_norm": norm(some.head_size) for part in normed},
        )

    first = 0 if some.pad_position is None else some.pad_position + 1
    max_positions, embedding_size = some.longest + first, some.embedding_size or some.hidden
    embeddings = Embeddings(
        words=values(some.words, embedding_size, scale=1 / some.word_scale),
        positions=values(max_positions, embedding_size, scale=0.5) if some.positions else None,
        distance_bias=values(some.n_heads, 2 * max_positions - 1) if some.distance_bias else None,
        norm=norm(embedding_size) if "after" in some.places else None,
        projection=None if some.embedding_size is None else linear(embedding_size, some.hidden),
    )
    layers = [layer(number) for number in range(len(some.windows))]
    end = End(
        norm=norm(some.hidden) if some.end_norm else None,
        projection=None if some.size is None else linear(some.hidden, some.size),
    )
    return Stack(
        hidden=some.hidden,
        wide=some.wide,
        max_positions=max_positions,
        epsilon=some.epsilon,
        activation=some.activation,
        gated=some.gated,
        norm=some.norm,
        pad_position=some.pad_position,
        word_scale=some.word_scale,
        embedding_size=some.embedding_size,
        size=some.size,
        attentions=tuple(
            Attention(
                n_heads=some.n_heads,
                n_key_heads=some.n_key_heads,
                head_size=some.head_size,
                scale=some.head_size**-0.5,
                rotary=Rotary(some.thetas[number % len(some.thetas)], some.head_size) if some.thetas else None,
                causal=some.causal,
                window=window,
            )
            for number, window in enumerate(some.windows)
        ),
        read_embeddings=lambda: embeddings,
        read_layer=layers.__getitem__,
        read_end=lambda: end,
    )


BERT_LIKE = Features()
XLM_LIKE = Features(pad_position=1)
MPNET_LIKE = Features(pad_position=1, distance_bias=True)
GTE_LIKE = Features(gated=True, thetas=(160_000.0,), positions=False)
MODERNBERT_LIKE = Features(
    places=("before",), first_norm=False, end_norm=True, norm_biases=False, biases=False, gated=True, positions=False,
    thetas=(160_000.0, 10_000.0, 10_000.0), windows=(None, 2, 2),
)  # fmt: skip
QWEN3_LIKE = Features(
    norm="rms", places=("before",), end_norm=True, biases=False, gated=True, activation="silu", positions=False,
    thetas=(1e6,), causal=True, head_norms="qk", n_heads=6, n_key_heads=2,
)  # fmt: skip
GEMMA3_LIKE = Features(
    norm="rms", places=("before", "inner"), end_norm=True, biases=False, gated=True, activation="gelu_tanh",
    positions=False, thetas=(10_000.0, 10_000.0, 1e6), windows=(3, 3, None), head_norms="qkv", n_heads=3, n_key_heads=1,
    word_scale=sqrt(20), size=9,
)  # fmt: skip
LIKE = {
    "bert": BERT_LIKE,
    "xlm-roberta": XLM_LIKE,
    "mpnet": MPNET_LIKE,
    "gte": GTE_LIKE,
    "modernbert": MODERNBERT_LIKE,
    "qwen3": QWEN3_LIKE,
    "gemma3": GEMMA3_LIKE,
}
"""Features of known families, three layers of each."""
