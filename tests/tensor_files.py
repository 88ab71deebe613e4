"""Safetensors files written byte by byte, so that they can be of any type, or wrong."""

import json
from pathlib import Path

import numpy as np


def write(path: Path, tensors: dict[str, tuple[str, list[int], bytes]], *, alter=lambda header: header) -> Path:
    """Write tensors: type, shape and bytes by name. `alter` may change the header."""
    header, start = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, start + len(data)]}
        start += len(data)
    encoded = json.dumps(alter(header)).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + b"".join(data for _, _, data in tensors.values()))
    return path


def as_bf16(values: np.ndarray) -> tuple[tuple[str, list[int], bytes], np.ndarray]:
    """A tensor cut to bfloat16, and what it then is in float32: the lower half of each number is gone."""
    cut = values.view(np.uint32) & np.uint32(0xFFFF0000)
    upper = (cut >> 16).astype("<u2")
    return ("BF16", list(values.shape), upper.tobytes()), cut.view(np.float32)


def save_shards(folder: Path, tensors: dict[str, np.ndarray], n_shards: int = 3, **index) -> Path:
    """Write a checkpoint in several files, as transformers lays them out; returns the path of their index."""
    from safetensors.numpy import save_file

    names = sorted(tensors)
    places = {name: f"model-{i * n_shards // len(names) + 1:05}-of-{n_shards:05}.safetensors"
              for i, name in enumerate(names)}  # fmt: skip
    for shard in set(places.values()):
        save_file({name: tensors[name] for name in names if places[name] == shard}, folder / shard)
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places, **index}))
    return path
