"""ONNX Runtime by hand, as a careful user writes it: batches of 32 sorted by number of tokens, padded to their longest
text, all threads in one session with default options, mean pooling in numpy.

The graph is the one that this package writes (backends/onnx/write/), its output `last_hidden_state`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

NAME = "ONNX Runtime by hand"

_BATCH_TEXTS = 32


class Model(NamedTuple):
    tokenizer: Tokenizer
    session: ort.InferenceSession
    input_names: set[str]


def load(model_folder: Path, threads: int) -> Model:
    max_tokens = json.loads((model_folder / "sentence_bert_config.json").read_bytes())["max_seq_length"]
    tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model_folder / "onnx/model.onnx", options, providers=["CPUExecutionProvider"])
    return Model(tokenizer, session, {node.name for node in session.get_inputs()})


def embed(model: Model, texts: list[str]) -> NDArray[np.float32]:
    encodings = model.tokenizer.encode_batch(texts)
    order = sorted(range(len(texts)), key=lambda row: -len(encodings[row]))
    vectors = [
        _embed_batch(model, [encodings[row] for row in order[start : start + _BATCH_TEXTS]])
        for start in range(0, len(texts), _BATCH_TEXTS)
    ]
    out = np.concatenate(vectors)
    out[order] = out.copy()
    return out


def _embed_batch(model: Model, encodings: list[Encoding]) -> NDArray[np.float32]:
    ids = np.zeros((len(encodings), len(encodings[0])), np.int64)  # the first is the longest, and 0 pads
    mask = np.zeros_like(ids)
    for row, encoding in enumerate(encodings):
        ids[row, : len(encoding)] = encoding.ids
        mask[row, : len(encoding)] = 1
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    feeds = {name: value for name, value in inputs.items() if name in model.input_names}
    hidden = model.session.run(["last_hidden_state"], feeds)[0]
    weights = mask[:, :, None].astype(np.float32)
    means = (hidden * weights).sum(1) / weights.sum(1)
    vectors: NDArray[np.float32] = means / np.linalg.norm(means, axis=1, keepdims=True)
    return vectors
