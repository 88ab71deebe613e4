"""What sentence-transformers and transformers computed: written by scripts/golden_*.py."""

import json
import runpy
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_FOLDER = Path(__file__).parent
_TEXTS = runpy.run_path(str(_FOLDER.parents[1] / "scripts" / "golden_texts.py"))


@dataclass(frozen=True)
class Golden:
    texts: list[str]
    vectors: np.ndarray  # float32 (n, dimension)
    ids: list[list[int]]
    max_tokens: int


def load(model: str) -> Golden:
    """Golden texts of a model, with the vectors and token ids of sentence-transformers."""
    with np.load(_FOLDER / f"{model}.npz") as file:
        about = json.loads(str(file["about"]))
        if about["texts_sha256"] != _TEXTS["digest"]():
            raise AssertionError("the golden texts changed: run scripts/golden_vectors.py again")
        ids = [part.tolist() for part in np.split(file["ids"], file["offsets"][1:-1])]
        return Golden(_TEXTS["TEXTS"], file["vectors"], ids, about["max_tokens"])


def hidden_states(checkpoint: str) -> dict[str, np.ndarray]:
    """Last hidden states of a random checkpoint (tests/checkpoints.py), by the name of the batch."""
    with np.load(_FOLDER / "graphs.npz") as file:
        names = [name for name in file.files if name.startswith(f"{checkpoint}/")]
        return {name.removeprefix(f"{checkpoint}/"): file[name] for name in names}


def tokenizers(n_texts: int) -> list[list[list[int]] | None]:
    """Ids of the texts in each random folder (tests/tokenizer_folders.py); None where transformers refuses it."""
    with np.load(_FOLDER / "tokenizers.npz") as file:
        ends = np.cumsum(np.maximum(file["lengths"], 0))
        rows = [part.tolist() for part in np.split(file["ids"], ends[:-1])]
        refused = (file["lengths"] < 0).reshape(-1, n_texts).any(1)
    starts = range(0, len(rows), n_texts)
    return [None if no else rows[start : start + n_texts] for start, no in zip(starts, refused, strict=True)]
