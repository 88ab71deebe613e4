"""Write what sentence-transformers makes of the models of tests/families/, one file a module of cases.

Run where sentence-transformers is installed (not needed by the tests):

    python -m scripts.golden_families [MODULE ...]

An array `<case>/<kind>` holds the vectors of the texts, each encoded alone in float32, where weights are written as
that kind of number. Of fp16 and bf16, whose weights are the same but for rounding, it is every fifth text.
"""

from __future__ import annotations

import argparse
import json
import warnings
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import sentence_transformers
import torch
import transformers
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

GOLDEN = Path(__file__).parents[1] / "tests/golden"
families: Any = import_module("tests.families")  # tests are not type-checked
TEXTS: list[str] = list(import_module("tests.families.texts").TEXTS)


def main() -> None:
    """Write each module's file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help=f"of {', '.join(families.modules())}; default: all")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    for module in parser.parse_args().modules or families.modules():
        arrays: dict[str, NDArray[Any]] = {"about": np.array(json.dumps(_versions()))}
        for case in families.modules()[module]:
            arrays |= {f"{case.name}/{kind}": _embed(case, kind) for kind in families.KINDS}
            print(f"{module}: {case.name}: {_describe(arrays[f'{case.name}/fp32'])}")
        path = GOLDEN / f"families_{module}.npz"
        np.savez_compressed(path, allow_pickle=False, **arrays)
        print(f"{path}: {path.stat().st_size:,} bytes")


def _embed(case: Any, kind: str) -> NDArray[np.float32]:
    with TemporaryDirectory() as temporary:
        path = case.for_transformers().write(Path(temporary) / "model", kind)
        model = SentenceTransformer(str(path), device="cpu", local_files_only=True, model_kwargs={"dtype": "float32"})
        texts = families.texts_of(kind)
        vectors = model.encode(texts, batch_size=1)
    return np.asarray(vectors, np.float32)


def _describe(vectors: NDArray[np.float32]) -> str:
    """What shows a model that gives everything the same vector, or none."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return f"{vectors.shape}, size {np.abs(vectors).mean():.2f}, cosine of any two {(unit @ unit.T).mean():.3f}"


def _versions() -> dict[str, str]:
    return {module.__name__: module.__version__ for module in (sentence_transformers, torch, transformers)}


if __name__ == "__main__":
    main()
