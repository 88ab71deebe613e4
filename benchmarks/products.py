"""How fast one core multiplies the matrices of a model: what ONNX Runtime, NumPy and PyTorch reach at best.

python -m benchmarks.products

A model cannot be faster than its products. The shapes are those of all-MiniLM-L6-v2; INT8 is the operator that this
package's INT8 graphs use, with the session's options, so exact on every CPU.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1"))

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from neuralcore.embedding.backends.onnx import session

from .machine import cpu_model
from .report import print_table

_SHAPES = ((384, 384), (384, 1536), (1536, 384))
_TOKENS = (16, 256, 1024)
Product = Callable[[], object]


def main() -> None:
    args = _parse_args()
    rows, random = [], np.random.default_rng(0)
    for n_tokens in args.tokens:
        for n_in, n_out in _SHAPES:
            x = random.integers(0, 256, (n_tokens, n_in)).astype(np.float32)
            weight = random.integers(-127, 128, (n_in, n_out)).astype(np.float32)
            ways = [make(x, weight) for make in _WAYS.values()]
            rates = [_rate(way, 2 * x.size * n_out, args.runs) if way else "" for way in ways]
            rows.append([f"{n_tokens} x {n_in} x {n_out}", *rates])
    header = ["tokens x in x out", *_WAYS]
    print_table(f"GFLOP/s or GOP/s of one core, best of {args.runs}, {cpu_model()}", header, rows)


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.products", description="Time single products.")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--tokens", type=int, nargs="+", default=_TOKENS)
    return parser.parse_args()


def _rate(product: Product, n_operations: int, runs: int) -> str:
    product()
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        product()
        times.append(time.perf_counter() - begin)
    return f"{n_operations / min(times) / 1e9:.0f}"


def _onnx_fp32(x: NDArray[np.float32], weight: NDArray[np.float32]) -> Product:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return _run(node, {"w": weight}, x, TensorProto.FLOAT, weight.shape[1])


def _onnx_int8(x: NDArray[np.float32], weight: NDArray[np.float32]) -> Product:
    names = ["x", "w", "x_scale", "w_scale", "x_zero", "w_zero"]
    n_out = weight.shape[1]
    tensors = {
        "w": weight.astype(np.int8), "x_scale": np.float32(1), "w_scale": np.ones(n_out, np.float32),
        "x_zero": np.uint8(128), "w_zero": np.zeros(n_out, np.int8),
    }  # fmt: skip
    node = helper.make_node("MatMulIntegerToFloat", names, ["y"], domain="com.microsoft")
    return _run(node, tensors, x.astype(np.uint8), TensorProto.UINT8, n_out)


def _run(node: onnx.NodeProto, tensors: dict[str, Any], x: NDArray[Any], kind: int, n_out: int) -> Product:
    initializers = [numpy_helper.from_array(np.asarray(values), name) for name, values in tensors.items()]
    inputs = [helper.make_tensor_value_info("x", kind, ["n", x.shape[1]])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", n_out])]
    graph = helper.make_graph([node], "product", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    own = ort.InferenceSession(model.SerializeToString(), session._options(1), providers=["CPUExecutionProvider"])
    binding = own.io_binding()  # no copies: only the product is timed
    result = np.empty((len(x), n_out), np.float32)
    binding.bind_cpu_input("x", x)
    binding.bind_output("y", "cpu", 0, np.float32, result.shape, result.ctypes.data)

    def product() -> object:
        own.run_with_iobinding(binding)
        return result

    return product


def _numpy(x: NDArray[np.float32], weight: NDArray[np.float32]) -> Product:
    return lambda: x @ weight


def _torch(x: NDArray[np.float32], weight: NDArray[np.float32]) -> Product | None:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    rows, matrix = torch.from_numpy(x), torch.from_numpy(weight.T.copy())
    return lambda: torch.nn.functional.linear(rows, matrix)


_WAYS: dict[str, Callable[[NDArray[np.float32], NDArray[np.float32]], Product | None]] = {
    "ONNX Runtime": _onnx_fp32,
    "NumPy": _numpy,
    "PyTorch": _torch,
    "ONNX Runtime INT8": _onnx_int8,
}

if __name__ == "__main__":
    main()
