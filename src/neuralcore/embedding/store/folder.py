"""Reads a model folder laid out as sentence-transformers lays it out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..backends.static.table import Table
from ..config import Dense, ModelConfig, PoolingStrategy
from ..documents import Document, is_there, read_object
from ..errors import UnsupportedModel
from ..families import complete, read_stack
from ..families.checkpoint import SAFETENSORS, SAFETENSORS_INDEX, Checkpoint, checkpoint_files
from ..families.positions import UNLIMITED, count_positions, pad_position
from ..families.reading import read_linear
from ..families.stack import DenseStep, Stack
from ..files import sha256_of_all
from ..forks import Once
from .steps import ACTIVATION_CLASSES, FIRST, POOLING_NAMES, Module, Steps, list_modules, read_steps, told_max_tokens

_ONNX_NAMES = ("model.onnx", "model_optimized.onnx", "encoder_model.onnx", "sentence_transformers.onnx")
_ONNX_FOLDERS = ("", "onnx")

_MODEL2VEC = "model2vec"
_NO_LIMIT = 2**31 - 1  # of tokens
_MOST_TOKENIZER_BYTES = 128 << 20
_FEWEST_TOKENS = 3  # a token between two special ones
_HIDDEN_KEYS = ("hidden_size", "n_embd", "dim", "d_model")
_TYPES = ("query", "document")
_OWN_KIND = "SentenceTransformer"
_PICKLED = "pytorch_model.bin"
_POOLING_MODES = {strategy: name for name, strategy in POOLING_NAMES.items()}
_POOLING_MODES[PoolingStrategy.MEAN_WITH_ATTENTION] = "mean"


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
        return self.path / next((module.path for module in self._modules or () if module.kind in FIRST), "")

    @property
    def is_static(self) -> bool:
        """Whether it is a table of token vectors, of sentence-transformers or of model2vec, and no encoder."""
        if self._modules is not None:
            return self._modules[0].kind == "StaticEmbedding"
        return self.architecture.get("model_type") == _MODEL2VEC

    @property
    def has_steps(self) -> bool:
        """Whether its modules.json says what becomes of token vectors. Otherwise they are pooled by mean."""
        return self._modules is not None

    @Once
    def architecture(self) -> Document:
        """config.json and the defaults of its class; empty if there is none.

        In an encoder's folder of its own it has to be there.
        """
        is_needed = self.encoder_path != self.path and not (self._modules and self.is_static)
        return complete(read_object(self.encoder_path / "config.json", required=is_needed))

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
        """What its encoder is: see `families.read_stack`. A checkpoint has to be there.

        Raises:
            UnsupportedModel: it is not known, or does not give what the pooling says that it takes.
        """
        path = self.safetensors_path
        if path is None:
            raise UnsupportedModel(self.name, f"{self.path} has no model.safetensors; pickled weights are not opened")
        stack = read_stack(self.architecture, Checkpoint(path))
        given, taken = stack.size or stack.hidden, self._steps().token_dimension
        if taken not in (None, given):
            reason = f"its pooling takes {taken} components of a token (embedding_dimension), its encoder gives {given}"
            raise UnsupportedModel(self.name, f"{reason}: one of the files in {self.path} is of another model")
        told = self.max_positions
        return replace(stack, max_positions=told) if told > count_positions(self.architecture) else stack

    def dense_steps(self, config: ModelConfig) -> tuple[DenseStep, ...]:
        """The Dense steps behind the pooling, with their weights.

        Args:
            config: the model's, from here or from elsewhere.

        Raises:
            UnsupportedModel: the folder has other steps than `config`, or pickled weights only.
            ModelCorrupt: weights are missing, or not what the step is told.
        """
        found, paths = self._dense
        if tuple(found) != config.dense:
            raise UnsupportedModel(self.name, f"{self.path} has other Dense steps than it should: {found}")
        return tuple(_read_dense_step(dense, path) for dense, path in zip(found, paths, strict=True))

    @property
    def dense_paths(self) -> list[Path]:
        """The weights of its Dense steps, in their order."""
        return self._dense[1]

    @property
    def weights_sha256(self) -> str:
        """What tells its weights from those of another model. A checkpoint has to be there."""
        assert self.safetensors_path is not None
        return sha256_of_all([*checkpoint_files(self.safetensors_path), *self.dense_paths])

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
        if self.is_static:
            return self._static_limit()
        return count_positions(self.architecture, told_max_tokens(self._steps().encoder))

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
            pooling=steps.poolings,
            dense=tuple(dense for dense, _ in steps.dense),
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

    @Once
    def _modules(self) -> list[Module] | None:
        return list_modules(self.path, self.name)

    def _steps(self) -> Steps:
        if self._modules is not None:
            return read_steps(self.path, self._modules, self.name)
        if self.is_static:
            return Steps(encoder=Document(self.path), normalize=bool(self.architecture.flag("normalize", False)))
        if self._has_chat_template():
            raise UnsupportedModel(self.name, "its tokenizer has a chat template, through which no text is put here")
        nothing = Document(self.path / "modules.json")
        pooling = PoolingStrategy.LAST_TOKEN if self._is_causal() else PoolingStrategy.MEAN
        return Steps(encoder=nothing, poolings=(pooling,))

    @property
    def _dense(self) -> tuple[list[Dense], list[Path]]:
        """What each Dense step is told, and its weights."""
        steps = read_steps(self.path, self._modules, self.name).dense if self._modules is not None else ()
        return [dense for dense, _ in steps], [self._dense_weights(folder) for _, folder in steps]

    def _dense_weights(self, folder: Path) -> Path:
        if not is_there(folder / SAFETENSORS) and is_there(folder / _PICKLED):
            reason = f"its step Dense has its weights in {folder / _PICKLED} only; pickled weights are not opened"
            raise UnsupportedModel(self.name, f"{reason}: save it again with sentence-transformers 3 or later")
        return folder / SAFETENSORS

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

    def _static_limit(self) -> int:
        """There is no limit but the one that the tokenizer.json itself was saved with, if it was."""
        tokenizer = read_object(self.tokenizer_path, required=True, most_bytes=_MOST_TOKENIZER_BYTES)
        return tokenizer.section("truncation").integer("max_length", _NO_LIMIT, least=_FEWEST_TOKENS)

    def _dimension(self, steps: Steps) -> int:
        if self.is_static:
            return Table(self._table_path()).dimension
        dimension = (steps.token_dimension or self._hidden()) * len(steps.poolings)
        for dense, folder in steps.dense:
            if dense.n_in != dimension:
                told = read_object(folder / "config.json")
                raise told.refused("in_features", f"{dimension}, the components of what comes before,")
            dimension = dense.n_out
        return dimension

    def _hidden(self) -> int:
        named = (self.architecture.integer(key, None, least=1) for key in _HIDDEN_KEYS)
        hidden = next((number for number in named if number), None)
        if hidden is None:
            raise UnsupportedModel(self.name, f"no config.json in {self.path} says how many dimensions it has")
        return hidden

    def _table_path(self) -> Path:
        path = self.encoder_path / SAFETENSORS
        if not is_there(path) and is_there(self.encoder_path / _PICKLED):
            raise UnsupportedModel(self.name, f"it has its table in {_PICKLED} only; pickled weights are not opened")
        return path

    def _max_tokens(self, encoder: Document) -> int:
        if self.is_static:
            return self.max_positions
        tokenizer = read_object(self.encoder_path / "tokenizer_config.json")
        own = told_max_tokens(encoder)
        if own is None:
            key = "model_max_length" if "model_max_length" in tokenizer else "max_len"  # as it was once called
            own = tokenizer.number(key, UNLIMITED, least=_FEWEST_TOKENS)
        trained = self.architecture.integer("max_trained_positions", UNLIMITED, least=_FEWEST_TOKENS)
        return int(min(own, self.max_positions, trained))


def _read_dense_step(dense: Dense, path: Path) -> DenseStep:
    checkpoint = Checkpoint(path)
    projects = dense.residual and dense.n_in != dense.n_out
    known = {"linear.weight", *(["linear.bias"] if dense.bias else []), *(["residual.weight"] if projects else [])}
    if unknown := sorted(checkpoint.names - known):  # sentence-transformers refuses them, too
        raise checkpoint.refused(unknown[0], "a step that has it", "a config.json that tells of none")
    linear, residual = (
        read_linear(checkpoint, name, n_in=dense.n_in, n_out=dense.n_out, bias=bias) if wanted else None
        for name, bias, wanted in (("linear", dense.bias, True), ("residual", False, projects))
    )
    assert linear is not None
    return DenseStep(dense, linear, residual)


def write_config(
    config: ModelConfig,
    folder: Path,
    *,
    passed_on: Mapping[str, object] | None = None,
    dense_paths: Sequence[Path] = (),
) -> None:
    """Write what sentence-transformers keeps besides the encoder, so that a folder says all that `config` does.

    Args:
        config: of the model.
        folder: files of these names in it are replaced.
        passed_on: what its tokenizer is told over what its own files say. The limit of tokens is the configuration's.
        dense_paths: the weights of the configuration's Dense steps, which are copied.
    """
    steps: list[tuple[str, object, Path | None]] = [("Pooling", _pooling(config), None)]
    for dense, path in zip(config.dense, dense_paths, strict=True):
        steps += [("Normalize", {}, None)] if dense.normalize_input else []
        steps += [("Dense", _told(dense), path)]
    steps += [("Normalize", {}, None)] if config.normalize else []
    modules = [_entry(0, "Transformer", "")]
    for number, (kind, told, weights) in enumerate(steps, start=1):
        modules.append(_entry(number, kind, f"{number}_{kind}"))
        if told:
            (folder / f"{number}_{kind}").mkdir(exist_ok=True)
            _write(folder / f"{number}_{kind}/config.json", told)
        if weights:
            shutil.copyfile(weights, folder / f"{number}_{kind}" / SAFETENSORS)
    _write(folder / "modules.json", modules)
    arguments = {key: value for key, value in (passed_on or {}).items() if key != "model_max_length"}
    encoder = {"max_seq_length": config.max_tokens, "do_lower_case": config.lowercase}
    _write(folder / "sentence_bert_config.json", encoder | ({"tokenizer_args": arguments} if arguments else {}))
    prompts = {**config.prompts, "query": config.query_prefix, "document": config.document_prefix}
    settings = {"model_type": _OWN_KIND, "prompts": prompts, "default_prompt_name": config.default_prompt}
    kept = {"truncate_dim": config.kept_dimensions} if config.kept_dimensions else {}
    _write(folder / "config_sentence_transformers.json", settings | kept)


def pooling_modes(config: ModelConfig) -> str | list[str]:
    """What sentence-transformers calls its pooling."""
    modes = [_POOLING_MODES[strategy] for strategy in config.poolings]
    return modes[0] if len(modes) == 1 else modes


def _entry(number: int, kind: str, path: str) -> dict[str, object]:
    return {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}


def _pooling(config: ModelConfig) -> dict[str, object]:
    return {"embedding_dimension": config.token_dimension, "pooling_mode": pooling_modes(config)}


def _told(dense: Dense) -> dict[str, object]:
    told = {"in_features": dense.n_in, "out_features": dense.n_out, "bias": dense.bias}
    residual = {"use_residual": True} if dense.residual else {}
    return {**told, "activation_function": ACTIVATION_CLASSES[dense.activation], **residual}


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
