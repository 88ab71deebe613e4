"""From a name or a folder to files, and from files to a tokenizer and an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from . import settings
from .backends.native.file import PACKED_SUFFIX, is_packed, read_origin, read_precision
from .config import ModelConfig
from .errors import InputError, ProviderUnavailable
from .files import sha256
from .forks import Once
from .precision.variants import ensure_variant
from .providers import Device, GpuOptions, choose_device
from .store import FileRecord, Store, make_store
from .tokenizer import Tokenizer
from .types import Backend, Encoder, Precision

__all__ = [
    "Located",
    "ModelFile",
    "Store",
    "locate",
    "make_store",
    "open_files",
    "read_config",
]


@dataclass(frozen=True, slots=True)
class Located:
    """A model's files on this machine."""

    model_path: Path
    tokenizer_path: Path
    config: ModelConfig
    max_positions: int
    weights_sha256: str | None
    """None where only the ONNX file can tell."""
    precision: Precision | None
    """None for a file that is used as it was found: it tells."""
    files: tuple[Mapping[str, FileRecord], ...]
    """Other records when they were made again."""

    def limit(self, max_tokens: int | None) -> int:
        """The limit to use.

        Raises:
            InputError: more tokens than the model has positions.
        """
        if max_tokens is not None and max_tokens > self.max_positions:
            raise InputError(
                f"max_tokens must be at most {self.max_positions}, not {max_tokens}", limit=self.max_positions
            )
        return max_tokens or self.config.max_tokens


class ModelFile:
    """A model's own file, and what is found out of it when it is asked for, as it may have to be read.

    Args:
        path: the file.
        precision: how its numbers are kept; None where only the file can tell.
        weights_sha256: of the weights it was made from; None as above.
    """

    def __init__(self, path: Path, precision: Precision | None = None, weights_sha256: str | None = None) -> None:
        self.path, self._precision, self._weights_sha256 = path, precision, weights_sha256

    @Once
    def precision(self) -> Precision:
        """How its numbers are kept, by what is in it."""
        if self._precision is not None:
            return self._precision
        if self.path.suffix == PACKED_SUFFIX:
            return Precision.FP32 if _is_table(self.path) else read_precision(self.path)
        from .backends.onnx.quantize import detect_quantization

        return detect_quantization(self.path)

    @Once
    def weights_sha256(self) -> str:
        """What tells its weights from others: of those that it was made from, where it says so."""
        if self._weights_sha256 is not None:
            return self._weights_sha256
        if self.path.suffix == PACKED_SUFFIX:
            return sha256(self.path) if _is_table(self.path) else read_origin(self.path)
        from .backends.onnx.graph_file import weights_sha256

        return weights_sha256(self.path)


def _is_table(path: Path) -> bool:
    if path.suffix != PACKED_SUFFIX or is_packed(path):  # which is quicker to see than what a table is
        return False
    from .backends.static.table import is_table

    return is_table(path)


def lasting_name(model: str | PathLike[str]) -> str:
    """What still names a model when the working directory is another: of what is a file or folder, its whole path."""
    path = settings.expanded(model)
    return str(path.absolute()) if path.exists() else str(model)


def locate(
    model: str | PathLike[str],
    precision: str,
    backend: Backend,
    device: Device,
    revision: str | None,
    store: Store,
    *,
    thorough: bool = False,
) -> Located:
    """Find a model's files, fetching them and making what runs them when that was not done before."""
    source = store.ensure(model, revision=revision, thorough=thorough)
    made = ensure_variant(store, source, Precision(precision), backend=backend, device=device, thorough=thorough)
    return Located(
        made.model_path,
        (made if "tokenizer" in made.files else source).tokenizer_path,
        source.config,
        source.max_positions,
        source.weights_sha256,
        None if made is source else Precision(precision),
        (source.files, made.files),
    )


def read_config(folder: Path) -> ModelConfig:
    """The configuration that a folder's sentence-transformers files give, for an ONNX file that is used as it is."""
    from .store.folder import ModelFolder

    return ModelFolder(folder).config_of_graph()


def open_files(
    model_path: Path,
    tokenizer_path: Path,
    config: ModelConfig,
    *,
    device: Device,
    threads: int,
    max_memory_bytes: int | None,
    gpu: GpuOptions,
) -> tuple[Tokenizer, Encoder]:
    """Open a tokenizer and an encoder: a table of vectors, a model packed for the native kernels, or an ONNX file."""
    if _is_table(model_path):
        if device not in ("cpu", "auto"):
            raise ProviderUnavailable(device, ["cpu"], f"{model_path.name} is a table of vectors, for the CPU")
        from .backends.static.encoder import StaticEncoder

        tokenizer = Tokenizer(tokenizer_path, max_tokens=config.max_tokens, bare=True)
        return tokenizer, StaticEncoder(model_path, config)
    tokenizer = Tokenizer(tokenizer_path, max_tokens=config.max_tokens, lowercase=config.lowercase)
    if model_path.suffix == PACKED_SUFFIX:
        if device not in ("cpu", "auto"):
            raise ProviderUnavailable(device, ["cpu"], f"{model_path.name} is packed for the CPU")
        from .backends.native.encoder import NativeEncoder

        return tokenizer, NativeEncoder(model_path, config, threads=threads, max_memory_bytes=max_memory_bytes)
    from .backends.onnx.encoder import OnnxEncoder
    from .backends.onnx.session import available_providers

    encoder = OnnxEncoder(
        model_path,
        config,
        device=choose_device(device, available_providers()),
        threads=threads,
        pad_id=tokenizer.pad_id,
        gpu=gpu,
        max_memory_bytes=max_memory_bytes,
    )
    return tokenizer, encoder
