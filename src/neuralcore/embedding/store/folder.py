"""Reads a model folder laid out as sentence-transformers lays it out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from ..config import ModelConfig, PoolingStrategy
from ..documents import Document, is_there, read_object
from ..errors import UnsupportedModel
from ..families import complete, read_stack
from ..families.checkpoint import SAFETENSORS, SAFETENSORS_INDEX, Checkpoint
from ..families.positions import UNLIMITED, count_positions, pad_position
from ..families.stack import Stack
from .steps import Module, Steps, list_modules, read_steps, told_max_tokens

FOLDER_VERSION = 3
"""Raised when what a folder says is read otherwise: configurations that are kept in the cache are then read again."""

_ONNX_NAMES = ("model.onnx", "model_optimized.onnx", "encoder_model.onnx", "sentence_transformers.onnx")
_ONNX_FOLDERS = ("", "onnx")

_FEWEST_TOKENS = 3  # a token between two special ones
_HIDDEN_KEYS = ("hidden_size", "n_embd", "dim", "d_model")
_TYPES = ("query", "document")
_OWN_KIND = "SentenceTransformer"
_POOLING_MODES = {
    PoolingStrategy.CLS: "cls",
    PoolingStrategy.MEAN: "mean",
    PoolingStrategy.MEAN_WITH_ATTENTION: "mean",
    PoolingStrategy.MAX: "max",
    PoolingStrategy.LAST_TOKEN: "lasttoken",
}


class ModelFolder:
    """A folder with config.json, tokenizer.json, weights, and what sentence-transformers adds.

    Args:
        path: the folder.
        name: the model's name; None takes the folder's.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = path
        self.name = name or path.resolve().name

    @property
    def encoder_path(self) -> Path:
        """Where the encoder's own files are: the folder itself, or 0_Transformer in old layouts."""
        return self.path / next((module.path for module in self._modules or () if module.kind == "Transformer"), "")

    @property
    def has_steps(self) -> bool:
        """Whether its modules.json says what becomes of token vectors. Otherwise they are pooled by mean."""
        return self._modules is not None

    @cached_property
    def architecture(self) -> Document:
        """config.json and the defaults of its class; empty if there is none.

        In an encoder's folder of its own it has to be there.
        """
        return complete(read_object(self.encoder_path / "config.json", required=self.encoder_path != self.path))

    @property
    def tokenizer_path(self) -> Path:
        """The tokenizer.json.

        Raises:
            UnsupportedModel: there is none.
        """
        for folder in (self.encoder_path, self.path):
            if is_there(folder / "tokenizer.json"):
                return folder / "tokenizer.json"
        advice = "make one with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        raise UnsupportedModel(self.name, f"no tokenizer.json in {self.path}; {advice}")

    @property
    def safetensors_path(self) -> Path | None:
        """The checkpoint, or the index of one that is in several files; None if there is neither."""
        paths = (self.encoder_path / name for name in (SAFETENSORS, SAFETENSORS_INDEX))
        return next((path for path in paths if is_there(path)), None)

    def stack(self) -> Stack:
        """What its encoder is: see `families.read_stack`. A checkpoint has to be there."""
        path = self.safetensors_path
        if path is None:
            raise UnsupportedModel(self.name, f"{self.path} has no model.safetensors; pickled weights are not opened")
        return read_stack(self.architecture, Checkpoint(path))

    @property
    def onnx_path(self) -> Path | None:
        """The ONNX model: one of the usual names, or the only ONNX file there is.

        Raises:
            UnsupportedModel: several, and none has a usual name.
        """
        folders = [base / sub for base in dict.fromkeys((self.path, self.encoder_path)) for sub in _ONNX_FOLDERS]
        for folder in folders:
            for name in _ONNX_NAMES:
                if is_there(folder / name):
                    return folder / name
        others = sorted(path for folder in folders for path in folder.glob("*.onnx"))
        if len(others) > 1:
            names = ", ".join(str(path.relative_to(self.path)) for path in others)
            raise UnsupportedModel(self.name, f"which ONNX file? There are {names}; rename one to model.onnx")
        return others[0] if others else None

    @property
    def max_positions(self) -> int:
        """Most tokens the model can take."""
        return count_positions(self.architecture)

    def config(self) -> ModelConfig:
        """The model's configuration.

        Without a modules.json, sentence-transformers reads none of its own files, nor is that done here.

        Raises:
            UnsupportedModel: a step, or something that a step is told, that is not run here.
            ModelCorrupt: a file is damaged, or declared and missing.
        """
        if is_there(adapter := self.encoder_path / "adapter_config.json"):
            raise UnsupportedModel(self.name, f"{adapter} makes it an adapter of another model; merge them first")
        steps = self._steps()
        settings = read_object(self.path / "config_sentence_transformers.json")
        self._check_kind(settings)
        settings = settings if self.has_steps else Document(settings.path)
        prompts = _prompts(settings)
        dimension = self._dimension(steps)
        kept = settings.integer("truncate_dim", dimension, least=1)
        return ModelConfig(
            name=self.name,
            dimension=dimension,
            max_tokens=self._max_tokens(steps.encoder),
            pooling=steps.pooling,
            normalize=steps.normalize,
            query_prefix=prompts["query"],
            document_prefix=prompts["document"],
            prompts={name: text for name, text in prompts.items() if name not in _TYPES},
            default_prompt=_default_prompt(settings, prompts),
            lowercase=steps.encoder.flag("do_lower_case", False),
            kept_dimensions=kept if kept < dimension else None,
        )

    def config_of_graph(self) -> ModelConfig:
        """As `config`, for an ONNX file that is used as it is: where no files say how tokens are pooled, it may."""
        return replace(self.config(), graph_pools=not self.has_steps, pad_position=pad_position(self.architecture))

    @cached_property
    def _modules(self) -> list[Module] | None:
        return list_modules(self.path, self.name)

    def _steps(self) -> Steps:
        if self._modules is not None:
            return read_steps(self.path, self._modules, self.name)
        if self._has_chat_template():
            raise UnsupportedModel(self.name, "its tokenizer has a chat template, through which no text is put here")
        nothing = Document(self.path / "modules.json")
        return Steps(encoder=nothing, pooling=PoolingStrategy.LAST_TOKEN if self._is_causal() else PoolingStrategy.MEAN)

    def _is_causal(self) -> bool:
        architectures = self.architecture.get("architectures")
        first = architectures[0] if isinstance(architectures, list) and architectures else ""
        return str(first).endswith("ForCausalLM") and self.architecture.flag("is_causal", True)

    def _has_chat_template(self) -> bool:
        tokenizer = read_object(self.path / "tokenizer_config.json")
        return tokenizer.get("chat_template") is not None or (self.path / "chat_template.jinja").exists()

    def _check_kind(self, settings: Document) -> None:
        kind = settings.text("model_type", _OWN_KIND)
        if not self.has_steps and "activation_fn" in self.architecture.section("sentence_transformers"):
            kind = "CrossEncoder"  # where sentence-transformers 4 and 5 noted what scores a pair
        if kind != _OWN_KIND:
            raise UnsupportedModel(
                self.name, f"it is a {kind} of sentence-transformers, which gives no vector of a text"
            )

    def _dimension(self, steps: Steps) -> int:
        if steps.dimension:
            return steps.dimension
        named = (self.architecture.integer(key, None, least=1) for key in _HIDDEN_KEYS)
        dimension = next((number for number in named if number), None)
        if dimension is None:
            raise UnsupportedModel(self.name, f"no config.json in {self.path} says how many dimensions it has")
        return dimension

    def _max_tokens(self, encoder: Document) -> int:
        tokenizer = read_object(self.encoder_path / "tokenizer_config.json")
        own = told_max_tokens(encoder)
        if own is None:
            key = "model_max_length" if "model_max_length" in tokenizer else "max_len"  # as it was once called
            own = tokenizer.number(key, UNLIMITED, least=_FEWEST_TOKENS)
        trained = self.architecture.integer("max_trained_positions", UNLIMITED, least=_FEWEST_TOKENS)
        return int(min(own, self.max_positions, trained))


