"""This package, INT8 on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

from neuralcore.embedding import EmbeddingEngine

from .neuralcore_fp32 import embed

__all__ = ["NAME", "embed", "load"]

NAME = "neuralcore int8, ONNX Runtime"


def load(model_folder: Path, threads: int) -> EmbeddingEngine:
    return EmbeddingEngine.from_pretrained(model_folder, precision="int8", backend="onnxruntime", threads=threads)
