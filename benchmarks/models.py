"""The model, as a folder that every target can load."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from neuralcore.embedding.models.folder import ModelFolder
from neuralcore.embedding.models.store import Manifest, make_store


def find_folder(model: str) -> Path:
    """The folder of a model's original files.

    Args:
        model: a folder, or a name that is fetched if need be.
    """
    folder = Path(model).expanduser()
    return folder.absolute() if folder.is_dir() else make_store().fetch(model)


def prepare(source: Path, folder: Path, cache: Path) -> None:
    """Make a folder that every target can load, and fill this package's cache for it.

    It links to the original files and adds `onnx/`, the graph this package builds. tokenizer_config.json is given the
    limit of sentence_bert_config.json: fastembed looks only there, and would cut at 512 tokens, the others at 256.

    Args:
        source: a folder laid out as by sentence-transformers.
        folder: the folder to make; its last part is the model's name.
        cache: this package's cache.

    Raises:
        SystemExit: files are missing.
    """
    if not (source / "modules.json").is_file():
        advice = "Pass the whole folder that sentence-transformers loads (a package index has only a part of it)."
        raise SystemExit(f"{source.name} has no modules.json, so targets would not pool alike. {advice}")
    for path in source.rglob("*"):
        link = folder / path.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            link.symlink_to(path.resolve())
    _set_limit(folder)
    manifest = make_store(cache, offline=True).ensure(folder)
    _copy_graph(manifest, folder / "onnx")


def _set_limit(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_bytes()) if path.exists() else {}
    settings["model_max_length"] = ModelFolder(folder).config().max_tokens
    path.unlink(missing_ok=True)
    path.write_text(json.dumps(settings))


def _copy_graph(manifest: Manifest, folder: Path) -> None:
    # Links would not do: ONNX Runtime refuses weights that lie outside of the graph's folder.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in manifest.model_path.parent.glob(f"{manifest.model_path.name}*"):
        shutil.copyfile(path, folder / path.name)


def thread_variables(threads: int, cache: Path) -> dict[str, str]:
    """The environment of a measurement: so many threads, this cache, no network."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
    numbers = {name: str(threads) for name in names}
    return {**os.environ, **numbers, "NEURALCORE_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
