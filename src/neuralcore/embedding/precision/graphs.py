"""A model as an ONNX graph: written from its checkpoint, or made in another precision from fp32 and compared."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..backends.onnx.external_data import external_files
from ..backends.onnx.quantize import QUANTIZER_VERSION, detect_quantization, quantize_model
from ..backends.onnx.write import GRAPH_VERSION, write_onnx
from ..config import ModelConfig
from ..cpu import available_threads
from ..progress import progress_bar
from ..samples import verification_texts
from ..store import FileRecord, Fill, Manifest, Store
from ..store.folder import ModelFolder
from ..tokenizer import Tokenizer, files_beside, write_effective
from ..types import Precision, Vectors
from .agreement import BOUNDS, Agreement, failures, measure
from .originals import fetch_original

LONGEST_SAMPLE = 256
"""Tokens at which calibration and verification texts are cut."""

_GRAPH = "model.onnx"
_log = logging.getLogger(__name__)


def ensure_graph(
    store: Store, source: Manifest, precision: Precision = Precision.FP32, *, thorough: bool = False
) -> Manifest:
    """A model as an ONNX file, ready to load.

    Args:
        store: where it is kept.
        source: a checkpoint, or an ONNX file used as it was found.
        precision: which one.
        thorough: compare every cached file with its SHA-256.

    Raises:
        VerificationFailed: it came out too far from fp32; nothing is kept.
        UnsupportedModel: it cannot be made from this model.
        ModelUnavailable: the checkpoint it is made from is gone, and cannot be had again.
    """
    if not source.is_checkpoint and (precision is Precision.FP32 or _holds(source, precision)):
        return source

    def begin() -> Fill:
        if precision is Precision.FP32:
            original = fetch_original(store, source)
            return lambda folder: _write(source, original, folder)
        fp32 = ensure_graph(store, source)
        return lambda folder: _quantize(source, fp32, precision, folder)

    return store.ensure_variant(source, str(precision), _about(source, precision), begin, thorough=thorough)


def _holds(source: Manifest, precision: Precision) -> bool:
    return detect_quantization(source.model_path) is precision


def _about(source: Manifest, precision: Precision) -> dict[str, Any]:
    """What a graph depends on besides its source, whose manifest knows only the graph and the tokenizer.json of an ONNX
    file that is used as it was found: there, name, size and time of the files that hold its weights, and of those that
    speak of its tokenizer.
    """
    about: dict[str, Any] = {} if precision is Precision.FP32 else {"quantizer_version": QUANTIZER_VERSION}
    if source.is_checkpoint:
        return about | {"graph_version": GRAPH_VERSION}
    files = [*external_files(source.model_path), *files_beside(source.tokenizer_path)]
    return about | {"files": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]}


def _write(source: Manifest, original: ModelFolder, folder: Path) -> Manifest:
    from ..backends.onnx.graph_file import note_origin

    _log.info("writing the graph of %s", source.config.name)
    path = folder / _GRAPH
    write_onnx(original.stack(), source.config, path, dense=original.dense_steps(source.config))
    note_origin(path, source.weights_sha256 or "")
    return replace(source, folder=folder, files=_files(folder), graph_version=GRAPH_VERSION)


def _quantize(source: Manifest, fp32: Manifest, precision: Precision, folder: Path) -> Manifest:
    _log.info("making %s of %s", precision, source.config.name)
    if not source.is_checkpoint:  # the files that tell of its tokenizer may go
        write_effective(source.tokenizer_path, folder / "tokenizer.json")
    with progress_bar(f"Making {precision} of {source.config.name}", None):
        agreement = quantize_checked(fp32.model_path, folder / _GRAPH, source.tokenizer_path, source.config, precision)
    made = replace(fp32, folder=folder, files=_files(folder), precision=str(precision))
    return replace(made, measured=agreement.to_dict())


def _files(folder: Path) -> dict[str, FileRecord]:
    names = {"model": _GRAPH, "weights": f"{_GRAPH}.data", "tokenizer": "tokenizer.json"}
    return {role: FileRecord.of(folder / name, folder) for role, name in names.items() if (folder / name).exists()}


def quantize_checked(
    source_path: Path, path: Path, tokenizer_path: Path, config: ModelConfig, precision: Precision
) -> Agreement:
    """Write an ONNX file in another precision, and compare it with its source.

    Args:
        source_path: the fp32 file.
        path: the file to write.
        tokenizer_path: the tokenizer of both.
        config: the configuration of both.
        precision: of the new file.

    Raises:
        VerificationFailed: it is too far from its source; the file is there.
    """
    max_tokens = min(config.max_tokens, LONGEST_SAMPLE)
    quantize_model(source_path, path, precision, tokenizer_path=tokenizer_path, max_tokens=max_tokens)
    agreement = compare_files(source_path, path, tokenizer_path, config)
    for failure in failures(agreement, BOUNDS[precision]):
        raise failure
    return agreement


def compare_files(
    reference_path: Path, path: Path, tokenizer_path: Path, config: ModelConfig, texts: Sequence[str] | None = None
) -> Agreement:
    """Compare two ONNX files of one model.

    Args:
        reference_path: what to compare with.
        path: what is judged.
        tokenizer_path: the tokenizer of both.
        config: the configuration of both.
        texts: None takes those of this package.
    """
    from ..backends.onnx.encoder import OnnxEncoder

    tokenizer = Tokenizer(tokenizer_path, max_tokens=min(config.max_tokens, LONGEST_SAMPLE), lowercase=config.lowercase)

    def open_encoder(file: Path) -> OnnxEncoder:
        return OnnxEncoder(file, config, threads=available_threads(), pad_id=tokenizer.pad_id)

    def embed(encoder: OnnxEncoder, texts: Sequence[str]) -> Vectors:
        return encoder.encode(tokenizer.encode(texts, prefix=config.document_prefix))

    def embed_reference(texts: Sequence[str]) -> Vectors:
        """Asked once; both models are not in memory at a time."""
        encoder = open_encoder(reference_path)
        vectors = embed(encoder, texts)
        encoder.close()
        return vectors

    opened: list[OnnxEncoder] = []

    def embed_other(texts: Sequence[str]) -> Vectors:
        if not opened:
            opened.append(open_encoder(path))
        return embed(opened[0], texts)

    return measure(embed_reference, embed_other, texts or verification_texts())
