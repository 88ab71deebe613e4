"""From a checkpoint to the file that the native kernels map: INT8 weights, packed, without ONNX or PyTorch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelCorrupt
from ...families.architecture import as_document, complete
from ...types import TokenBatch

if TYPE_CHECKING:
    from ...families.stack import Layer, Linear, Stack
    from .integers import PackedProduct

FAMILIES = ("bert", "mpnet", "nomic_bert")
"""Each `model_type` of config.json that can be packed."""

PACKED_SUFFIX = ".safetensors"

PACK_VERSION = 3
"""Raised whenever what is written changes: cached files are then made anew."""


_LARGEST = 1e15


def can_pack(architecture: Mapping[str, Any]) -> bool:
    """Whether the kernels know an encoder's family and its sizes, which are multiples of 16 a product and 16 a head."""
    if architecture.get("model_type") not in FAMILIES:
        return False
    values = complete(as_document(architecture, Path("config.json")))
    hidden, wide, n_heads = (
        values.integer(new, values.integer(old, 0))
        for new, old in (("hidden_size", "n_embd"), ("intermediate_size", "n_inner"), ("num_attention_heads", "n_head"))
    )
    if not hidden or not n_heads or hidden % n_heads:
        return False
    return hidden // n_heads % 16 == 0 and hidden % 16 == 0 and wide % 16 == 0


def pack_model(
    checkpoint_path: Path,
    architecture: Mapping[str, Any],
    tokens: TokenBatch,
    output_path: Path,
    *,
    made_from: str = "",
) -> None:
    """Quantize an encoder and write it for the kernels.

    Args:
        checkpoint_path: the model.safetensors, or the index of one that is in several files.
        architecture: its config.json.
        tokens: calibration texts.
        output_path: the file to write.
        made_from: SHA-256 of the checkpoint, for the fingerprint.

    Raises:
        UnsupportedModel: a family, activation or variant that is not known here.
        ModelCorrupt: a tensor is missing, has another shape, or holds NaN or infinity; or numbers are beyond 10^15.
    """
    from ...families.checkpoint import Checkpoint
    from .families import read_stack
    from .file import write_packed

    stack = read_stack(Checkpoint(checkpoint_path), as_document(architecture, checkpoint_path.with_name("config.json")))
    about = {
        "pack_version": PACK_VERSION,
        "made_from": made_from,
        "n_heads": stack.n_heads,
        "max_positions": stack.max_positions,
        "epsilon": float(stack.epsilon),
        "activation": stack.activation,
        "pad_position": stack.pad_position,
        "n_layers": len(stack.layers),
    }
    with np.errstate(over="ignore", invalid="ignore"):  # _check_size tells of it
        try:
            layers = dict(_layers(stack, tokens))
        except OverflowError as error:
            expected = "weights and hidden states up to 1e15"
            raise ModelCorrupt(str(checkpoint_path), expected=expected, actual=str(error)) from error
    write_packed(output_path, {**_embeddings(stack), **layers}, about)


def _embeddings(stack: Stack) -> dict[str, NDArray[Any]]:
    from .rounding import quantize_columns

    words, word_scale = quantize_columns(stack.words.T)
    tensors: dict[str, NDArray[Any]] = {
        "words": np.ascontiguousarray(words.T),
        "word_scale": word_scale,
        "embedding_norm.weight": stack.embedding_norm.weight,
        "embedding_norm.bias": stack.embedding_norm.bias,
    }
    if stack.positions is not None:
        tensors["positions"] = stack.positions
    if stack.distance_bias is not None:
        tensors["distance_bias"] = stack.distance_bias
    if stack.angles is not None:
        tensors["cosines"], tensors["sines"] = stack.angles
    return tensors


def _layers(stack: Stack, tokens: TokenBatch) -> Iterator[tuple[str, NDArray[Any]]]:
    """Tensors of all layers; calibration texts go through one layer after the other, each text by itself."""
    from ...families.forward import embed_tokens, run_layer

    states = [embed_tokens(stack, tokens.ids[start:end]) for start, end in pairwise(tokens.offsets)]
    for number, layer in enumerate(stack.layers):
        seen: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
        states = [run_layer(stack, layer, x, lambda name, value: seen[name].append(value)) for x in states]  # noqa: B023
        inputs = {name: np.concatenate(values) for name, values in seen.items()}
        for name, values in (*inputs.items(), *((name, linear.weight) for name, linear in _linears(layer).items())):
            _check_size(f"{name} of layer {number}", values)
        for name, tensor in _layer(layer, inputs):
            yield f"layers.{number}.{name}", tensor


def _layer(layer: Layer, inputs: Mapping[str, NDArray[np.float32]]) -> Iterator[tuple[str, NDArray[Any]]]:
    for norm, values in (("attention_norm", layer.attention_norm), ("output_norm", layer.output_norm)):
        yield f"{norm}.weight", values.weight
        yield f"{norm}.bias", values.bias
    for name, product in _products(layer, inputs):
        for part in ("weight", "column_scale", "column_sum", "bias"):
            yield f"{name}.{part}", getattr(product, part)


def _products(layer: Layer, inputs: Mapping[str, NDArray[np.float32]]) -> Iterator[tuple[str, PackedProduct]]:
    from .integers import pack_product

    for name, linear in _linears(layer).items():
        yield name, pack_product(linear, inputs["up" if name == "gate" else name])


def _linears(layer: Layer) -> dict[str, Linear]:
    linears = {"qkv": layer.qkv, "out": layer.out, "up": layer.up, "gate": layer.gate, "down": layer.down}
    return {name: linear for name, linear in linears.items() if linear is not None}


def _check_size(name: str, values: NDArray[np.float32]) -> None:
    """Larger numbers, whose sums of squares float32 does not hold, and NaN would become integers of any size."""
    largest = np.abs(values).max()
    if not largest <= _LARGEST:
        raise OverflowError(f"{name} reaches {largest:g}")
