"""From a `Stack` to an ONNX graph, without PyTorch. onnx is loaded only to write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ....config import ModelConfig
from ....errors import InputError
from ....families.stack import DenseStep, Stack

GRAPH_VERSION = 3
"""Raised whenever the graphs that are written change: cached ones are then built anew."""


def write_onnx(
    stack: Stack,
    config: ModelConfig,
    output_path: Path,
    *,
    dense: Sequence[DenseStep] = (),
    opset: int | None = None,
) -> None:
    """Write an encoder as an ONNX graph, its weights beside it in `<output_path>.data`.

    The graph takes `input_ids` and `attention_mask`, both int64 (batch, sequence), and gives `last_hidden_state`
    (batch, sequence, hidden) and `sentence_embedding` (batch, dimension): pooled, through the Dense steps, and
    normalised, as `config` says. Its metadata says so, too.

    Args:
        stack: the encoder.
        config: pooling and normalisation.
        output_path: the .onnx file to write.
        dense: the steps of `config.dense`, with their weights.
        opset: version of ONNX's operators, 18 to 21; None takes 20.

    Raises:
        InputError: another opset.
        ModelCorrupt: a tensor is missing, has another shape, or holds NaN or infinity.
    """
    from .encoder import write_encoder
    from .graph import DEFAULT_OPSET, OPSETS, GraphWriter
    from .head import write_head

    if opset is not None and opset not in OPSETS:
        raise InputError(f"the built-in exporter writes opset {OPSETS[0]} to {OPSETS[-1]}, not {opset}")
    if tuple(step.dense for step in dense) != config.dense:
        raise InputError(f"the weights of {len(dense)} Dense steps, which are not those of the configuration")
    with GraphWriter(output_path) as graph:
        write_head(graph, write_encoder(graph, stack), config, dense)
        graph.save(config, version=GRAPH_VERSION, opset=opset or DEFAULT_OPSET)
