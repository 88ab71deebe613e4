"""The Hugging Face Hub, or a mirror that speaks its protocol. Only data files are fetched; no code, no pickles."""

from __future__ import annotations

import hashlib
import re
import socket
import sys
from glob import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from ...errors import ModelCorrupt
from ..build import FAMILIES
from ..folder import SAFETENSORS, ModelFolder
from ..registry import ModelSpec
from .files import check_sha256, git_sha1, sha256

_SMALL_FILES = ["*.json"]
_ONNX_FILES = ["model.onnx*", "onnx/model.onnx*", "0_Transformer/model.onnx*"]
_CONNECT_TIMEOUT_S = 5
_HASHES = {
    re.compile(r"[0-9a-f]{64}"): (sha256,),
    # The Hub names small files by git's id; some mirrors by their plain SHA-1.
    re.compile(r"[0-9a-f]{40}"): (git_sha1, lambda path: hashlib.sha1(path.read_bytes()).hexdigest()),
}


def fetch_snapshot(
    spec: ModelSpec, *, endpoint: str, cache_dir: Path | None, token: str | None, local_only: bool
) -> Path:
    """The folder of a model in the Hub's cache, fetched as far as needed, every file checked.

    The Hub's client keeps its own locks, resumes, and shares its cache with other programs.

    Args:
        spec: which model.
        endpoint: address of the Hub or of a mirror.
        cache_dir: the Hub client's cache; None for its default.
        token: access token.
        local_only: make no network call.

    Raises:
        ModelCorrupt: a file is not what its hash says, even after fetching it again.
        Exception: whatever the Hub's client raises.
    """
    revision = spec.revision

    def snapshot(patterns: list[str], *, force: bool = False) -> Path:
        return _snapshot(spec.repository, revision, patterns, endpoint=endpoint, cache_dir=cache_dir, token=token,
                         local_files_only=local_only, force_download=force)  # fmt: skip

    if not local_only:
        _check_reachable(endpoint)
    folder = snapshot(_SMALL_FILES)
    patterns, revision = _patterns(folder), folder.name  # a branch may move on between two calls
    folder = snapshot(patterns)
    if patterns[-1].endswith(SAFETENSORS) and ModelFolder(folder).safetensors_path is None:
        patterns = _SMALL_FILES + _ONNX_FILES
        folder = snapshot(patterns)
    if local_only and not _has_weights(folder):
        raise FileNotFoundError("it is there in part only")

    def whole(*, force: bool = False) -> Path:
        folder = snapshot(patterns, force=force)
        others = _files_of_graph(folder)
        folder = snapshot(patterns + others, force=force) if others else folder
        _check(folder, spec)
        return folder

    try:
        return whole()
    except ModelCorrupt:
        if local_only:
            raise
        return whole(force=True)


def _check_reachable(endpoint: str) -> None:
    """Fail at once where there is no network: the Hub's client would try for half a minute."""
    address = urlsplit(endpoint)
    if address.scheme in getproxies():
        return  # the proxy finds the host, this machine may not
    port = address.port or (443 if address.scheme == "https" else 80)
    socket.create_connection((address.hostname or "", port), timeout=_CONNECT_TIMEOUT_S).close()


def _patterns(folder: Path) -> list[str]:
    """What to fetch once config.json is here: the checkpoint of a family that can be built, else the ONNX model."""
    model = ModelFolder(folder)
    if model.architecture.get("model_type") not in FAMILIES:
        return _SMALL_FILES + _ONNX_FILES
    return [*_SMALL_FILES, (model.encoder_path.relative_to(folder) / SAFETENSORS).as_posix()]


def _files_of_graph(folder: Path) -> list[str]:
    """Files that an ONNX model keeps its weights in, whatever their names; none where there is a checkpoint."""
    model = ModelFolder(folder)
    if model.safetensors_path is not None or model.onnx_path is None:
        return []
    from ..graph_file import weight_names

    path = model.onnx_path
    return [escape((path.parent / name).relative_to(folder).as_posix()) for name in weight_names(path)]


def _has_weights(folder: Path) -> bool:
    model = ModelFolder(folder)
    return model.safetensors_path is not None or model.onnx_path is not None


def _snapshot(repository: str, revision: str, patterns: list[str], **options: Any) -> Path:
    from huggingface_hub import snapshot_download
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": not sys.stderr.isatty()})

    folder = snapshot_download(repository, revision=revision, allow_patterns=patterns, tqdm_class=Bar, **options)
    return Path(folder)


def _check(folder: Path, spec: ModelSpec) -> None:
    """Compare with the pinned hashes, and with the names that the Hub's cache gives its files: their own hashes."""
    check_sha256(folder, spec.sha256)
    for path in folder.rglob("*"):
        if path.is_symlink():
            _check_blob(path)


def _check_blob(path: Path) -> None:
    blob = path.resolve()
    hashes = next((hashes for pattern, hashes in _HASHES.items() if pattern.fullmatch(blob.name)), ())
    if not hashes:
        return
    actual = [of(blob) for of in hashes] if blob.is_file() else ["no such file"]
    if blob.name not in actual:
        raise ModelCorrupt(str(path), expected=blob.name, actual=actual[0])
