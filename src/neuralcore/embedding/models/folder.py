"""Reads a model folder laid out as sentence-transformers lays it out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from ..config import ModelConfig, PoolingStrategy
from ..documents import is_there
from ..errors import ModelCorrupt, UnsupportedModel

SAFETENSORS = "model.safetensors"
SAFETENSORS_INDEX = "model.safetensors.index.json"
_ONNX_NAMES = ("model.onnx", "model_optimized.onnx", "encoder_model.onnx", "sentence_transformers.onnx")
_ONNX_FOLDERS = ("", "onnx")

# 1_Pooling/config.json, first as one bool a mode (to sentence-transformers 5), then as a name.
_POOLING_BOOLS = {
    "pooling_mode_cls_token": PoolingStrategy.CLS,
    "pooling_mode_mean_tokens": PoolingStrategy.MEAN,
    "pooling_mode_max_tokens": PoolingStrategy.MAX,
    "pooling_mode_lasttoken": PoolingStrategy.LAST_TOKEN,
}
_POOLING_NAMES = {
    "cls": PoolingStrategy.CLS,
    "mean": PoolingStrategy.MEAN,
    "max": PoolingStrategy.MAX,
    "lasttoken": PoolingStrategy.LAST_TOKEN,
}
_KNOWN_MODULES = {"Transformer", "Pooling", "Normalize", "Dropout"}  # Dropout does nothing at inference
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")  # the order in which encode_document looks
_UNLIMITED = 1_000_000  # tokenizers without a limit say 1e30


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
        return self.path / self._modules.get("Transformer", "")

    @cached_property
    def architecture(self) -> Mapping[str, Any]:
        """config.json; empty if there is none."""
        own: Mapping[str, Any] = self._read(self.encoder_path / "config.json")
        return own or self._read(self.path / "config.json")

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
        named = (self.architecture.get(key) for key in ("max_position_embeddings", "n_positions"))
        positions = max((int(number) for number in named if number), default=_UNLIMITED)
        # In these families, positions begin after the pad token's.
        after_pad = self.architecture.get("model_type") in {"mpnet", "roberta", "xlm-roberta", "camembert"}
        return positions - 2 if after_pad else positions

    def config(self) -> ModelConfig:
        """The model's configuration.

        Raises:
            UnsupportedModel: a module or a pooling mode that is not run here; nothing is left out silently.
            ModelCorrupt: a file is not JSON.
        """
        pooling = self._read(self.path / self._modules.get("Pooling", "1_Pooling") / "config.json")
        settings = self._read(self.path / "config_sentence_transformers.json")
        prompts = {name: text for name, text in (settings.get("prompts") or {}).items() if text}
        default = prompts.get(settings.get("default_prompt_name"), "")
        documents = (prompts[name] for name in _DOCUMENT_PROMPTS if name in prompts)
        encoder = self._encoder_settings()
        return ModelConfig(
            name=self.name,
            dimension=self._dimension(pooling),
            max_tokens=self._max_tokens(encoder),
            pooling=self._pooling(pooling),
            normalize="Normalize" in self._modules,
            query_prefix=prompts.get("query", default),
            document_prefix=next(documents, default),
            prompts=prompts,
            lowercase=bool(encoder.get("do_lower_case")),
        )

    @cached_property
    def _modules(self) -> Mapping[str, str]:
        """Kind and folder of each step. The dotted path of a type changed over time; its last part did not."""
        modules = self._read(self.path / "modules.json") or []
        found = {str(module["type"]).rpartition(".")[2]: str(module.get("path", "")) for module in modules}
        unknown = sorted(found.keys() - _KNOWN_MODULES)
        if unknown:
            raise UnsupportedModel(self.name, f"its modules.json has steps that are not run here: {', '.join(unknown)}")
        return found

    def _encoder_settings(self) -> Mapping[str, Any]:
        paths = sorted(self.encoder_path.glob("sentence_*_config.json"))
        return self._read(paths[0]) if paths else {}

    def _dimension(self, pooling: Mapping[str, Any]) -> int:
        keys = ("word_embedding_dimension", "embedding_dimension")
        of_encoder = ("hidden_size", "n_embd", "dim", "d_model")
        values = [pooling.get(key) for key in keys] + [self.architecture.get(key) for key in of_encoder]
        dimension = next((value for value in values if value), None)
        if dimension is None:
            raise UnsupportedModel(self.name, f"no config.json in {self.path} says how many dimensions it has")
        return int(dimension)

    def _max_tokens(self, encoder: Mapping[str, Any]) -> int:
        tokenizer = self._read(self.encoder_path / "tokenizer_config.json")
        own = encoder.get("max_seq_length") or tokenizer.get("model_max_length") or _UNLIMITED
        limit = min(int(own), self.max_positions, self.architecture.get("max_trained_positions") or _UNLIMITED)
        return limit if limit < _UNLIMITED else 512

    def _pooling(self, pooling: Mapping[str, Any]) -> PoolingStrategy:
        if pooling.get("include_prompt") is False:
            raise UnsupportedModel(self.name, "its pooling leaves out the prompt's tokens, which is not done here")
        if not pooling:
            return PoolingStrategy.MEAN
        modes = _pooling_modes(pooling)
        known = {**_POOLING_BOOLS, **_POOLING_NAMES}
        if len(modes) != 1 or modes[0] not in known:
            raise UnsupportedModel(self.name, f"pooling {' + '.join(modes) or 'none'} is not run here")
        return known[modes[0]]

    @staticmethod
    def _read(path: Path) -> Any:
        try:
            return json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (ValueError, OSError) as error:
            raise ModelCorrupt(str(path), expected="JSON", actual=str(error)) from error


def write_config(config: ModelConfig, folder: Path) -> None:
    """Write what sentence-transformers keeps besides the encoder, so that a folder says all that `config` does.

    Args:
        config: of the model.
        folder: files of these names in it are replaced.
    """
    steps = {"Transformer": "", "Pooling": "1_Pooling"} | ({"Normalize": "2_Normalize"} if config.normalize else {})
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(steps.items())
    ]
    mean = {PoolingStrategy.MEAN_WITH_ATTENTION: PoolingStrategy.MEAN}
    pooling = {key: mode is mean.get(config.pooling, config.pooling) for key, mode in _POOLING_BOOLS.items()}
    prompts = {"query": config.query_prefix, "document": config.document_prefix, **config.prompts}
    (folder / "1_Pooling").mkdir(exist_ok=True)
    _write(folder / "1_Pooling/config.json", {"word_embedding_dimension": config.dimension, **pooling})
    _write(folder / "modules.json", modules)
    encoder = {"max_seq_length": config.max_tokens, "do_lower_case": config.lowercase}
    _write(folder / "sentence_bert_config.json", encoder)
    used = {name: text for name, text in prompts.items() if text}
    _write(folder / "config_sentence_transformers.json", {"prompts": used, "default_prompt_name": None})


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _pooling_modes(pooling: Mapping[str, Any]) -> list[str]:
    modes = pooling.get("pooling_mode")
    if modes is not None:
        return [modes] if isinstance(modes, str) else list(modes)
    return [key for key, chosen in pooling.items() if key.startswith("pooling_mode_") and chosen is True]
