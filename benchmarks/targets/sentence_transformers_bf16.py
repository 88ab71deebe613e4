"""sentence-transformers on PyTorch with the whole model in bfloat16."""

from __future__ import annotations

from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

from .sentence_transformers_fp32 import embed

__all__ = ["NAME", "embed", "load"]

NAME = "sentence-transformers bf16"


def load(model_folder: Path, threads: int) -> SentenceTransformer:
    torch.set_num_threads(threads)
    return SentenceTransformer(str(model_folder), device="cpu", model_kwargs={"dtype": torch.bfloat16})
