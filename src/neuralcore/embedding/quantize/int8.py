"""INT8 for ONNX Runtime on CPU: weights per output channel, activations with fixed ranges, outliers moved beforehand.

Ranges that are fixed when the model is made, instead of found in every run, save time in each, and a text's vector
does not depend on the texts beside it. Where they lie is measured on calibration texts.

    x ─ Mul (1 / factors) ─ QuantizeLinear ─ MatMulIntegerToFloat (weights x factors) ─▶

Products with the same input share the first two. Token embeddings are int8 rows with a scale each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from ..errors import UnsupportedModel
from ..types import TokenBatch
from .activations import Activations, observe
from .model import Array, Model, Product, node
from .smoothing import Quantization, apply, find_quantization, quantize_columns

_MICROSOFT = "com.microsoft"


def quantize(model: Model, tokens: TokenBatch) -> None:
    """Quantize a model's products and token embeddings in place.

    Args:
        model: fp32.
        tokens: calibration texts.

    Raises:
        UnsupportedModel: it has no product to quantize.
    """
    groups: dict[str, list[Product]] = defaultdict(list)
    for product in model.products():
        groups[product.x].append(product)
    if not groups:
        raise UnsupportedModel(model.graph.name, "no matrix product with constant weights: quantized already?")
    _require_opset(model, _MICROSOFT)
    observed = observe(model, list(groups), tokens)
    for x, products in groups.items():
        _quantize_group(model, x, products, observed[x])
    for lookup in model.lookups():
        _quantize_lookup(model, lookup)


def _quantize_group(model: Model, x: str, products: Sequence[Product], activations: Activations) -> None:
    found = find_quantization(activations, np.concatenate([product.weight for product in products], axis=1))
    scale = model.add_tensor(f"{x}.scale", np.array(found.scale, np.float32))
    zero = model.add_tensor(f"{x}.zero", np.array(found.zero, np.uint8))
    shrink = model.add_tensor(f"{x}.shrink", 1 / found.factors)
    first = [
        node("Mul", [x, shrink], f"{x}.shrunk"),
        node("QuantizeLinear", [f"{x}.shrunk", scale, zero], f"{x}.quantized"),
    ]
    for product in products:
        weight, weight_scale = quantize_columns(product.weight * found.factors[:, None])
        name = product.output
        inputs = [
            f"{x}.quantized",
            model.add_tensor(f"{name}.weight", weight),
            scale,
            model.add_tensor(f"{name}.weight_scale", weight_scale),
            zero,
            model.add_tensor(f"{name}.weight_zero", np.zeros(len(weight_scale), np.int8)),
            model.add_tensor(f"{name}.bias", _corrected_bias(product, found, activations.sample)),
        ]
        model.replace(product.nodes, [*first, node("MatMulIntegerToFloat", inputs, name, domain=_MICROSOFT)])
        first = []


def _corrected_bias(product: Product, found: Quantization, sample: Array) -> Array:
    """The bias, with the mean error of the quantized product taken away."""
    error: Array = (apply(found, sample, product.weight) - sample @ product.weight).mean(axis=0)
    bias = np.zeros_like(error) if product.bias is None else product.bias
    return bias - error


def _quantize_lookup(model: Model, lookup: onnx.NodeProto) -> None:
    """Rows of int8, each with its own scale."""
    rows, scales = quantize_columns(model.array(lookup.input[0]).astype(np.float32).T)
    output, ids = lookup.output[0], lookup.input[1]
    values = model.add_tensor(f"{output}.rows", np.ascontiguousarray(rows.T))
    scale = model.add_tensor(f"{output}.scales", scales[:, None])
    model.replace(
        [lookup],
        [
            node("Gather", [values, ids], f"{output}.row"),
            node("Cast", [f"{output}.row"], f"{output}.unscaled", to=TensorProto.FLOAT),
            node("Gather", [scale, ids], f"{output}.scale"),
            node("Mul", [f"{output}.unscaled", f"{output}.scale"], output),
        ],
    )


def _require_opset(model: Model, domain: str) -> None:
    if all(opset.domain != domain for opset in model.proto.opset_import):
        model.proto.opset_import.append(helper.make_opsetid(domain, 1))
