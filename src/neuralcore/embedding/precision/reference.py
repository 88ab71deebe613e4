"""A whole model in NumPy, texts to vectors: slow, and what fp32 of the kernels is held to when it is packed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..config import Dense, DenseActivation, ModelConfig
from ..families.forward import activate, multiply, run
from ..families.stack import Array, DenseStep, Stack
from ..pooling import normalize, pool
from ..tokenizer import Tokenizer
from ..types import TokenBatch, Vectors
from .agreement import Embed


def embed_in_numpy(stack: Stack, dense: Sequence[DenseStep], config: ModelConfig, tokenizer: Tokenizer) -> Embed:
    """What embeds texts, as documents.

    Args:
        stack: the encoder.
        dense: the steps of `config.dense`, with their weights.
        config: pooling and normalisation.
        tokenizer: of the model.
    """

    def embed(texts: Sequence[str]) -> Vectors:
        tokens = tokenizer.encode(texts, prefix=config.document_prefix)
        hidden = run(stack, tokens.ids, tokens.offsets.tolist())
        vectors = pool(_padded(hidden, tokens), tokens.lengths, *config.poolings)
        for step in dense:
            vectors = _run_step(step, vectors)
        return normalize(vectors) if config.normalize else vectors

    return embed


def _padded(hidden: Array, tokens: TokenBatch) -> Array:
    padded = np.zeros((len(tokens), max(1, int(tokens.lengths.max(initial=1))), hidden.shape[1]), np.float32)
    for row, start in enumerate(tokens.offsets[:-1]):
        n_tokens = tokens.lengths[row]
        padded[row, :n_tokens] = hidden[start : start + n_tokens]
    return padded


def _run_step(step: DenseStep, x: Array) -> Array:
    if step.dense.normalize_input:
        x = normalize(x)
    y = _activate(step.dense, multiply(x, step.linear))
    if not step.dense.residual:
        return y
    return y + (x if step.residual is None else multiply(x, step.residual))


def _activate(dense: Dense, x: Array) -> Array:
    match dense.activation:
        case DenseActivation.IDENTITY:
            return x
        case DenseActivation.TANH:
            return np.tanh(x)
        case DenseActivation.SIGMOID:
            return np.float32(1) / (np.float32(1) + np.exp(-np.clip(x, -80, None)))
        case DenseActivation.GELU:
            return activate("gelu", x)
        case DenseActivation.RELU:
            return activate("relu", x)
        case DenseActivation.SILU:
            return activate("silu", x)
