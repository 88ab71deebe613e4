"""This package, INT8 by the native kernels where the CPU has them."""

from __future__ import annotations

from pathlib import Path

from neuralcore.embedding import EmbeddingEngine

from .neuralcore_fp32 import embed

__all__ = ["NAME", "embed", "load"]

NAME = "neuralcore int8"


def load(model_folder: Path, threads: int) -> EmbeddingEngine:
    return EmbeddingEngine.from_pretrained(model_folder, precision="int8", threads=threads)
