"""From a checkpoint (config.json and model.safetensors) to an ONNX graph, without PyTorch.

One module per encoder family; adding a family adds a module and its name to `FAMILIES`. onnx is loaded only to build.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from ....config import ModelConfig
from ....errors import InputError, UnsupportedModel
from ....families.architecture import as_document

FAMILIES = ("bert", "mpnet", "nomic_bert")
"""Each `model_type` of config.json that can be built, by the module of this name and its `write_encoder`."""

GRAPH_VERSION = 2
"""Raised whenever the graphs that are written change: cached ones are then built anew."""


def build_onnx(
    checkpoint_path: Path,
    architecture: Mapping[str, Any],
    config: ModelConfig,
    output_path: Path,
    *,
    opset: int | None = None,
) -> None:
    """Write an encoder as an ONNX graph, its weights beside it in `<output_path>.data`.

    The graph takes `input_ids` and `attention_mask`, both int64 (batch, sequence), and gives `last_hidden_state`
    (batch, sequence, hidden) and `sentence_embedding` (batch, hidden), pooled and normalised as `config` says. Its
    metadata says so, too.

    Args:
        checkpoint_path: the model.safetensors, or the index of one that is in several files.
        architecture: config.json of the checkpoint.
        config: pooling and normalisation.
        output_path: the .onnx file to write.
        opset: version of ONNX's operators, 18 to 21; None takes 20.

    Raises:
        InputError: another opset.
        UnsupportedModel: a family, activation or variant that is not known here.
        ModelCorrupt: a tensor is missing, has another shape, or holds NaN or infinity; a key of config.json is missing
            or cannot be what it says.
    """
    from ....families.checkpoint import Checkpoint
    from .graph import DEFAULT_OPSET, OPSETS, GraphWriter
    from .head import write_head

    if opset is not None and opset not in OPSETS:
        raise InputError(f"the built-in exporter writes opset {OPSETS[0]} to {OPSETS[-1]}, not {opset}")
    family = architecture.get("model_type")
    if family not in FAMILIES:
        raise UnsupportedModel(config.name, f"no builder for model_type {family!r} ({', '.join(FAMILIES)})")
    write_encoder = import_module(f".{family}", __name__).write_encoder
    checkpoint = Checkpoint(checkpoint_path)
    about = as_document(architecture, checkpoint_path.with_name("config.json"))
    with GraphWriter(output_path) as graph:
        hidden = write_encoder(graph, checkpoint, about)
        write_head(graph, hidden, config)
        graph.save(config, version=GRAPH_VERSION, opset=opset or DEFAULT_OPSET)
