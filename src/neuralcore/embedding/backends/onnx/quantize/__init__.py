"""FP16 and INT8: smaller and faster models, made from an fp32 one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from ....arguments import check_texts
from ....errors import InputError, UnsupportedModel
from ....files import staging_beside, sync_all
from ....providers import GpuOptions
from ....types import Precision, TokenBatch

if TYPE_CHECKING:
    from .model import Model

__all__ = ["QUANTIZER_VERSION", "detect_quantization", "quantize_model"]

QUANTIZER_VERSION = 4
"""Raised whenever what is written changes: cached models are then made anew."""

_MAX_TOKENS = 256  # of a calibration text


def quantize_model(
    input_path: str | PathLike[str],
    output_path: str | PathLike[str],
    precision: str,
    *,
    tokenizer_path: str | PathLike[str] | None = None,
    texts: Iterable[str] | None = None,
    max_tokens: int = _MAX_TOKENS,
) -> None:
    """Write an ONNX encoder in another precision, its weights beside it in `<output_path>.data`.

    Nothing is compared here: `verify_model` does that, and `EmbeddingEngine.from_pretrained` does it by itself.

    Args:
        input_path: the fp32 model.
        output_path: the file to write; it appears when it is whole.
        precision: "fp32", "fp16", "int8" or "dynamic-int8".
        tokenizer_path: the model's tokenizer.json, for calibration; None looks beside the model and one folder up.
        texts: calibration texts, for "int8" (to find ranges) and "fp16" (to find what would overflow); None takes those
            of this package. A hundred of your own kind are best.
        max_tokens: where calibration texts are cut; at most the model's positions.

    Raises:
        InputError: no such precision, or no calibration texts.
        UnsupportedModel: the model is not fp32, has nothing to quantize, is written in operators too old for that, or
            takes inputs that are not an encoder's; or no tokenizer was found.
        ModelCorrupt: it cannot be read.

    Example:
        >>> quantize_model("model.onnx", "model_int8.onnx", "int8")  # doctest: +SKIP
        >>> detect_quantization("model_int8.onnx")  # doctest: +SKIP
        <Precision.INT8: 'int8'>
    """
    from ..graph_file import weights_sha256
    from ..session import OnnxSession
    from . import fp16, int8
    from .activations import Calibration
    from .model import Model

    if texts is not None:
        check_texts(texts)
        texts = list(texts)
    source, target, wanted = Path(input_path), Path(output_path), Precision(precision)
    if wanted is Precision.BF16:
        raise UnsupportedModel(str(source), "bf16 is computed by the native kernels, and no graph has it")
    if (found := detect_quantization(source)) is not Precision.FP32:
        raise UnsupportedModel(str(source), f"it is {found} already; quantize an fp32 model")
    OnnxSession(source, device="cpu", n_threads=1, gpu=GpuOptions())  # what does not run is not worked on
    model = Model(source)
    with staging_beside(target) as folder:
        match wanted:
            case Precision.FP16:
                tokens = _calibration_tokens(source, tokenizer_path, texts, max_tokens)
                fp16.convert(model, Calibration(tokens, folder))
            case Precision.INT8:
                tokens = _calibration_tokens(source, tokenizer_path, texts, max_tokens)
                int8.quantize(model, Calibration(tokens, folder))
            case Precision.DYNAMIC_INT8:
                int8.quantize_dynamically(model)
        _save(model, weights_sha256(source), folder / "made", target)


def detect_quantization(path: str | PathLike[str]) -> Precision:
    """What precision an ONNX model has, by its graph and the types of its weights, whatever the file is called.

    Raises:
        ModelCorrupt: it cannot be read.
        UnsupportedModel: weights of another width, such as 4 bits.
    """
    from .detect import detect

    return detect(Path(path))


def _calibration_tokens(
    source: Path, tokenizer_path: str | PathLike[str] | None, texts: Sequence[str] | None, max_tokens: int
) -> TokenBatch:
    from ....samples import calibration_texts
    from ....tokenizer import Tokenizer

    if texts is not None and not texts:
        raise InputError("calibration needs texts: give a hundred or so, or none at all for those of this package")
    path = Path(tokenizer_path) if tokenizer_path else _find_tokenizer(source)
    return Tokenizer(path, max_tokens=max_tokens).encode(texts or calibration_texts())


def _find_tokenizer(source: Path) -> Path:
    for folder in (source.parent, source.parent.parent):
        if (folder / "tokenizer.json").is_file():
            return folder / "tokenizer.json"
    raise UnsupportedModel(str(source), "calibration needs its tokenizer.json: pass tokenizer_path")


def _save(model: Model, weights: str, folder: Path, target: Path) -> None:
    """Both files appear whole; the graph last, since it is what makes them a model."""
    from ..graph_file import note_origin

    folder.mkdir()
    path = folder / target.name
    model.save(path)
    note_origin(path, weights)
    sync_all(folder)
    for written in sorted(folder.iterdir(), key=lambda written: written == path):
        written.replace(target.parent / written.name)
