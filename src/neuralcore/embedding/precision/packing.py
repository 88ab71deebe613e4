"""Packs a model for the native kernels, and compares what came out: with fp32, or fp32 with the same in NumPy."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..backends.native.encoder import NativeEncoder
from ..backends.native.pack import pack_model
from ..cpu import available_threads
from ..progress import progress_bar
from ..samples import calibration_texts, verification_texts
from ..store import FileRecord, Fill, Manifest, Store
from ..store.folder import ModelFolder
from ..tokenizer import Tokenizer
from ..types import Encoder, Precision, Vectors
from .agreement import BOUNDS, Embed, failures, measure
from .graphs import ensure_graph
from .originals import fetch_original

_LONGEST_SAMPLE = 256
_MODEL = "model.safetensors"
_log = logging.getLogger(__name__)


def begin_packing(store: Store, source: Manifest, precision: Precision) -> Fill:
    """What fills a folder with a packed model; what it takes is there when this returns.

    Args:
        store: where the checkpoint may be had again.
        source: the checkpoint.
        precision: how its numbers are to be kept.
    """
    original, graph = fetch_original(store, source), ensure_graph(store, source)
    return lambda folder: _fill(source, original, graph, precision, folder)


def _fill(source: Manifest, original: ModelFolder, graph: Manifest, precision: Precision, folder: Path) -> Manifest:
    _log.info("packing %s in %s", source.config.name, precision)
    path, config = folder / _MODEL, source.config
    tokenizer = Tokenizer(
        source.tokenizer_path, max_tokens=min(config.max_tokens, _LONGEST_SAMPLE), lowercase=config.lowercase
    )
    stack = original.stack()
    with progress_bar(f"Making {precision} of {config.name}", stack.n_layers) as advance:
        tokens = tokenizer.encode(calibration_texts()) if precision is Precision.INT8 else None
        dense, made_from = original.dense_steps(config), source.weights_sha256 or ""
        pack_model(stack, path, precision=precision, tokens=tokens, dense=dense, made_from=made_from, advance=advance)
        agreement = measure(_fp32(source, graph, tokenizer), _native(path, source, tokenizer), verification_texts())
    for failure in failures(agreement, BOUNDS[precision]):
        raise failure
    return replace(
        source,
        folder=folder,
        files={"model": FileRecord.of(path, folder)},
        precision=str(precision),
        measured=agreement.to_dict(),
    )


def _fp32(source: Manifest, graph: Manifest, tokenizer: Tokenizer) -> Embed:
    from ..backends.onnx.encoder import OnnxEncoder

    def embed(texts: Sequence[str]) -> Vectors:
        """Asked once; the session, the largest of all here, is gone before the other model is asked."""
        encoder = OnnxEncoder(graph.model_path, source.config, threads=available_threads(), pad_id=tokenizer.pad_id)
        try:
            return _embedder(encoder, source, tokenizer)(texts)
        finally:
            encoder.close()

    return embed


def _native(path: Path, source: Manifest, tokenizer: Tokenizer) -> Embed:
    return _embedder(NativeEncoder(path, source.config, threads=available_threads()), source, tokenizer)


def _embedder(encoder: Encoder, source: Manifest, tokenizer: Tokenizer) -> Embed:
    return lambda texts: encoder.encode(tokenizer.encode(texts, prefix=source.config.document_prefix))
