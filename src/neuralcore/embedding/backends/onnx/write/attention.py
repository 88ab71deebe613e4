"""Attention of a `Stack` as nodes."""

from __future__ import annotations

from onnx import TensorProto

from ....families.stack import Array, Attention, Layer, Linear, Norm, Rotary, Stack
from .graph import MICROSOFT, GraphWriter
from .parts import MASKED, dense, norm

_UNSEEN = -1e30  # of a token outside of a window; with MASKED added it is still finite


class Scores:
    """What the attention of several layers shares: masks, positions, and what is added to scores.

    Args:
        graph: the graph so far.
        stack: the encoder.
        distance_bias: of its embeddings.
    """

    def __init__(self, graph: GraphWriter, stack: Stack, distance_bias: Array | None) -> None:
        self._graph, self._stack = graph, stack
        self._bias = "" if distance_bias is None else self._make_bias(distance_bias)
        self._size = ""
        self._windows: dict[int, str] = {}
        self._angles: dict[Rotary, tuple[str, str]] = {}
        self._position_ids = ""
        # The attention mask as ONNX Runtime's attention operators take it.
        self.mask = graph.node("Cast", "attention_mask", to=TensorProto.INT32)

    def added(self, window: int | None) -> str:
        """What is added to the scores: (1, heads or 1, sequence, sequence); empty for nothing."""
        if window is None:
            return self._bias
        if window not in self._windows:
            graph = self._graph
            is_far = graph.node("Greater", self._distance_size(), graph.floats(float(window)))
            hidden = graph.node("Where", is_far, graph.floats(_UNSEEN), graph.floats(0.0))
            hidden = graph.node("Unsqueeze", hidden, graph.ints(0, 1))
            self._windows[window] = graph.node("Add", hidden, self._bias) if self._bias else hidden
        return self._windows[window]

    def angles(self, rotary: Rotary) -> tuple[str, str]:
        """Cosines and sines of all positions, each (max_positions, size / 2)."""
        if rotary not in self._angles:
            name = f"{len(self._angles)}_{rotary.theta:g}"
            cosines, sines = rotary.angles(self._stack.max_positions)
            tables = self._graph.tensor(f"cosines_{name}", cosines), self._graph.tensor(f"sines_{name}", sines)
            self._angles[rotary] = tables
        return self._angles[rotary]

    def position_ids(self) -> str:
        """Positions that count from 0, int64 (batch, sequence)."""
        if not self._position_ids:
            graph = self._graph
            row = graph.node("Unsqueeze", self._positions(), graph.ints(0))
            self._position_ids = graph.node("Expand", row, graph.node("Shape", "input_ids"))
        return self._position_ids

    def _positions(self) -> str:
        graph = self._graph
        return graph.node("Range", graph.scalar(0), graph.node("Squeeze", graph.sequence_length()), graph.scalar(1))

    def _distance(self, positions: str) -> str:
        """Key minus query, (sequence, sequence)."""
        graph = self._graph
        key, query = (graph.node("Unsqueeze", positions, graph.ints(axis)) for axis in (0, 1))
        return graph.node("Sub", key, query)

    def _distance_size(self) -> str:
        """In floats, which take half the room of int64: there are as many as of one head's scores."""
        if not self._size:
            positions = self._graph.node("Cast", self._positions(), to=TensorProto.FLOAT)
            self._size = self._graph.node("Abs", self._distance(positions))
        return self._size

    def _make_bias(self, by_distance: Array) -> str:
        """The bias of every pair of positions, (1, heads, sequence, sequence)."""
        graph = self._graph
        row = graph.node("Add", self._distance(self._positions()), graph.ints(self._stack.max_positions - 1))
        pairs = graph.node("Gather", graph.tensor("distance_bias", by_distance), row, axis=1)
        return graph.node("Unsqueeze", pairs, graph.ints(0))


def write_attention(graph: GraphWriter, stack: Stack, number: int, layer: Layer, x: str, scores: Scores) -> str:
    """The attention of one layer, (batch, sequence, hidden).

    The projections are products of their own, so that they can be quantized like all others; the operator that holds
    them, `Attention`, is no faster (benchmarks/graphs.py).
    """
    name, attention = f"layers.{number}", stack.attentions[number]
    query = _heads(graph, stack, attention, x, f"{name}.query", layer.query, layer.query_norm)
    key = _heads(graph, stack, attention, x, f"{name}.key", layer.key, layer.key_norm)
    value = _heads(graph, stack, attention, x, f"{name}.value", layer.value, layer.value_norm)
    if attention.rotary:
        query = _rotate(graph, attention.rotary, query, attention.n_heads, scores)
        key = _rotate(graph, attention.rotary, key, attention.n_key_heads, scores)
    key, value = (_share(graph, attention, part) for part in (key, value))
    inputs = [query, key, value, "", scores.mask, scores.added(attention.window)]
    attended = graph.node(
        "MultiHeadAttention",
        *(inputs if inputs[-1] else inputs[:-1]),
        domain=MICROSOFT,
        num_heads=attention.n_heads,
        mask_filter_value=MASKED,
        scale=attention.scale,
        unidirectional=int(attention.causal),
    )
    return dense(graph, attended, f"{name}.out", layer.out)


def _heads(
    graph: GraphWriter, stack: Stack, attention: Attention, x: str, name: str, linear: Linear, parts: Norm | None
) -> str:
    """Queries, keys or values side by side, (batch, sequence, heads * head size), each head under its norm."""
    projected = dense(graph, x, name, linear)
    if parts is None:
        return projected
    split = graph.node("Reshape", projected, graph.ints(0, 0, -1, attention.head_size))
    scaled = norm(graph, stack, split, f"{name}_norm", parts)
    return graph.node("Reshape", scaled, graph.ints(0, 0, linear.weight.shape[1]))


def _rotate(graph: GraphWriter, rotary: Rotary, x: str, n_heads: int, scores: Scores) -> str:
    inputs = [x, scores.position_ids(), *scores.angles(rotary)]
    return graph.node("RotaryEmbedding", *inputs, domain=MICROSOFT, num_heads=n_heads)


def _share(graph: GraphWriter, attention: Attention, x: str) -> str:
    """Each of the key heads once for every query head that reads it."""
    n_shared = attention.n_heads // attention.n_key_heads
    if n_shared == 1:
        return x
    split = graph.node("Reshape", x, graph.ints(0, 0, attention.n_key_heads, 1, attention.head_size))
    copies = graph.node("Concat", *[split] * n_shared, axis=3)
    return graph.node("Reshape", copies, graph.ints(0, 0, attention.n_heads * attention.head_size))
