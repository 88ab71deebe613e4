"""From a checkpoint to a `Stack`: BERT, MPNet and NomicBERT."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...documents import Document
from ...errors import UnsupportedModel
from ...families.architecture import Shape as BertShape
from ...families.architecture import require
from ...families.checkpoint import Array, Checkpoint
from ...families.stack import Layer, Linear, Norm, Stack
from ..onnx.write.mpnet import PAD_POSITION, bias_by_distance
from ..onnx.write.nomic_bert import Shape, angles, read_qkv, read_words, require_known

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
}


def read_stack(checkpoint: Checkpoint, architecture: Document) -> Stack:
    """Read all weights of an encoder.

    Args:
        checkpoint: its model.safetensors.
        architecture: its config.json.

    Raises:
        UnsupportedModel: a family, activation or variant that is not known here.
        ModelCorrupt: a tensor is missing, has another shape, or holds NaN or infinity.
    """
    read: Callable[[Checkpoint, Document], Stack] = {
        "bert": _read_bert,
        "mpnet": _read_mpnet,
        "nomic_bert": _read_nomic_bert,
    }[architecture["model_type"]]
    return read(checkpoint, architecture)


def _read_bert(checkpoint: Checkpoint, architecture: Document) -> Stack:
    require(architecture, position_embedding_type="absolute", is_decoder=False, add_cross_attention=False)
    shape = BertShape.of(architecture)
    positions = _table(checkpoint, "position", shape.n_positions, shape.size)
    segments = _table(checkpoint, "token_type", shape.n_segments, shape.size)
    positions = positions + segments[0]  # one text is one segment, always of type 0
    parts = [f"attention.self.{part}" for part in ("query", "key", "value")]
    return _bert_like(checkpoint, shape, positions, parts, "attention.output.dense", "attention.output.LayerNorm")


def _read_mpnet(checkpoint: Checkpoint, architecture: Document) -> Stack:
    shape = BertShape.of(architecture)
    positions = _table(checkpoint, "position", shape.n_positions, shape.size)
    biases = checkpoint.read("encoder.relative_attention_bias.weight", shape=(shape.n_buckets, shape.n_heads))
    parts = [f"attention.attn.{part}" for part in "qkv"]
    return _bert_like(
        checkpoint,
        shape,
        positions,
        parts,
        "attention.attn.o",
        "attention.LayerNorm",
        pad_position=PAD_POSITION,
        distance_bias=np.ascontiguousarray(bias_by_distance(biases, len(positions))),
    )


def _bert_like(
    checkpoint: Checkpoint,
    shape: BertShape,
    positions: Array,
    parts: list[str],
    out: str,
    attention_norm: str,
    *,
    pad_position: int | None = None,
    distance_bias: Array | None = None,
) -> Stack:
    size, wide, n_heads = shape.size, shape.wide, shape.n_heads

    def layer(number: int) -> Layer:
        name = f"encoder.layer.{number}"
        projections = [_linear(checkpoint, f"{name}.{part}", size, size) for part in parts]
        return Layer(
            qkv=_scaled_queries(_side_by_side(projections), size, n_heads),
            out=_linear(checkpoint, f"{name}.{out}", size, size),
            up=_linear(checkpoint, f"{name}.intermediate.dense", size, wide),
            gate=None,
            down=_linear(checkpoint, f"{name}.output.dense", wide, size),
            attention_norm=_norm(checkpoint, size, f"{name}.{attention_norm}"),
            output_norm=_norm(checkpoint, size, f"{name}.output.LayerNorm"),
        )

    return Stack(
        words=_table(checkpoint, "word", shape.n_words, size),
        positions=positions,
        pad_position=pad_position,
        distance_bias=distance_bias,
        angles=None,
        embedding_norm=_norm(checkpoint, size, "embeddings.LayerNorm"),
        layers=[layer(number) for number in range(shape.n_layers)],
        n_heads=n_heads,
        max_positions=len(positions),
        epsilon=shape.epsilon,
        activation=_activation(shape.activation),
    )


def _read_nomic_bert(checkpoint: Checkpoint, architecture: Document) -> Stack:
    require_known(architecture)
    shape = Shape.of(architecture)
    words = read_words(checkpoint, shape)

    def layer(number: int) -> Layer:
        old, new = f"encoder.layers.{number}", f"layers.{number}"
        weight, bias = read_qkv(checkpoint, f"{old}.attn", f"{new}.self_attn", shape.size)
        qkv = Linear(np.array(weight), np.zeros(3 * shape.size, np.float32) if bias is None else bias)

        def linear(name: str, other: str, n_in: int, n_out: int) -> Linear:
            return _linear(checkpoint, f"{old}.{name}", n_in, n_out, other=f"{new}.{other}")

        return Layer(
            qkv=_scaled_queries(qkv, shape.size, shape.n_heads),
            out=linear("attn.out_proj", "self_attn.o_proj", shape.size, shape.size),
            up=linear("mlp.fc11", "mlp.up_proj", shape.size, shape.wide),
            gate=linear("mlp.fc12", "mlp.gate_proj", shape.size, shape.wide),
            down=linear("mlp.fc2", "mlp.down_proj", shape.wide, shape.size),
            attention_norm=_norm(checkpoint, shape.size, f"{old}.norm1", f"{new}.post_attention_layernorm"),
            output_norm=_norm(checkpoint, shape.size, f"{old}.norm2", f"{new}.post_mlp_layernorm"),
        )

    return Stack(
        words=words,
        positions=None,
        pad_position=None,
        distance_bias=None,
        angles=angles(shape),
        embedding_norm=_norm(checkpoint, shape.size, "emb_ln", "embeddings.LayerNorm"),
        layers=[layer(number) for number in range(shape.n_layers)],
        n_heads=shape.n_heads,
        max_positions=shape.n_positions,
        epsilon=shape.epsilon,
        activation="swiglu",
    )


def _table(checkpoint: Checkpoint, kind: str, n_rows: int, size: int) -> Array:
    return checkpoint.read(f"embeddings.{kind}_embeddings.weight", shape=(n_rows, size))


def _linear(checkpoint: Checkpoint, name: str, n_in: int, n_out: int, *, other: str = "") -> Linear:
    """A Linear of the checkpoint, which keeps its weight as (out, in), under one of two names; perhaps without bias."""
    weight = checkpoint.read(f"{name}.weight", *([f"{other}.weight"] if other else []), shape=(n_out, n_in))
    has_bias = not other or f"{name}.bias" in checkpoint
    bias = checkpoint.read(f"{name}.bias", shape=(n_out,)) if has_bias else np.zeros(n_out, np.float32)
    return Linear(np.ascontiguousarray(weight.T), bias)


def _norm(checkpoint: Checkpoint, size: int, *names: str) -> Norm:
    parts = ([f"{name}.{part}" for name in names] for part in ("weight", "bias"))
    weight, bias = (checkpoint.read(*part, shape=(size,)) for part in parts)
    return Norm(weight, bias)


def _side_by_side(parts: list[Linear]) -> Linear:
    return Linear(
        np.concatenate([part.weight for part in parts], axis=1), np.concatenate([part.bias for part in parts])
    )


def _scaled_queries(qkv: Linear, size: int, n_heads: int) -> Linear:
    scale = np.float32((size / n_heads) ** -0.5)
    qkv.weight[:, :size] *= scale
    qkv.bias[:size] *= scale
    return qkv


def _activation(name: str) -> str:
    if name not in _ACTIVATIONS:
        raise UnsupportedModel(name, f"the native kernels know the activations {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]
