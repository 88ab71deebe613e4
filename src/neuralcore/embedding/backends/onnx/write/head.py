"""The end of every graph: `last_hidden_state`, and `sentence_embedding` pooled and normalised inside the graph."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import TensorProto

from ....config import DenseActivation, ModelConfig, PoolingStrategy
from ....families.stack import DenseStep, Linear
from .graph import MICROSOFT, GraphWriter
from .parts import MASKED

_SMALLEST_NORM = 1e-12  # as torch.nn.functional.normalize
_SMALLEST_COUNT = 1e-9  # as sentence-transformers clamps the number of tokens


def write_head(graph: GraphWriter, hidden: str, config: ModelConfig, steps: Sequence[DenseStep]) -> None:
    """Declare both outputs.

    Args:
        graph: the graph so far.
        hidden: name of the last hidden state, (batch, sequence, hidden).
        config: pooling, normalisation, dimension.
        steps: the Dense steps of `config`, with their weights.
    """
    graph.node("Identity", hidden, output="last_hidden_state")
    pooled = [_pool(graph, hidden, strategy) for strategy in config.poolings]
    x = pooled[0] if len(pooled) == 1 else graph.node("Concat", *pooled, axis=1)
    for number, step in enumerate(steps):
        x = _dense(graph, x, f"dense.{number}", step)
    x = _normalize(graph, x) if config.normalize else x
    graph.node("Identity", x, output="sentence_embedding")
    graph.output("last_hidden_state", ["batch", "sequence", config.token_dimension])
    graph.output("sentence_embedding", ["batch", config.dimension])


def _normalize(graph: GraphWriter, x: str) -> str:
    norm = graph.node("ReduceL2", x, graph.ints(1), keepdims=1)
    return graph.node("Div", x, graph.node("Max", norm, graph.floats(_SMALLEST_NORM)))


def _dense(graph: GraphWriter, x: str, name: str, step: DenseStep) -> str:
    x = _normalize(graph, x) if step.dense.normalize_input else x
    y = _activate(graph, _multiply(graph, x, name, step.linear), step.dense.activation)
    if not step.dense.residual:
        return y
    return graph.node("Add", y, x if step.residual is None else _multiply(graph, x, f"{name}.residual", step.residual))


def _multiply(graph: GraphWriter, x: str, name: str, linear: Linear) -> str:
    """As Gemm, which stays fp32 in every precision: one row a text costs little, and is too few to calibrate with."""
    bias = [] if linear.bias is None else [graph.tensor(f"{name}.bias", linear.bias)]
    return graph.node("Gemm", x, graph.tensor(f"{name}.weight", linear.weight), *bias)


def _activate(graph: GraphWriter, x: str, activation: DenseActivation) -> str:
    match activation:
        case DenseActivation.IDENTITY:
            return x
        case DenseActivation.TANH:
            return graph.node("Tanh", x)
        case DenseActivation.RELU:
            return graph.node("Relu", x)
        case DenseActivation.GELU:
            return graph.node("Gelu", x, domain=MICROSOFT)
        case DenseActivation.SILU:
            return graph.node("Mul", x, graph.node("Sigmoid", x))
        case DenseActivation.SIGMOID:
            return graph.node("Sigmoid", x)


def _pool(graph: GraphWriter, hidden: str, strategy: PoolingStrategy) -> str:
    match strategy:
        case PoolingStrategy.CLS:
            return graph.node("Gather", hidden, graph.scalar(0), axis=1)
        case PoolingStrategy.MEAN | PoolingStrategy.MEAN_WITH_ATTENTION:
            return graph.node("Div", _weighted_sum(graph, hidden, _float_mask(graph)), _sum(graph, _float_mask(graph)))
        case PoolingStrategy.MEAN_SQRT_LEN:
            root = graph.node("Sqrt", _sum(graph, _float_mask(graph)))
            return graph.node("Div", _weighted_sum(graph, hidden, _float_mask(graph)), root)
        case PoolingStrategy.WEIGHTED_MEAN:
            place = graph.node("Cast", graph.node("CumSum", "attention_mask", graph.scalar(1)), to=TensorProto.FLOAT)
            weights = graph.node("Mul", place, _float_mask(graph))
            return graph.node("Div", _weighted_sum(graph, hidden, weights), _sum(graph, weights))
        case PoolingStrategy.MAX:
            own = graph.node("Cast", graph.node("Unsqueeze", "attention_mask", graph.ints(2)), to=TensorProto.BOOL)
            masked = graph.node("Where", own, hidden, graph.floats(MASKED))
            return graph.node("ReduceMax", masked, graph.ints(1), keepdims=0)
        case PoolingStrategy.LAST_TOKEN:
            # The last token is the one whose running count of tokens equals their number.
            rank = graph.node("CumSum", "attention_mask", graph.scalar(1))
            count = graph.node("ReduceSum", "attention_mask", graph.ints(1), keepdims=1)
            last = graph.node("Cast", graph.node("Equal", rank, count), to=TensorProto.FLOAT)
            return _weighted_sum(graph, hidden, graph.node("Mul", last, _float_mask(graph)))


def _float_mask(graph: GraphWriter) -> str:
    return graph.node("Cast", "attention_mask", to=TensorProto.FLOAT)


def _sum(graph: GraphWriter, weights: str) -> str:
    """Of each text's weights, (batch, 1), and never zero."""
    total = graph.node("ReduceSum", weights, graph.ints(1), keepdims=1)
    return graph.node("Max", total, graph.floats(_SMALLEST_COUNT))


def _weighted_sum(graph: GraphWriter, hidden: str, weights: str) -> str:
    """Sum over tokens of weight times vector: (batch, sequence) and (batch, sequence, hidden) to (batch, hidden)."""
    row = graph.node("Unsqueeze", weights, graph.ints(1))
    return graph.node("Squeeze", graph.node("MatMul", row, hidden), graph.ints(1))
