"""From a `Stack` to the file that the native kernels map: INT8 weights, packed, without ONNX or PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...config import Dense
from ...errors import ModelCorrupt, UnsupportedModel
from ...families.stack import Array, Attention, DenseStep, Embeddings, Layer, Linear, Norm, Rotary, Stack
from ...types import Advance, TokenBatch
from .format import ACTIVATIONS, EPSILONS, MOST_POSITIONS, MULTIPLE, PACK_VERSION, WIDEST

_LARGEST = 1e15
_INPUTS = {"qkv": "query", "gate": "up"}  # whose input a product shares


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


def _unknown_sizes(sizes: Mapping[str, int]) -> Iterator[str]:
    for name, size in sizes.items():
        if size % MULTIPLE or size > WIDEST:
            yield f"{name} of size {size}, which is not a multiple of {MULTIPLE} up to {WIDEST}"


def pack_model(
    stack: Stack,
    tokens: TokenBatch,
    output_path: Path,
    *,
    dense: Sequence[DenseStep] = (),
    made_from: str = "",
    advance: Advance = lambda _: None,
) -> None:
    """Quantize an encoder and write it for the kernels.

    Args:
        stack: the encoder; `why_not` has nothing to say of it.
        tokens: calibration texts.
        output_path: the file to write.
        dense: the steps behind pooling, with their weights.
        made_from: SHA-256 of the checkpoint, for the fingerprint.
        advance: called with 1 after each layer.

    Raises:
        UnsupportedModel: the kernels do not know a part of it.
        ModelCorrupt: a tensor is missing, has another shape, or holds NaN or infinity; or numbers are beyond 10^15.
    """
    from .file import write_packed

    if reason := why_not(stack, [step.dense for step in dense]):
        raise UnsupportedModel(str(output_path), f"the native kernels do not know {reason}")
    tables = list(dict.fromkeys(attention.rotary for attention in stack.attentions if attention.rotary))
    with np.errstate(over="ignore", invalid="ignore"):  # _check_size tells of it
        try:
            tensors = dict(chain(_tensors(stack, tables, tokens, advance), _steps(dense)))
        except OverflowError as error:
            expected = "weights and hidden states up to 1e15"
            raise ModelCorrupt(str(output_path), expected=expected, actual=str(error)) from error
    write_packed(output_path, tensors, _about(stack, tables, dense, made_from))


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
    stack: Stack, tables: list[Rotary], tokens: TokenBatch, advance: Advance
) -> Iterator[tuple[str, NDArray[Any]]]:
    """All tensors; calibration texts go through one layer after the other."""
    from ...families.forward import embed_tokens

    embeddings = stack.read_embeddings()
    yield from _embeddings(stack, embeddings)
    for number, rotary in enumerate(tables):
        cosines, sines = rotary.angles(stack.max_positions)
        yield from ((f"cosines.{number}", cosines), (f"sines.{number}", sines))
    offsets = tokens.offsets.tolist()
    x = embed_tokens(stack, embeddings, tokens.ids, offsets)
    bias = embeddings.distance_bias
    del embeddings  # a large vocabulary's is larger than everything else together
    for number in range(stack.n_layers):
        layer = _scaled(stack.attentions[number], stack.read_layer(number))
        x, inputs = _run(stack, number, layer, x, offsets, bias)
        for name, tensor in _layer(number, layer, inputs):
            yield f"layers.{number}.{name}", tensor
        advance(1)
    yield from _norm("end_norm", stack.read_end().norm)


def _embeddings(stack: Stack, embeddings: Embeddings) -> Iterator[tuple[str, NDArray[Any]]]:
    from .rounding import quantize_rows_of

    words, word_scale = quantize_rows_of(embeddings.words)
    yield "words", words
    yield "word_scale", word_scale * np.float32(stack.word_scale)
    yield from _norm("embedding_norm", embeddings.norm)
    if embeddings.positions is not None:
        yield "positions", embeddings.positions
    if embeddings.distance_bias is not None:
        yield "distance_bias", embeddings.distance_bias


def _steps(dense: Sequence[DenseStep]) -> Iterator[tuple[str, NDArray[Any]]]:
    for number, step in enumerate(dense):
        yield f"dense.{number}.weight", step.linear.weight
        if step.linear.bias is not None:
            yield f"dense.{number}.bias", step.linear.bias
        if step.residual is not None:
            yield f"dense.{number}.residual", step.residual.weight


def _run(
    stack: Stack, number: int, layer: Layer, x: Array, offsets: Sequence[int], bias: Array | None
) -> tuple[Array, dict[str, Array]]:
    """What calibration texts are behind a layer whose scores need no scale, and what its products saw of them."""
    from ...families.forward import run_layer

    attention = replace(stack.attentions[number], scale=1.0)
    stack = replace(stack, attentions=(*stack.attentions[:number], attention))
    seen: dict[str, Array] = {}
    x = run_layer(stack, number, layer, x, offsets=offsets, distance_bias=bias, observe=seen.__setitem__)
    return x, seen


def _scaled(attention: Attention, layer: Layer) -> Layer:
    """The same with the scale of scores in its queries: in their norm, where they have one."""
    scale = np.float32(attention.scale)
    if norm := layer.query_norm:
        return replace(layer, query_norm=Norm(norm.weight * scale, None if norm.bias is None else norm.bias * scale))
    bias = None if layer.query.bias is None else layer.query.bias * scale
    return replace(layer, query=Linear(layer.query.weight * scale, bias))


def _layer(number: int, layer: Layer, inputs: Mapping[str, Array]) -> Iterator[tuple[str, NDArray[Any]]]:
    from .integers import pack_product

    for sublayer, norms in (("attention", layer.attention_norms), ("feed_forward", layer.feed_forward_norms)):
        for place in ("before", "inner", "after"):
            yield from _norm(f"{sublayer}_{place}", getattr(norms, place))
    for name in ("query_norm", "key_norm", "value_norm"):
        yield from _norm(name, getattr(layer, name))
    linears = _linears(layer)
    for name, values in (*inputs.items(), *((name, linear.weight) for name, linear in linears.items())):
        _check_size(f"{name} of layer {number}", values)
    for name, linear in linears.items():
        product = pack_product(linear, inputs[_INPUTS.get(name, name)])
        for part in ("weight", "column_scale", "column_sum", "bias"):
            yield f"{name}.{part}", getattr(product, part)


def _norm(name: str, norm: Norm | None) -> Iterator[tuple[str, NDArray[Any]]]:
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


def _check_size(name: str, values: Array) -> None:
    """Larger numbers, whose sums of squares float32 does not hold, and NaN would become integers of any size."""
    largest = np.abs(values).max()
    if not largest <= _LARGEST:
        raise OverflowError(f"{name} reaches {largest:g}")
