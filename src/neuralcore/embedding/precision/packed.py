"""INT8 for the native kernels: packed from the checkpoint when first asked for, compared with fp32, kept beside it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..backends.native.encoder import NativeEncoder
from ..backends.native.format import PACK_VERSION
from ..backends.native.pack import pack_model
from ..cpu import available_threads
from ..progress import progress_bar
from ..samples import calibration_texts, verification_texts
from ..store import FileRecord, Manifest, Store
from ..tokenizer import Tokenizer, write_effective
from ..types import Encoder, Precision, Vectors
from .agreement import BOUNDS, Embed, failures, measure
from .choice import NATIVE, fetch_original

_LONGEST_SAMPLE = 256
_log = logging.getLogger(__name__)


def ensure_packed(store: Store, source: Manifest, *, thorough: bool = False) -> Manifest:
    """A model in INT8 for the native kernels, ready to load.

    Args:
        store: where it is kept.
        source: the fp32 model.
        thorough: compare every cached file with its SHA-256.

    Raises:
        VerificationFailed: it came out too far from fp32; nothing is kept.
        ModelUnavailable: the checkpoint it is made from is gone, and cannot be had again.
    """

    def make(folder: Path) -> Manifest:
        return _make(store, source, folder)

    return store.ensure_variant(source, NATIVE, {"pack_version": PACK_VERSION}, make, thorough=thorough)


def _make(store: Store, source: Manifest, folder: Path) -> Manifest:
    _log.info("packing %s", source.config.name)
    original = fetch_original(store, source)
    write_effective(source.tokenizer_path, folder / "tokenizer.json")
    path = folder / "model.safetensors"
    config = source.config
    tokenizer = Tokenizer(
        source.tokenizer_path, max_tokens=min(config.max_tokens, _LONGEST_SAMPLE), lowercase=config.lowercase
    )
    stack = original.stack()
    with progress_bar(f"Making int8 of {config.name}", stack.n_layers) as advance:
        tokens = tokenizer.encode(calibration_texts())
        dense, made_from = original.dense_steps(config), source.weights_sha256 or ""
        pack_model(stack, tokens, path, dense=dense, made_from=made_from, advance=advance)
        agreement = measure(_fp32(source, tokenizer), _native(path, source, tokenizer), verification_texts())
    for failure in failures(agreement, BOUNDS[Precision.INT8]):
        raise failure
    return replace(
        source,
        folder=folder,
        files={role: FileRecord.of(folder / name, folder) for role, name in _FILES.items()},
        precision=str(Precision.INT8),
        measured=agreement.to_dict(),
    )


_FILES = {"model": "model.safetensors", "tokenizer": "tokenizer.json"}


def _fp32(source: Manifest, tokenizer: Tokenizer) -> Embed:
    from ..backends.onnx.encoder import OnnxEncoder

    def embed(texts: Sequence[str]) -> Vectors:
        """Asked once; the session, the largest of all here, is gone before the other model is asked."""
        encoder = OnnxEncoder(source.model_path, source.config, threads=available_threads(), pad_id=tokenizer.pad_id)
        try:
            return _embedder(encoder, source, tokenizer)(texts)
        finally:
            encoder.close()

    return embed


def _native(path: Path, source: Manifest, tokenizer: Tokenizer) -> Embed:
    return _embedder(NativeEncoder(path, source.config, threads=available_threads()), source, tokenizer)


def _embedder(encoder: Encoder, source: Manifest, tokenizer: Tokenizer) -> Embed:
    return lambda texts: encoder.encode(tokenizer.encode(texts, prefix=source.config.document_prefix))
