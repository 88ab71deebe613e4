"""The encoder: a `Stack`, node by node."""

from __future__ import annotations

from onnx import TensorProto

from ....families.stack import Activation, Embeddings, Layer, Stack
from ..working_memory import WorkingMemory
from .attention import Scores, write_attention
from .graph import MICROSOFT, GraphWriter
from .parts import dense, norm


def write_encoder(graph: GraphWriter, stack: Stack) -> str:
    """Write the encoder; returns the name of its last hidden state, (batch, sequence, size)."""
    embeddings = stack.read_embeddings()
    x = _embed(graph, stack, embeddings)
    scores = Scores(graph, stack, embeddings.distance_bias)
    has_distance_bias = embeddings.distance_bias is not None
    graph.note(WorkingMemory.of_stack(stack, has_distance_bias=has_distance_bias).to_metadata())
    del embeddings  # a large vocabulary's need not be held
    for number in range(stack.n_layers):
        x = _layer(graph, stack, number, stack.read_layer(number), x, scores)
    end = stack.read_end()
    x = norm(graph, stack, x, "norm", end.norm)
    return x if end.projection is None else dense(graph, x, "projection", end.projection)


def _embed(graph: GraphWriter, stack: Stack, embeddings: Embeddings) -> str:
    x = graph.node("Gather", graph.tensor("words", embeddings.words), "input_ids")
    if stack.word_scale != 1:
        x = graph.node("Mul", x, graph.floats(stack.word_scale))
    if embeddings.positions is not None:
        positions = graph.tensor("positions", embeddings.positions)
        x = graph.node("Add", x, _positions(graph, positions, stack.pad_position))
    x = norm(graph, stack, x, "embeddings.norm", embeddings.norm)
    return x if embeddings.projection is None else dense(graph, x, "embeddings.projection", embeddings.projection)


def _positions(graph: GraphWriter, table: str, pad_position: int | None) -> str:
    if pad_position is None:
        return graph.node("Slice", table, graph.ints(0), graph.sequence_length(), graph.ints(0))
    return graph.node("Gather", table, _counted_positions(graph, pad_position))


def _counted_positions(graph: GraphWriter, pad_position: int) -> str:
    """Tokens count up from the next one; a pad token, even one typed in a text, has its own and is not counted."""
    is_pad = graph.node("Equal", "input_ids", graph.ints(pad_position))
    counts = graph.node("Cast", graph.node("Not", is_pad), to=TensorProto.INT64)
    running = graph.node("Mul", graph.node("CumSum", counts, graph.scalar(1)), counts)
    return graph.node("Add", running, graph.ints(pad_position))


def _layer(graph: GraphWriter, stack: Stack, number: int, layer: Layer, x: str, scores: Scores) -> str:
    name, norms = f"layers.{number}", layer.attention_norms
    y = norm(graph, stack, x, f"{name}.attention.before", norms.before)
    y = write_attention(graph, stack, number, layer, y, scores)
    y = norm(graph, stack, y, f"{name}.attention.inner", norms.inner)
    # Two operators: the fused SkipLayerNormalization is slower on CPU.
    x = norm(graph, stack, graph.node("Add", y, x), f"{name}.attention.after", norms.after)
    norms = layer.feed_forward_norms
    y = norm(graph, stack, x, f"{name}.feed_forward.before", norms.before)
    y = _feed_forward(graph, stack, name, layer, y)
    y = norm(graph, stack, y, f"{name}.feed_forward.inner", norms.inner)
    return norm(graph, stack, graph.node("Add", y, x), f"{name}.feed_forward.after", norms.after)


def _feed_forward(graph: GraphWriter, stack: Stack, name: str, layer: Layer, x: str) -> str:
    up = dense(graph, x, f"{name}.up", layer.up)
    if layer.gate is None:
        inner = _activate(graph, up, stack.activation)
    else:
        gate = dense(graph, x, f"{name}.gate", layer.gate)
        inner = graph.node("Mul", up, _activate(graph, gate, stack.activation))
    return dense(graph, inner, f"{name}.down", layer.down)


def _activate(graph: GraphWriter, x: str, name: Activation) -> str:
    match name:
        case "gelu":
            return graph.node("Gelu", x, domain=MICROSOFT)
        case "gelu_tanh":
            return graph.node("FastGelu", x, domain=MICROSOFT)
        case "relu":
            return graph.node("Relu", x)
        case "silu":
            return graph.node("Mul", x, graph.node("Sigmoid", x))
