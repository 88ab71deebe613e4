"""sentence-transformers on PyTorch, with its defaults (batches of 32, sorted by characters)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

NAME = "sentence-transformers"


def load(model_folder: Path, threads: int) -> SentenceTransformer:
    torch.set_num_threads(threads)
    return SentenceTransformer(str(model_folder), device="cpu")


def embed(model: SentenceTransformer, texts: list[str]) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = model.encode(texts, convert_to_numpy=True, show_progress_bar=False)
    return vectors
