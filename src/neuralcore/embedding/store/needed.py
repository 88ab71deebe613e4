"""Which of a repository's files a model needs: weights of its encoder in one format, and those of its other steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from posixpath import normpath

from ..backends.onnx.external_data import external_names
from ..errors import UnsupportedModel
from ..families import MODEL_TYPES
from ..families.checkpoint import SAFETENSORS, SAFETENSORS_INDEX, checkpoint_files
from .folder import ModelFolder
from .listing import Listing, matching
from .steps import FIRST, list_modules

_ONNX_FILES = ("model.onnx*", "onnx/model.onnx*", "0_Transformer/model.onnx*")
_PICKLED = "pytorch_model*.bin"


def needed_weights(folder: Path, listing: Listing) -> list[str]:
    """The weights to fetch: a checkpoint, in one file or in several, else the ONNX model; and those of other steps.

    Args:
        folder: of the model, where its descriptions are already.
        listing: what its repository holds.
    """
    later = [name for path in _later_steps(folder) for name in _checkpoint(folder, path, listing)]
    return [*_first_weights(folder, listing), *later]


def files_of_graph(folder: Path) -> list[str]:
    """Files that an ONNX model keeps its weights in, whatever their names; none where there is a checkpoint."""
    model = ModelFolder(folder)
    if model.safetensors_path is not None or model.onnx_path is None:
        return []
    path = model.onnx_path.relative_to(folder).parent.as_posix()
    return [normpath(f"{path}/{name}") for name in external_names(model.onnx_path)]


def refuse_pickled(name: str, folder: Path, listing: Listing) -> None:
    """Refuse a repository whose weights, or those of a step, are pickled only: to open them is to run their code.

    Raises:
        UnsupportedModel: with what to do.
    """
    lacking = [path for path in _later_steps(folder) if not _checkpoint(folder, path, listing)]
    if not _first_weights(folder, listing):
        lacking.append(_first_folder(folder))
    if found := matching(listing, [normpath(f"./{path}/{_PICKLED}") for path in lacking]):
        raise UnsupportedModel(
            name,
            f"it has {', '.join(sorted(found)[:3])} without a model.safetensors, and pickled weights are not opened. "
            "The Hub's converter may have put one into a pull request (revision='refs/pr/1', say); else save the model "
            "again where PyTorch is, SentenceTransformer(name).save_pretrained(folder), and load the folder",
        )


def _first_weights(folder: Path, listing: Listing) -> list[str]:
    """Of the encoder, or of the table of words in its place."""
    model = ModelFolder(folder)
    is_known = model.is_static or model.architecture.get("model_type") in MODEL_TYPES
    names = _checkpoint(folder, _first_folder(folder), listing) if is_known else []
    return names if model.is_static else names or matching(listing, _ONNX_FILES)


def _first_folder(folder: Path) -> str:
    return ModelFolder(folder).encoder_path.relative_to(folder).as_posix()


def _later_steps(folder: Path) -> Iterator[str]:
    """Folders of the steps after the first, some of which have weights."""
    return (module.path for module in list_modules(folder, folder.name) or () if module.kind not in FIRST)


def _checkpoint(folder: Path, path: str, listing: Listing) -> list[str]:
    """The names of a checkpoint's files in a folder of the repository; none if it is not there."""
    single, index = (normpath(f"./{path}/{name}") for name in (SAFETENSORS, SAFETENSORS_INDEX))
    if single in listing:
        return [single]
    if index not in listing:
        return []
    shards = (normpath(shard.relative_to(folder).as_posix()) for shard in checkpoint_files(folder / index))
    return [name for name in shards if name in listing]
