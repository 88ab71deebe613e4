"""This package, INT8 on ONNX Runtime."""

from __future__ import annotations

import os
from pathlib import Path

from neuralcore.embedding import EmbeddingEngine

from .neuralcore_fp32 import embed

__all__ = ["NAME", "embed", "load"]

NAME = "neuralcore int8, ONNX Runtime"


def load(model_folder: Path, threads: int) -> EmbeddingEngine:
    os.environ["NEURALCORE_ISA"] = "none"
    return EmbeddingEngine.from_pretrained(model_folder, precision="int8", threads=threads)
