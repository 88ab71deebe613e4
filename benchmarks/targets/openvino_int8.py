"""OpenVINO by hand, INT8 by NNCF with 300 texts that no workload has."""

from __future__ import annotations

from pathlib import Path

import openvino as ov

from ..texts import calibration_texts
from .openvino_fp32 import Model, embed, inputs_of, open_graph, open_tokenizer

__all__ = ["NAME", "embed", "load"]

NAME = "OpenVINO int8"

_TEXTS = 300


def load(model_folder: Path, threads: int) -> Model:
    path = model_folder / "openvino" / "model.xml"
    if not path.exists():  # before anything is measured: see benchmarks.run
        _quantize(model_folder, path)
    return open_graph(model_folder, ov.Core().read_model(path), threads)


def _quantize(model_folder: Path, path: Path) -> None:
    import nncf

    tokenizer = open_tokenizer(model_folder)
    batches = [inputs_of([tokenizer.encode(text).ids]) for text in calibration_texts(_TEXTS)]
    graph = ov.Core().read_model(model_folder / "onnx/model.onnx")
    made = nncf.quantize(graph, nncf.Dataset(batches), model_type=nncf.ModelType.TRANSFORMER, subset_size=_TEXTS)
    path.parent.mkdir()
    ov.save_model(made, path, compress_to_fp16=False)
