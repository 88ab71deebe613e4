"""OpenVINO by hand, as who knows it writes it: texts sorted by tokens, 512 padded tokens a run, one stream a thread.

One text alone has all threads. The graph is the one that this package writes (backends/onnx/write/), its output
`sentence_embedding`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from tokenizers import Tokenizer

NAME = "OpenVINO"

_RUN_TOKENS = 512


class Model(NamedTuple):
    tokenizer: Tokenizer
    alone: Any  # ov.CompiledModel, for one text
    queue: Any  # ov.AsyncInferQueue, for more


def load(model_folder: Path, threads: int) -> Model:
    return open_graph(model_folder, ov.Core().read_model(model_folder / "onnx/model.onnx"), threads)


def open_graph(model_folder: Path, graph: Any, threads: int) -> Model:
    """Compile a graph for one text and for many."""
    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    pooled = ov.Model([graph.output("sentence_embedding")], graph.get_parameters(), "encoder")
    alone = ov.compile_model(pooled, "CPU", options | {"NUM_STREAMS": 1})
    many = ov.compile_model(pooled, "CPU", options | {"NUM_STREAMS": threads})
    return Model(open_tokenizer(model_folder), alone, ov.AsyncInferQueue(many, threads))


def open_tokenizer(model_folder: Path) -> Tokenizer:
    """As the model cuts texts, without padding."""
    max_tokens = json.loads((model_folder / "sentence_bert_config.json").read_bytes())["max_seq_length"]
    tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    return tokenizer


def embed(model: Model, texts: list[str]) -> NDArray[np.float32]:
    tokens = [encoding.ids for encoding in model.tokenizer.encode_batch(texts)]
    if len(texts) == 1:
        return np.array(model.alone(inputs_of(tokens))[0])
    order = sorted(range(len(texts)), key=lambda row: -len(tokens[row]))
    out = np.empty((len(texts), model.alone.output(0).get_partial_shape()[1].get_length()), np.float32)

    def keep(request: Any, rows: list[int]) -> None:
        out[rows] = request.get_output_tensor(0).data

    model.queue.set_callback(keep)
    start = 0
    while start < len(order):
        rows = order[start : start + max(1, _RUN_TOKENS // len(tokens[order[start]]))]
        model.queue.start_async(inputs_of([tokens[row] for row in rows]), rows)
        start += len(rows)
    model.queue.wait_all()
    return out


def inputs_of(tokens: list[list[int]]) -> dict[str, NDArray[np.int64]]:
    """Padded to the longest, which comes first."""
    ids = np.zeros((len(tokens), len(tokens[0])), np.int64)
    mask = np.zeros_like(ids)
    for row, own in enumerate(tokens):
        ids[row, : len(own)] = own
        mask[row, : len(own)] = 1
    return {"input_ids": ids, "attention_mask": mask}
