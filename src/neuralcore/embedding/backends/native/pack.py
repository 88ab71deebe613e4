"""From a `Stack` to the file that the native kernels map, in any precision of theirs, without ONNX or PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...config import Dense
from ...errors import ModelCorrupt, UnsupportedModel
from ...families.stack import Array, Attention, DenseStep, Embeddings, Layer, Linear, Norm, Rotary, Stack
from ...types import Advance, Precision, TokenBatch
from .file import Named, stream_packed
from .floats import BeyondRange, Floats
from .format import ACTIVATIONS, EPSILONS, HEAD_NORMS, MOST_POSITIONS, MULTIPLE, PACK_VERSION, WIDEST, WIDEST_HEAD

_MOST_OF_LAYER = 5 * 4 + 9 * 2  # tensors: parts of its products, weights and biases of its norms
_MOST_BESIDES = 8  # of the embeddings and the end


def why_not(stack: Stack, dense: Sequence[Dense] = ()) -> str | None:
    """What the kernels do not know of a model, by what is known without its weights; None if they can run it.

    Args:
        stack: the encoder.
        dense: the steps behind pooling.
    """
    return next(_unknown(stack, dense), None)


def _unknown(stack: Stack, dense: Sequence[Dense]) -> Iterator[str]:
    if stack.embedding_size:
        yield "a projection behind the word table"
    if stack.size:
        yield "a projection behind the last layer"
    if any(step.normalize_input for step in dense):
        yield "a Dense step that scales its input to unit length"
    if stack.activation not in ACTIVATIONS:
        yield f"the activation {stack.activation}"
    if not EPSILONS[0] <= stack.epsilon <= EPSILONS[1]:
        yield f"norms that add {stack.epsilon:g}, which is not from {EPSILONS[0]:g} to {EPSILONS[1]:g}"
    if stack.max_positions > MOST_POSITIONS:
        yield f"{stack.max_positions} positions, more than {MOST_POSITIONS}"
    yield from _unknown_sizes({"hidden states": stack.hidden, "a feed-forward network": stack.wide})
    for attention in dict.fromkeys(stack.attentions):
        if attention.rotary and attention.rotary.size != attention.head_size:
            yield f"rotary positions of {attention.rotary.size} components in heads of {attention.head_size}"
        size = attention.head_size
        yield from _unknown_sizes({"heads": size, "all heads together": attention.n_heads * size})
        if size > WIDEST_HEAD:
            yield f"heads of size {size}, beyond {WIDEST_HEAD}"


def _unknown_sizes(sizes: Mapping[str, int]) -> Iterator[str]:
    for name, size in sizes.items():
        if size % MULTIPLE or size > WIDEST:
            yield f"{name} of size {size}, which is not a multiple of {MULTIPLE} up to {WIDEST}"


class _Products(Protocol):
    """What knows a precision."""

    def words(self, embeddings: Embeddings, scale: float) -> Iterator[Named]:
        """The table of words, whose rows are to be multiplied by the scale."""

    def products(self, number: int, layer: Layer, linears: Mapping[str, Linear], /) -> Iterator[Named]:
        """The parts of a layer's products; of one layer after the other."""


def pack_model(
    stack: Stack,
    output_path: Path,
    *,
    precision: Precision,
    tokens: TokenBatch | None = None,
    dense: Sequence[DenseStep] = (),
    made_from: str = "",
    advance: Advance = lambda _: None,
) -> None:
    """Write an encoder for the kernels, a layer at a time.

    Args:
        stack: the encoder; `why_not` has nothing to say of it.
        output_path: the file to write.
        precision: of its products: INT8, FP32, FP16 or BF16.
        tokens: calibration texts, which INT8 needs.
        dense: the steps behind pooling, with their weights.
        made_from: SHA-256 of the checkpoint, for the fingerprint.
        advance: called with 1 after each layer.

    Raises:
        UnsupportedModel: the kernels do not know a part of it, or the precision does not reach as far as its weights.
        ModelCorrupt: a tensor is missing, has another shape, or holds NaN or infinity; or in INT8, numbers are beyond
            10^15.
    """
    if reason := why_not(stack, [step.dense for step in dense]):
        raise UnsupportedModel(str(output_path), f"the native kernels do not know {reason}")
    tables = list(dict.fromkeys(attention.rotary for attention in stack.attentions if attention.rotary))
    tensors = chain(_tensors(stack, tables, precision, tokens, advance), _steps(dense))
    n_tensors = _MOST_OF_LAYER * stack.n_layers + 2 * len(tables) + 3 * len(dense) + _MOST_BESIDES
    about = {**_about(stack, tables, dense, made_from), "precision": str(precision)}
    try:
        stream_packed(output_path, tensors, about, n_tensors=n_tensors)
    except OverflowError as error:
        expected = "weights and hidden states up to 1e15"
        raise ModelCorrupt(str(output_path), expected=expected, actual=str(error)) from error
    except BeyondRange as error:
        raise UnsupportedModel(str(output_path), str(error)) from error


