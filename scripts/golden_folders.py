"""Write what sentence-transformers makes of the altered folders of tests/altered_folders/, one file a group.

Run where sentence-transformers is installed (not needed by the tests):

    python -m scripts.golden_folders [GROUP ...]

An array `<folder>/<call>` holds the vectors of the texts, each encoded alone, where the call is "encode", "query",
"document" or "prompt <name>"; calls that give the same vectors as "encode" are left out. `<folder>/error` is what
sentence-transformers raised instead. Of a folder that is refused here, `<folder>/runs` says that it gave vectors.
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
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

GOLDEN = Path(__file__).parents[1] / "tests/golden"
altered_folders: Any = import_module("tests.altered_folders")  # tests are not type-checked
TEXTS: list[str] = list(altered_folders.TEXTS)


def main() -> None:
    """Write each group's file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(altered_folders.groups())}; default: all")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    for group in parser.parse_args().groups or altered_folders.groups():
        arrays: dict[str, NDArray[Any]] = {"about": np.array(json.dumps(_versions()))}
        for folder in altered_folders.groups()[group]:
            made = _embed(folder)
            print(f"{group}: {folder.name}: {', '.join(made)}{str(made.get('error', ''))[:120]}")
            arrays |= {f"{folder.name}/{call}": values for call, values in made.items()}
        path = GOLDEN / f"folders_{group}.npz"
        np.savez_compressed(path, allow_pickle=False, **arrays)
        print(f"{path}: {path.stat().st_size:,} bytes")


def _embed(folder: Any) -> dict[str, NDArray[Any]]:
    with TemporaryDirectory() as temporary:
        path = folder.write(Path(temporary) / "folder")
        try:
            made = _all_calls(_load(path))
        except Exception as error:  # noqa: BLE001 - what it refuses is written down, too
            return {"error": np.array(f"{type(error).__name__}: {str(error).replace(temporary, '')}"[:300])}
    return made if folder.refused is None else {"runs": np.array(True)}


def _load(path: Path) -> SentenceTransformer:
    """What is kept in 16 bits is computed in 32, as here."""
    if (path / "modules.json").exists() or not (path / "config.json").exists():
        return SentenceTransformer(str(path), device="cpu", local_files_only=True).float()
    config = json.loads((path / "config.json").read_text())
    if config.get("model_type") != "model2vec":
        return SentenceTransformer(str(path), device="cpu", local_files_only=True).float()
    steps = [StaticEmbedding.load(str(path)), *([Normalize()] if config.get("normalize") else [])]
    return SentenceTransformer(modules=steps, device="cpu").float()


def _all_calls(model: SentenceTransformer) -> dict[str, NDArray[Any]]:
    made = {"encode": model.encode(TEXTS, batch_size=1)}
    others = {"query": model.encode_query(TEXTS, batch_size=1)}
    others["document"] = model.encode_document(TEXTS, batch_size=1)
    for name in model.prompts.keys() - {"query", "document"}:
        others[f"prompt {name}"] = model.encode(TEXTS, prompt_name=name, batch_size=1)
    return made | {call: values for call, values in others.items() if not np.array_equal(values, made["encode"])}


def _versions() -> dict[str, str]:
    return {module.__name__: module.__version__ for module in (sentence_transformers, torch, transformers)}


if __name__ == "__main__":
    main()
