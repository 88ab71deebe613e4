"""The end of every graph: `last_hidden_state`, and `sentence_embedding` pooled and normalised inside the graph."""

from __future__ import annotations

from onnx import TensorProto

from ....config import ModelConfig, PoolingStrategy
from .graph import GraphWriter
from .parts import MASKED

_SMALLEST_NORM = 1e-12  # as torch.nn.functional.normalize
_SMALLEST_COUNT = 1e-9  # as sentence-transformers clamps the number of tokens


def write_head(graph: GraphWriter, hidden: str, config: ModelConfig) -> None:
    """Declare both outputs.

    Args:
        graph: the graph so far.
        hidden: name of the last hidden state, (batch, sequence, hidden).
        config: pooling, normalisation, dimension.
    """
    graph.node("Identity", hidden, output="last_hidden_state")
    pooled = _pool(graph, hidden, config.pooling)
    if config.normalize:
        norm = graph.node("ReduceL2", pooled, graph.ints(1), keepdims=1)
        pooled = graph.node("Div", pooled, graph.node("Max", norm, graph.floats(_SMALLEST_NORM)))
    graph.node("Identity", pooled, output="sentence_embedding")
    graph.output("last_hidden_state", ["batch", "sequence", config.dimension])
    graph.output("sentence_embedding", ["batch", config.dimension])


def _pool(graph: GraphWriter, hidden: str, strategy: PoolingStrategy) -> str:
    match strategy:
        case PoolingStrategy.CLS:
            return graph.node("Gather", hidden, graph.scalar(0), axis=1)
        case PoolingStrategy.MEAN | PoolingStrategy.MEAN_WITH_ATTENTION:
            total = _weighted_sum(graph, hidden, _float_mask(graph))
            count = graph.node("ReduceSum", _float_mask(graph), graph.ints(1), keepdims=1)
            return graph.node("Div", total, graph.node("Max", count, graph.floats(_SMALLEST_COUNT)))
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


def _weighted_sum(graph: GraphWriter, hidden: str, weights: str) -> str:
    """Sum over tokens of weight times vector: (batch, sequence) and (batch, sequence, hidden) to (batch, hidden)."""
    row = graph.node("Unsqueeze", weights, graph.ints(1))
    return graph.node("Squeeze", graph.node("MatMul", row, hidden), graph.ints(1))
