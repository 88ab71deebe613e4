"""This package, products of bfloat16, on a CPU that multiplies it."""

from __future__ import annotations

from pathlib import Path

from neuralcore.embedding import EmbeddingEngine

from .neuralcore_fp32 import embed

__all__ = ["NAME", "embed", "load"]

NAME = "neuralcore bf16"


def load(model_folder: Path, threads: int) -> EmbeddingEngine:
    return EmbeddingEngine.from_pretrained(model_folder, precision="bf16", threads=threads)
