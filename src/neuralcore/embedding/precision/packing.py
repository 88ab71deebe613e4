"""Packs a model for the native kernels, and compares what came out with the model in NumPy."""

from __future__ import annotations

import logging
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
from ..types import Precision
from .agreement import BOUNDS, Agreement, Bounds, Embed, failures, measure
from .originals import fetch_original
from .reference import embed_in_numpy

_LONGEST_SAMPLE = 256
_FEW = slice(None, None, 20)  # of the texts: fp32 is either right or far off, and should be there soon
_BOUNDS_OF_FEW = Bounds(0.99999, 0.9999, 0, -1, 1e-5)  # whose neighbours and ranks tell nothing
_MODEL = "model.safetensors"
_log = logging.getLogger(__name__)


def begin_packing(store: Store, source: Manifest, precision: Precision) -> Fill:
    """What fills a folder with a packed model; what it takes is there when this returns.

    Args:
        store: where the checkpoint may be had again.
        source: the checkpoint.
        precision: how its numbers are to be kept.
    """
    original = fetch_original(store, source)
    return lambda folder: _fill(source, original, precision, folder)


def _fill(source: Manifest, original: ModelFolder, precision: Precision, folder: Path) -> Manifest:
    _log.info("packing %s in %s", source.config.name, precision)
    path, config = folder / _MODEL, source.config
    tokenizer = Tokenizer(
        source.tokenizer_path, max_tokens=min(config.max_tokens, _LONGEST_SAMPLE), lowercase=config.lowercase
    )
    stack, dense = original.stack(), original.dense_steps(config)
    with progress_bar(f"Making {precision} of {config.name}", stack.n_layers) as advance:
        tokens = tokenizer.encode(calibration_texts()) if precision is Precision.INT8 else None
        made_from = source.weights_sha256 or ""
        pack_model(stack, path, precision=precision, tokens=tokens, dense=dense, made_from=made_from, advance=advance)
        reference = embed_in_numpy(stack, dense, config, tokenizer)
        agreement = _compare(reference, _native(path, source, tokenizer), precision)
    return replace(
        source,
        folder=folder,
        files={"model": FileRecord.of(path, folder)},
        precision=str(precision),
        measured=agreement.to_dict(),
    )


def _native(path: Path, source: Manifest, tokenizer: Tokenizer) -> Embed:
    encoder = NativeEncoder(path, source.config, threads=available_threads())
    return lambda texts: encoder.encode(tokenizer.encode(texts, prefix=source.config.document_prefix))


def _compare(reference: Embed, model: Embed, precision: Precision) -> Agreement:
    """Raises what `failures` finds."""
    texts, bounds = verification_texts(), BOUNDS[precision]
    if precision is Precision.FP32:
        texts, bounds = texts[_FEW], _BOUNDS_OF_FEW
    agreement = measure(reference, model, texts)
    for failure in failures(agreement, bounds):
        raise failure
    return agreement
