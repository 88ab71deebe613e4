"""INT8 for ONNX Runtime on CPU: weights per output channel, activations in ranges that do not depend on the batch.

Ranges that are fixed when the model is made, or found for each token, save a pass over every input in every run, and a
text's vector does not depend on the texts beside it. Products with the same input share its integers:

    fixed      x ─ Mul (1 / factors) ─ QuantizeLinear ─ MatMulIntegerToFloat (weights x factors) ─▶
    by token   x ─ Div (its largest value) ─ QuantizeLinear ─ MatMulIntegerToFloat ─ Mul (that value) ─ Add ─▶

By token, what is on both sides of zero is smoothed first, too, and divided by its largest size.
Token embeddings are int8 rows with a scale each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from .activations import Activations, Calibration
from .integers import (
    SMALLEST_FLOOR,
    AnyQuantization,
    EvenQuantization,
    Quantization,
    RowQuantization,
    find_quantization,
    is_one_sided,
    quantize_columns,
)
from .model import Array, Model, Product, node

_MICROSOFT = "com.microsoft"
_BLOCK_ROWS = 4096
_OLDEST_STATIC, _OLDEST_DYNAMIC = 10, 11  # opsets of QuantizeLinear and DynamicQuantizeLinear


def quantize(model: Model, calibration: Calibration) -> None:
    """Quantize a model's products and token embeddings in place.

    Args:
        model: fp32.
        calibration: texts, to see the ranges of its values.

    Raises:
        UnsupportedModel: it has no product to quantize, or is written in operators that are too old.
    """
    model.require_opset(_OLDEST_STATIC, "int8")
    groups = _groups(model)
    observed = calibration.observe(model, list(groups))
    by_token = any(_is_gated(products, observed[x]) for x, products in groups.items())
    for x, products in groups.items():
        _quantize_group(model, x, products, observed.pop(x), by_token=by_token)
    _quantize_lookups(model)


def quantize_dynamically(model: Model) -> None:
    """Quantize a model's products and token embeddings in place; ranges of activations are found in every run.

    Args:
        model: fp32.

    Raises:
        UnsupportedModel: it has no product to quantize, or is written in operators that are too old.
    """
    model.require_opset(_OLDEST_DYNAMIC, "dynamic-int8")
    for x, products in _groups(model).items():
        quantized = [f"{x}.quantized", f"{x}.scale", f"{x}.zero"]
        first = [helper.make_node("DynamicQuantizeLinear", [x], quantized, name=f"DynamicQuantizeLinear:{x}")]
        for product in products:
            written = _product(model, product, product.read_weight(), product.bias, product.output)
            model.replace(product.nodes, [*first, written])
            first = []
    _quantize_lookups(model)


def _groups(model: Model) -> dict[str, list[Product]]:
    """The products by their input."""
    groups: dict[str, list[Product]] = defaultdict(list)
    for product in model.require_products():
        groups[product.x].append(product)
    model.allow_domain(_MICROSOFT)
    return groups


def _is_gated(products: Sequence[Product], activations: Activations) -> bool:
    """Whether values that a gate let through become narrow again: they lie on both sides of zero, and fixed ranges cut
    the outliers of unseen texts (lowest cosine of a random encoder 0.991, and 0.998 where every token has its own scale
    throughout). Behind GELU alone nothing is gained, and 8% of the time lost (all-MiniLM-L6-v2).
    """
    n_in, n_out = products[0].shape
    return n_in > n_out and not is_one_sided(activations)


def _quantize_group(
    model: Model, x: str, products: Sequence[Product], activations: Activations, *, by_token: bool = False
) -> None:
    weights = [product.read_weight() for product in products]
    found = find_quantization(activations, np.concatenate(weights, axis=1), by_token=by_token)
    first = _integers(model, x, found)
    sample = activations.sample
    for product, weight in zip(products, weights, strict=True):
        error = (found.product(sample, weight) - sample @ weight).mean(axis=0)
        bias = -error if product.bias is None else product.bias - error  # the mean error is known: take it away
        smoothed = weight if isinstance(found, RowQuantization) else weight * found.factors[:, None]
        if isinstance(found, Quantization):
            written = [_product(model, product, smoothed, bias, product.output)]
        else:
            written = _row_product(model, product, smoothed, bias)
        model.replace(product.nodes, [*first, *written])
        first = []


def _integers(model: Model, x: str, found: AnyQuantization) -> list[onnx.NodeProto]:
    match found:
        case Quantization():
            return _smoothed_integers(model, x, found)
        case RowQuantization():
            return _row_integers(model, x, found)
        case EvenQuantization():
            return _even_integers(model, x, found)


def _add_step(model: Model, x: str, scale: float, zero: int) -> None:
    model.add_tensor(f"{x}.scale", np.array(scale, np.float32))
    model.add_tensor(f"{x}.zero", np.array(zero, np.uint8))


def _smoothed_integers(model: Model, x: str, found: Quantization) -> list[onnx.NodeProto]:
    _add_step(model, x, found.scale, found.zero)
    shrink = model.add_tensor(f"{x}.shrink", 1 / found.factors)
    return [
        node("Mul", [x, shrink], f"{x}.shrunk"),
        node("QuantizeLinear", [f"{x}.shrunk", f"{x}.scale", f"{x}.zero"], f"{x}.quantized"),
    ]


def _row_integers(model: Model, x: str, found: RowQuantization) -> list[onnx.NodeProto]:
    _add_step(model, x, found.scale, found.zero)
    floor = model.add_tensor(f"{x}.floor", np.array(found.floor, np.float32))
    return [
        *model.reduce_max(x, f"{x}.largest"),
        node("Max", [f"{x}.largest", floor], f"{x}.row"),
        node("Div", [x, f"{x}.row"], f"{x}.relative"),
        node("QuantizeLinear", [f"{x}.relative", f"{x}.scale", f"{x}.zero"], f"{x}.quantized"),
    ]


def _even_integers(model: Model, x: str, found: EvenQuantization) -> list[onnx.NodeProto]:
    _add_step(model, x, 1 / 127, 128)
    shrink = model.add_tensor(f"{x}.shrink", 1 / found.factors)
    floor = model.add_tensor(f"{x}.floor", np.array(SMALLEST_FLOOR, np.float32))
    return [
        node("Mul", [x, shrink], f"{x}.shrunk"),
        node("Abs", [f"{x}.shrunk"], f"{x}.size"),
        *model.reduce_max(f"{x}.size", f"{x}.largest"),
        node("Max", [f"{x}.largest", floor], f"{x}.row"),
        node("Div", [f"{x}.shrunk", f"{x}.row"], f"{x}.relative"),
        node("QuantizeLinear", [f"{x}.relative", f"{x}.scale", f"{x}.zero"], f"{x}.quantized"),
    ]


def _row_product(model: Model, product: Product, weight: Array, bias: Array) -> list[onnx.NodeProto]:
    name = product.output
    return [
        _product(model, product, weight, None, f"{name}.steps"),
        node("Mul", [f"{name}.steps", f"{product.x}.row"], f"{name}.unbiased"),
        node("Add", [f"{name}.unbiased", model.add_tensor(f"{name}.bias", bias)], name),
    ]


def _product(model: Model, product: Product, weight: Array, bias: Array | None, output: str) -> onnx.NodeProto:
    """The product with integers, of an input whose integers, scale and zero have their names by the input's."""
    x, name = product.x, product.output
    integers, scale = quantize_columns(weight)
    inputs = [
        f"{x}.quantized",
        model.add_tensor(f"{name}.weight", integers),
        f"{x}.scale",
        model.add_tensor(f"{name}.weight_scale", scale),
        f"{x}.zero",
        model.add_tensor(f"{name}.weight_zero", np.zeros(len(scale), np.int8)),
    ]
    inputs += [] if bias is None else [model.add_tensor(f"{name}.bias", bias)]
    return node("MatMulIntegerToFloat", inputs, output, domain=_MICROSOFT)


def _quantize_lookups(model: Model) -> None:
    """Rows of int8, each with its own scale."""
    for lookup in model.lookups():
        rows, scales = _quantize_rows(model.array(lookup.input[0]))
        output, ids = lookup.output[0], lookup.input[1]
        values = model.add_tensor(f"{output}.rows", rows)
        scale = model.add_tensor(f"{output}.scales", scales[:, None])
        model.replace(
            [lookup],
            [
                node("Gather", [values, ids], f"{output}.integers"),
                node("Cast", [f"{output}.integers"], f"{output}.unscaled", to=TensorProto.FLOAT),
                node("Gather", [scale, ids], f"{output}.row_scale"),
                node("Mul", [f"{output}.unscaled", f"{output}.row_scale"], output),
            ],
        )


def _quantize_rows(table: NDArray[Any]) -> tuple[NDArray[np.int8], Array]:
    """As `quantize_columns`, of the other axis, and some rows at a time: a large vocabulary is most of a model."""
    rows, scales = np.empty(table.shape, np.int8), np.empty(len(table), np.float32)
    for start in range(0, len(table), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        integers, scales[block] = quantize_columns(table[block].astype(np.float32).T)
        rows[block] = integers.T
    return rows, scales