def _about(stack: Stack, tables: list[Rotary], dense: Sequence[DenseStep], made_from: str) -> dict[str, Any]:
    return {
        "pack_version": PACK_VERSION,
        "made_from": made_from,
        "max_positions": stack.max_positions,
        "epsilon": float(stack.epsilon),
        "norm": stack.norm,
        "activation": stack.activation,
        "gated": stack.gated,
        "pad_position": stack.pad_position,
        "n_layers": stack.n_layers,
        "attentions": [_about_attention(stack, attention, tables) for attention in stack.attentions],
        "dense": [{"activation": str(step.dense.activation), "residual": step.dense.residual} for step in dense],
    }


def _about_attention(stack: Stack, attention: Attention, tables: list[Rotary]) -> dict[str, Any]:
    window = attention.window
    return {
        "n_heads": attention.n_heads,
        "n_key_heads": attention.n_key_heads,
        "head_size": attention.head_size,
        "rotary": None if attention.rotary is None else tables.index(attention.rotary),
        "causal": attention.causal,
        "window": None if window is None or window >= stack.max_positions else window,
    }


def _tensors(
    stack: Stack, tables: list[Rotary], precision: Precision, tokens: TokenBatch | None, advance: Advance
) -> Iterator[Named]:
    embeddings = stack.read_embeddings()
    products = _of_precision(stack, embeddings, precision, tokens)
    yield from products.words(embeddings, stack.word_scale)
    yield from _embeddings(embeddings)
    del embeddings  # a large vocabulary's is larger than everything else together
    for number, rotary in enumerate(tables):
        cosines, sines = rotary.angles(stack.max_positions)
        yield from ((f"cosines.{number}", cosines), (f"sines.{number}", sines))
    for number in range(stack.n_layers):
        layer = _scaled(stack.attentions[number], stack.read_layer(number))
        for name, tensor in chain(_norms(layer), products.products(number, layer, _linears(layer))):
            yield f"layers.{number}.{name}", tensor
        advance(1)
    yield from _norm("end_norm", stack.read_end().norm)


def _of_precision(stack: Stack, embeddings: Embeddings, precision: Precision, tokens: TokenBatch | None) -> _Products:
    if precision is not Precision.INT8:
        return Floats(precision)
    from .calibrated import Calibrated

    if tokens is None:
        raise ValueError("INT8 needs calibration texts")
    return Calibrated(stack, embeddings, tokens)


def _embeddings(embeddings: Embeddings) -> Iterator[Named]:
    yield from _norm("embedding_norm", embeddings.norm)
    if embeddings.positions is not None:
        yield "positions", embeddings.positions
    if embeddings.distance_bias is not None:
        yield "distance_bias", embeddings.distance_bias


def _steps(dense: Sequence[DenseStep]) -> Iterator[Named]:
    for number, step in enumerate(dense):
        yield f"dense.{number}.weight", step.linear.weight
        if step.linear.bias is not None:
            yield f"dense.{number}.bias", step.linear.bias
        if step.residual is not None:
            yield f"dense.{number}.residual", step.residual.weight


def _scaled(attention: Attention, layer: Layer) -> Layer:
    """The same with the scale of scores in its queries: in their norm, where they have one."""
    scale = np.float32(attention.scale)
    if norm := layer.query_norm:
        return replace(layer, query_norm=Norm(norm.weight * scale, None if norm.bias is None else norm.bias * scale))
    bias = None if layer.query.bias is None else layer.query.bias * scale
    return replace(layer, query=Linear(layer.query.weight * scale, bias))


def _norms(layer: Layer) -> Iterator[Named]:
    for sublayer, norms in (("attention", layer.attention_norms), ("feed_forward", layer.feed_forward_norms)):
        for place in ("before", "inner", "after"):
            yield from _norm(f"{sublayer}_{place}", getattr(norms, place))
    for name in HEAD_NORMS:
        yield from _norm(name, getattr(layer, name))


def _norm(name: str, norm: Norm | None) -> Iterator[Named]:
    if norm is None:
        return
    yield f"{name}.weight", norm.weight
    if norm.bias is not None:
        yield f"{name}.bias", norm.bias


def _linears(layer: Layer) -> dict[str, Linear]:
    linears = {"qkv": _side_by_side(layer.query, layer.key, layer.value), "out": layer.out, "up": layer.up}
    return linears | {"down": layer.down} | ({} if layer.gate is None else {"gate": layer.gate})


def _side_by_side(*parts: Linear) -> Linear:
    weights, biases = [part.weight for part in parts], [_bias(part) for part in parts]
    return Linear(np.concatenate(weights, axis=1), np.concatenate(biases))


def _bias(linear: Linear) -> Array:
    return np.zeros(linear.weight.shape[1], np.float32) if linear.bias is None else linear.bias
