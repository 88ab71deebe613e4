"""A model in another precision: made from the fp32 one when first asked for, compared with it, kept beside it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..backends.onnx.external_data import external_files
from ..backends.onnx.quantize import QUANTIZER_VERSION, detect_quantization, quantize_model
from ..backends.static.table import is_table
from ..config import ModelConfig
from ..cpu import available_threads
from ..errors import UnsupportedModel
from ..progress import progress_bar
from ..samples import verification_texts
from ..store import FileRecord, Manifest, Store
from ..tokenizer import Tokenizer, files_beside, write_effective
from ..types import Precision, Vectors
from .agreement import BOUNDS, Agreement, failures, measure
from .choice import runs_natively
from .packed import ensure_packed

LONGEST_SAMPLE = 256
"""Tokens at which calibration and verification texts are cut."""

_log = logging.getLogger(__name__)


def ensure_variant(store: Store, source: Manifest, precision: Precision, *, thorough: bool = False) -> Manifest:
    """A model in another precision, ready to load.

    Args:
        store: where it is kept.
        source: the fp32 model.
        precision: which one.
        thorough: compare every cached file with its SHA-256.

    Raises:
        VerificationFailed: it came out too far from its source; nothing is kept.
        UnsupportedModel: it cannot be made from this model.
    """
    if precision is Precision.INT8 and runs_natively(store, source):
        return ensure_packed(store, source, thorough=thorough)
    if is_table(source.model_path):
        reason = "it is a table of vectors, of which a text needs a few rows: another precision would gain nothing"
        raise UnsupportedModel(source.config.name, f"{reason}; take fp32")
    about = {"quantizer_version": QUANTIZER_VERSION, "files": _file_states(source)}
    if not source.graph_version and detect_quantization(source.model_path) is precision:
        return source  # an ONNX file used as it was found, and already what is asked for

    def make(folder: Path) -> Manifest:
        return _make(source, precision, folder)

    return store.ensure_variant(source, str(precision), about, make, thorough=thorough)


def _file_states(source: Manifest) -> list[list[str | int]]:
    """Name, size and time of the files that hold the weights of an ONNX file that is used as it was found, and of those
    that speak of its tokenizer: there, the manifest knows the graph and tokenizer.json only. What was built here, it
    knows whole, and nothing need be read.
    """
    if source.graph_version:
        return []
    files = [*external_files(source.model_path), *files_beside(source.tokenizer_path)]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _make(source: Manifest, precision: Precision, folder: Path) -> Manifest:
    _log.info("making %s of %s", precision, source.config.name)
    write_effective(source.tokenizer_path, folder / "tokenizer.json")
    with progress_bar(f"Making {precision} of {source.config.name}", None):
        agreement = quantize_checked(
            source.model_path, folder / "model.onnx", source.tokenizer_path, source.config, precision
        )
    path = folder / "model.onnx"
    files = {"model": path, "weights": path.with_name("model.onnx.data"), "tokenizer": folder / "tokenizer.json"}
    return replace(
        source,
        folder=folder,
        files={role: FileRecord.of(file, folder) for role, file in files.items() if file.exists()},
        precision=str(precision),
        measured=agreement.to_dict(),
    )


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
