"""Folders of multilingual models in their real sizes, with random weights and a made-up vocabulary."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
_METASPACE = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
_SCRIPTS = (
    "abcdefghijklmnopqrstuvwxyz", "etaoinshrdlu", "абвгдежзийклмнопрстуфхцчшщыьэюя", "αβγδεζηθικλμνξοπρστυφχψω",
    "ابتثجحخدذرزسشصضطظعغفقكلمنهوي", "अआइईउएकखगघचजटठडतथदधनपफबभमयरलवशषसह", "".join(map(chr, range(0x4E00, 0x6000))),
    "".join(map(chr, range(0xAC00, 0xB400))), "".join(map(chr, range(0x3041, 0x3097))),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Of one model."""

    hidden: int
    wide: int
    n_layers: int
    n_heads: int
    n_words: int
    n_positions: int
    pooling: str


MODELS = {
    "multilingual-e5-small": Sizes(
        hidden=384, wide=1536, n_layers=12, n_heads=12, n_words=250_037, n_positions=514, pooling="mean"
    ),
    "bge-m3": Sizes(
        hidden=1024, wide=4096, n_layers=24, n_heads=16, n_words=250_002, n_positions=8194, pooling="cls"
    ),
}  # fmt: skip


def write_model(folder: Path, sizes: Sizes) -> None:
    """Write a folder that sentence-transformers and this package load.

    Args:
        folder: to be made.
        sizes: the model's.
    """
    folder.mkdir(parents=True)
    (folder / "1_Pooling").mkdir()
    limit = sizes.n_positions - 2
    kinds = {"": "models.Transformer", "1_Pooling": "models.Pooling", "2_Normalize": "models.Normalize"}
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.{kind}"}
        for number, (path, kind) in enumerate(kinds.items())
    ]
    pooling = {
        "word_embedding_dimension": sizes.hidden,
        "pooling_mode_cls_token": sizes.pooling == "cls",
        "pooling_mode_mean_tokens": sizes.pooling == "mean",
    }
    _write(folder / "modules.json", modules)
    _write(folder / "1_Pooling/config.json", pooling)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": limit, "do_lower_case": False})
    _write(folder / "config.json", _architecture(sizes))
    _write(folder / "tokenizer.json", _tokenizer())
    _write(
        folder / "tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer", "model_max_length": limit}
    )  # fmt: skip
    _write_weights(folder / "model.safetensors", dict(_shapes(sizes)))


def _architecture(sizes: Sizes) -> dict[str, Any]:
    return {
        "model_type": "xlm-roberta",
        "architectures": ["XLMRobertaModel"],
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.wide,
        "num_hidden_layers": sizes.n_layers,
        "num_attention_heads": sizes.n_heads,
        "vocab_size": sizes.n_words,
        "max_position_embeddings": sizes.n_positions,
        "type_vocab_size": 1,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "dtype": "float32",
    }


def _tokenizer() -> dict[str, Any]:
    """XLM-R's kind of tokenizer.json: 250,002 pieces, of which none has a meaning."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    pieces = [*_SPECIAL, *_pieces(249_997), "<mask>"]
    scores = [0.0] * 4 + [-3.0 - 1.4 * math.log1p(number) for number in range(249_997)] + [0.0]
    added = [{"id": pieces.index(content), "content": content, **flags} for content in _SPECIAL]
    added.append({**flags, "id": len(pieces) - 1, "content": "<mask>", "lstrip": True})
    first, last = ({"SpecialToken": {"id": name, "type_id": 0}} for name in ("<s>", "</s>"))
    text = {"Sequence": {"id": "A", "type_id": 0}}
    known = {name: {"id": name, "ids": [pieces.index(name)], "tokens": [name]} for name in ("<s>", "</s>")}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "NFKC"},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
            ],
        },
        "pre_tokenizer": _METASPACE,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, text, last],
            "pair": [first, text, last, {"Sequence": {"id": "B", "type_id": 0}}, last],
            "special_tokens": known,
        },
        "decoder": _METASPACE,
        "model": {
            "type": "Unigram",
            "unk_id": 3,
            "vocab": [list(pair) for pair in zip(pieces, scores, strict=True)],
            "byte_fallback": False,
        },
    }


def _pieces(n_pieces: int) -> list[str]:
    """Single characters, then random beginnings and insides of words, of XLM-R's lengths."""
    draw = np.random.default_rng(0)
    pieces = dict.fromkeys(["\u2581", *map(chr, range(33, 127)), *"".join(_SCRIPTS)])
    while len(pieces) < n_pieces:
        letters = _SCRIPTS[draw.integers(len(_SCRIPTS))]
        length = 1 + draw.poisson(3.5 if len(letters) < 100 else 1)
        word = "".join(letters[number] for number in (len(letters) * draw.random(length) ** 4).astype(int))
        pieces[("\u2581" if draw.random() < 0.5 else "") + word] = None
    return list(pieces)[:n_pieces]


def _shapes(sizes: Sizes) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, wide = sizes.hidden, sizes.wide
    yield "embeddings.word_embeddings.weight", (sizes.n_words, hidden)
    yield "embeddings.position_embeddings.weight", (sizes.n_positions, hidden)
    yield "embeddings.token_type_embeddings.weight", (1, hidden)
    yield from _vectors("embeddings.LayerNorm", hidden)
    for number in range(sizes.n_layers):
        layer = f"encoder.layer.{number}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            yield f"{layer}.{name}.weight", (hidden, hidden)
            yield f"{layer}.{name}.bias", (hidden,)
        yield from _vectors(f"{layer}.attention.output.LayerNorm", hidden)
        yield f"{layer}.intermediate.dense.weight", (wide, hidden)
        yield f"{layer}.intermediate.dense.bias", (wide,)
        yield f"{layer}.output.dense.weight", (hidden, wide)
        yield f"{layer}.output.dense.bias", (hidden,)
        yield from _vectors(f"{layer}.output.LayerNorm", hidden)


def _vectors(name: str, hidden: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (hidden,)
    yield f"{name}.bias", (hidden,)


def _write_weights(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A safetensors file, one tensor in memory at a time."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    draw = np.random.default_rng(1)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            values = draw.standard_normal(shape, np.float32)
            # Of a product by its inputs: deeper models of larger gains are so chaotic that INT8 is refused.
            values *= np.float32(0.6 / math.sqrt(shape[1]) if ".layer." in name and len(shape) == 2 else 0.05)
            values += np.float32(name.endswith("LayerNorm.weight"))
            file.write(values.tobytes())


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
