"""Products whose input is another product's output, with nothing between: behind a projection of embeddings, say."""

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from neuralcore.embedding.backends.onnx.quantize import int8
from neuralcore.embedding.backends.onnx.quantize.model import Model


class Observed:
    """What `Activations` gives, of values that are all there."""

    def __init__(self, values):
        self.sample, self.low, self.high = values, values.min(axis=0), values.max(axis=0)


def test_each_of_them_may_have_a_scale_for_each_token(tmp_path):
    random = np.random.RandomState(3)
    first, second = (random.normal(size=shape).astype(np.float32) for shape in ((16, 12), (12, 8)))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "n", n]) for name, n in (("x", 16), ("y", 8)))
    weights = [numpy_helper.from_array(first, "w"), numpy_helper.from_array(second, "v")]
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    values = random.normal(size=(30, 16)).astype(np.float32)
    model = Model(path)
    inputs = {"x": values, "h": values @ first}
    for product in model.products():
        int8._quantize_group(model, product.x, [product], Observed(inputs[product.x]), by_token=True)
    model.allow_domain("com.microsoft")
    model.save(path)
    found = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": values[None]})[0][0]
    assert np.abs(found - values @ first @ second).max() < 0.6
