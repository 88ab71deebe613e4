"""From a `Stack` to the file that the native kernels map: INT8 weights, packed, without ONNX or PyTorch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelCorrupt, UnsupportedModel
from ...families.stack import Attention, Embeddings, Layer, Linear, Norm, Stack
from ...types import TokenBatch
from .check import PACK_VERSION

if TYPE_CHECKING:
    from ...families.forward import Observe

_LARGEST = 1e15
_INPUTS = {"qkv": "query", "gate": "up"}  # whose input a product shares


def why_not(stack: Stack) -> str | None:
    """What the kernels do not know of an encoder; None if they can run it."""
    attention = stack.attentions[0]
    if set(stack.attentions) != {attention} or attention.causal or attention.window is not None:
        return "attention that differs between layers, or that does not see all tokens"
    if attention.n_key_heads != attention.n_heads or attention.n_heads * attention.head_size != stack.hidden:
        return "heads that share keys, or of a size of their own"
    if stack.norm != "layer" or stack.embedding_size or stack.size:
        return "norms other than LayerNorm, or sizes that differ between layers"
    if stack.gated != (stack.activation == "silu"):
        return f"the activation {stack.activation}" + (" of a gate" if stack.gated else "")
    for name, size in (("hidden states", stack.hidden), ("feed-forward", stack.wide), ("heads", attention.head_size)):
        if size % 16:
            return f"{name} of size {size}, which is not a multiple of 16"
    return None


def pack_model(
    stack: Stack,
    tokens: TokenBatch,
    output_path: Path,
    *,
    made_from: str = "",
) -> None:
    """Quantize an encoder and write it for the kernels.

    Args:
        stack: the encoder; `why_not` has nothing to say of it.
        tokens: calibration texts.
        output_path: the file to write.
        made_from: SHA-256 of the checkpoint, for the fingerprint.

    Raises:
        UnsupportedModel: the kernels do not know a part of it.
        ModelCorrupt: a tensor is missing, has another shape, or holds NaN or infinity; or numbers are beyond 10^15.
    """
    from .file import write_packed

    if reason := why_not(stack):
        raise UnsupportedModel(str(output_path), f"the native kernels do not know {reason}")
    about = {
        "pack_version": PACK_VERSION,
        "made_from": made_from,
        "max_positions": stack.max_positions,
        "epsilon": float(stack.epsilon),
        "norm": stack.norm,
        "activation": stack.activation,
        "gated": stack.gated,
        "pad_position": stack.pad_position,
        "n_layers": stack.n_layers,
        "attentions": [_describe(attention) for attention in stack.attentions],
        "dense": [],
    }
    embeddings = stack.read_embeddings()
    with np.errstate(over="ignore", invalid="ignore"):  # _check_size tells of it
        try:
            layers = dict(_layers(stack, embeddings, tokens))
        except OverflowError as error:
            expected = "weights and hidden states up to 1e15"
            raise ModelCorrupt(str(output_path), expected=expected, actual=str(error)) from error
    write_packed(output_path, {**_embeddings(stack, embeddings), **layers}, about)


def _describe(attention: Attention) -> dict[str, Any]:
    return {
        "n_heads": attention.n_heads,
        "n_key_heads": attention.n_key_heads,
        "head_size": attention.head_size,
        "rotary": None if attention.rotary is None else 0,
        "causal": attention.causal,
        "window": attention.window,
    }


def _embeddings(stack: Stack, embeddings: Embeddings) -> dict[str, NDArray[Any]]:
    from .rounding import quantize_columns

    words, word_scale = quantize_columns(embeddings.words.T)
    tensors: dict[str, NDArray[Any]] = {
        "words": np.ascontiguousarray(words.T),
        "word_scale": word_scale * np.float32(stack.word_scale),
        **_norm("embedding_norm", embeddings.norm),
    }
    if embeddings.positions is not None:
        tensors["positions"] = embeddings.positions
    if embeddings.distance_bias is not None:
        tensors["distance_bias"] = embeddings.distance_bias
    if rotary := stack.attentions[0].rotary:
        tensors["cosines.0"], tensors["sines.0"] = rotary.angles(stack.max_positions)
    return tensors


def _layers(stack: Stack, embeddings: Embeddings, tokens: TokenBatch) -> Iterator[tuple[str, NDArray[Any]]]:
    """Tensors of all layers; calibration texts go through one layer after the other, each text by itself."""
    from ...families.forward import embed_tokens, run_layer

    states = [embed_tokens(stack, embeddings, tokens.ids[start:end]) for start, end in pairwise(tokens.offsets)]
    for number in range(stack.n_layers):
        layer = stack.read_layer(number)
        seen: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
        observe: Observe = lambda name, value: seen[name].append(value)  # noqa: B023, E731
        bias = embeddings.distance_bias
        states = [run_layer(stack, number, layer, x, distance_bias=bias, observe=observe) for x in states]
        inputs = {name: np.concatenate(values) for name, values in seen.items()}
        linears = _linears(stack.attentions[number], layer)
        for name, values in (*inputs.items(), *((name, linear.weight) for name, linear in linears.items())):
            _check_size(f"{name} of layer {number}", values)
        for name, tensor in _layer(layer, linears, inputs):
            yield f"layers.{number}.{name}", tensor


def _layer(
    layer: Layer, linears: Mapping[str, Linear], inputs: Mapping[str, NDArray[np.float32]]
) -> Iterator[tuple[str, NDArray[Any]]]:
    from .integers import pack_product

    yield from _norm("attention_after", layer.attention_norms.after).items()
    yield from _norm("feed_forward_after", layer.feed_forward_norms.after).items()
    for name, linear in linears.items():
        product = pack_product(linear, inputs[_INPUTS.get(name, name)])
        for part in ("weight", "column_scale", "column_sum", "bias"):
            yield f"{name}.{part}", getattr(product, part)


def _norm(name: str, norm: Norm | None) -> dict[str, NDArray[Any]]:
    if norm is None:
        return {}
    bias = np.zeros_like(norm.weight) if norm.bias is None else norm.bias
    return {f"{name}.weight": norm.weight, f"{name}.bias": bias}


def _linears(attention: Attention, layer: Layer) -> dict[str, Linear]:
    """The products, each with a bias; that of the queries gives them scaled."""
    scale = np.float32(attention.scale)
    query = Linear(layer.query.weight * scale, None if layer.query.bias is None else layer.query.bias * scale)
    linears = {"qkv": _side_by_side(query, layer.key, layer.value), "out": layer.out, "up": layer.up}
    linears |= {"down": layer.down} | ({} if layer.gate is None else {"gate": layer.gate})
    return {name: Linear(linear.weight, _bias(linear)) for name, linear in linears.items()}


def _side_by_side(*parts: Linear) -> Linear:
    weights, biases = [part.weight for part in parts], [_bias(part) for part in parts]
    return Linear(np.concatenate(weights, axis=1), np.concatenate(biases))


def _bias(linear: Linear) -> NDArray[np.float32]:
    return np.zeros(linear.weight.shape[1], np.float32) if linear.bias is None else linear.bias


def _check_size(name: str, values: NDArray[np.float32]) -> None:
    """Larger numbers, whose sums of squares float32 does not hold, and NaN would become integers of any size."""
    largest = np.abs(values).max()
    if not largest <= _LARGEST:
        raise OverflowError(f"{name} reaches {largest:g}")