def write_config(config: ModelConfig, folder: Path, *, passed_on: Mapping[str, object] | None = None) -> None:
    """Write what sentence-transformers keeps besides the encoder, so that a folder says all that `config` does.

    Args:
        config: of the model.
        folder: files of these names in it are replaced.
        passed_on: what its tokenizer is told over what its own files say. The limit of tokens is the configuration's.
    """
    steps = {"Transformer": "", "Pooling": "1_Pooling"} | ({"Normalize": "2_Normalize"} if config.normalize else {})
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(steps.items())
    ]
    (folder / "1_Pooling").mkdir(exist_ok=True)
    pooling = {"embedding_dimension": config.dimension, "pooling_mode": _POOLING_MODES[config.pooling]}
    _write(folder / "1_Pooling/config.json", pooling)
    _write(folder / "modules.json", modules)
    arguments = {key: value for key, value in (passed_on or {}).items() if key != "model_max_length"}
    encoder = {"max_seq_length": config.max_tokens, "do_lower_case": config.lowercase}
    _write(folder / "sentence_bert_config.json", encoder | ({"tokenizer_args": arguments} if arguments else {}))
    prompts = {**config.prompts, "query": config.query_prefix, "document": config.document_prefix}
    settings = {"model_type": _OWN_KIND, "prompts": prompts, "default_prompt_name": config.default_prompt}
    kept = {"truncate_dim": config.kept_dimensions} if config.kept_dimensions else {}
    _write(folder / "config_sentence_transformers.json", settings | kept)


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _prompts(settings: Document) -> dict[str, str]:
    """All prompts, by name. Queries and documents have one in any case; the default never takes its place."""
    own = settings.section("prompts")
    return dict.fromkeys(_TYPES, "") | {name: own.text(name, "") for name in own}


def _default_prompt(settings: Document, prompts: Mapping[str, str]) -> str | None:
    name = settings.text("default_prompt_name", None)
    if name is not None and name not in prompts:
        raise settings.refused("default_prompt_name", f"one of its prompts ({', '.join(prompts)})")
    return name
