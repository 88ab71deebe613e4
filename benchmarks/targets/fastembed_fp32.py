"""fastembed with its defaults: batches of 256 texts in the order given.

It runs the same ONNX file as `onnxruntime_plain`, registered as a custom model, so that nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType
from numpy.typing import NDArray

from neuralcore.embedding.store.folder import ModelFolder

NAME = "fastembed"


def load(model_folder: Path, threads: int) -> TextEmbedding:
    config = ModelFolder(model_folder).config()
    name = f"benchmarks/{config.name}"
    TextEmbedding.add_custom_model(
        model=name,
        pooling=PoolingType.MEAN,
        normalization=config.normalize,
        sources=ModelSource(hf=name),  # required, not used
        dim=config.dimension,
        model_file="onnx/model.onnx",
        additional_files=["onnx/model.onnx.data"],
        output_name="last_hidden_state",
    )
    return TextEmbedding(
        name, cache_dir=str(model_folder), threads=threads, specific_model_path=str(model_folder), local_files_only=True
    )


def embed(model: TextEmbedding, texts: list[str]) -> NDArray[np.float32]:
    return np.stack(list(model.embed(texts)))
