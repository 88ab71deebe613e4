"""This package, fp32."""

from __future__ import annotations

from pathlib import Path

from neuralcore.embedding import EmbeddingEngine
from neuralcore.embedding.types import Vectors

NAME = "neuralcore fp32"


def load(model_folder: Path, threads: int) -> EmbeddingEngine:
    return EmbeddingEngine.from_pretrained(model_folder, threads=threads)


def embed(model: EmbeddingEngine, texts: list[str]) -> Vectors:
    if len(texts) == 1:  # who has one text calls `embed`
        return model.embed(texts[0])[None]
    return model.embed_batch(texts)
