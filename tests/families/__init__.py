"""A random model of every family, laid out as sentence-transformers does, and the vectors that it gives.

A module of `cases` has `CASES`, whose weights are drawn in the names that transformers' class has in a file.
`python -m scripts.golden_families MODULE` writes what sentence-transformers makes of each into
golden/families_<module>.npz, and test_families.py holds the engine to it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Literal
from zlib import crc32

from tests.families import cases
from tests.families.checkpoints import Draw, DrawTensors, Kind, Tensors, save
from tests.families.texts import LIMIT, TEXTS
from tests.families.tokenizers import NAMED, TOKENIZERS

KINDS: tuple[Kind, ...] = ("fp32", "fp16", "bf16")
Precision = Literal["fp16", "int8", "dynamic-int8"]


def _draw_nothing(_: Draw) -> None:
    """For a model without heads."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One random model.

    Args:
        name: unique in its module; by it weights are drawn, too.
        config: config.json.
        draw: draws the tensors.
        tokenizer: a key of `tokenizers.TOKENIZERS`.
        pooling: a mode of sentence-transformers, or several.
        normalize: whether vectors are scaled to unit length.
        dense: of each Dense step after the pooling, how many components it gives, and its activation's class.
        dense_bias: whether they have a bias.
        is_native: whether the kernels run it.
        settings: of tokenizer_config.json, over what says nothing but the special tokens.
        files: JSON files besides, by name; they may replace others.
        prefix: what a task model puts before the names of tensors.
        unread: tensors besides, of heads that give no vector.
        reference: config.json in the words of transformers, where those of `config` are another program's.
    """

    name: str
    config: Mapping[str, Any]
    draw: DrawTensors
    tokenizer: str
    pooling: str | Sequence[str] = "mean"
    normalize: bool = True
    dense: Sequence[tuple[int, str]] = ()
    dense_bias: bool = True
    is_native: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    unread: DrawTensors = _draw_nothing
    reference: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return self.name

    @cached_property
    def tensors(self) -> Tensors:
        """Its weights, in float32."""
        seed = crc32(self.name.encode())
        draw, unread = Draw(seed), Draw(seed ^ 1)
        self.draw(draw)
        self.unread(unread)
        return {self.prefix + name: values for name, values in draw.tensors.items()} | unread.tensors

    def write(self, folder: Path, kind: Kind = "fp32", *, n_shards: int = 1) -> Path:
        """Write the folder and return it."""
        folder.mkdir(parents=True)
        save(folder, self.tensors, kind, n_shards=n_shards)
        steps = self._dense_steps()
        for path, (_, tensors) in steps.items():
            (folder / path).mkdir()
            save(folder / path, tensors, kind)
        TOKENIZERS[self.tokenizer]().save(str(folder / "tokenizer.json"))
        files = self._files(kind) | {f"{path}/config.json": told for path, (told, _) in steps.items()}
        for name, value in (files | dict(self.files)).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(value), encoding="utf-8")
        return folder

    def for_transformers(self) -> "Case":
        """The same, so that transformers can run it."""
        return replace(self, config=self.reference or self.config)

    @property
    def _size(self) -> int:
        return self.config.get("hidden_size") or self.config["dim"]

    def _dense_steps(self) -> dict[str, tuple[dict[str, Any], Tensors]]:
        """By its folder, what each is told and its tensors."""
        draw, n_in, steps = Draw(crc32(self.name.encode()) ^ 2), self._size, {}
        for number, (n_out, activation) in enumerate(self.dense, 2):
            draw.linear("linear", n_in, n_out, bias=self.dense_bias)
            sizes = {"in_features": n_in, "out_features": n_out}
            told = {**sizes, "bias": self.dense_bias, "activation_function": activation}
            steps[f"{number}_Dense"] = told, dict(draw.tensors)
            n_in = n_out
        return steps

    def _files(self, kind: Kind) -> dict[str, Any]:
        steps = ["Transformer", "Pooling", *["Dense"] * len(self.dense), *["Normalize"] * self.normalize]
        return {
            "config.json": {**self.config, "dtype": {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}[kind]},
            "modules.json": [
                {
                    "idx": number,
                    "name": str(number),
                    "path": f"{number}_{step}" if number else "",
                    "type": f"sentence_transformers.models.{step}",
                }
                for number, step in enumerate(steps)
            ],
            "1_Pooling/config.json": {"embedding_dimension": self._size, "pooling_mode": self.pooling},
            "sentence_bert_config.json": {"max_seq_length": LIMIT, "do_lower_case": False},
            "tokenizer_config.json": {
                "tokenizer_class": "PreTrainedTokenizerFast", **NAMED[self.tokenizer], **self.settings
            },
        }  # fmt: skip


def modules() -> dict[str, Sequence[Case]]:
    """The cases of each module."""
    return {info.name: import_module(f"{cases.__name__}.{info.name}").CASES for info in iter_modules(cases.__path__)}


def texts_of(kind: Kind) -> list[str]:
    """What is embedded by weights of that kind: all, or every fifth where they are the same but for rounding."""
    return list(TEXTS[:: 1 if kind == "fp32" else 5])
