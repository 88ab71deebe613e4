"""This package, weights as halves, on the native kernels."""

from __future__ import annotations

from pathlib import Path

from neuralcore.embedding import EmbeddingEngine

from .neuralcore_fp32 import embed

__all__ = ["NAME", "embed", "load"]

NAME = "neuralcore fp16"


def load(model_folder: Path, threads: int) -> EmbeddingEngine:
    return EmbeddingEngine.from_pretrained(model_folder, precision="fp16", backend="native", threads=threads)
