"""What a folder's modules.json asks for: its steps, their order, what each is told. It is run, or refused by name.

The rules are those of sentence-transformers 6.2: a step reads one feature and writes another ("token_embeddings",
"sentence_embedding"), and Normalize leaves alone what is not there yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Dense, DenseActivation, PoolingStrategy
from ..documents import Document, read_object, read_objects
from ..errors import UnsupportedModel

_NAMESPACE = "sentence_transformers."  # what has another name is code of the folder's own
_TOKENS, _TEXT = "token_embeddings", "sentence_embedding"
_ENCODER, _TABLE = "Transformer", "StaticEmbedding"
FIRST = (_ENCODER, _TABLE)
"""What the first step can be: an encoder of tokens, or a table whose rows are averaged."""

# The encoder's own file. sentence-transformers takes the first of these that says anything.
_ENCODER_FILES = tuple(
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_ENCODER_KEYS = {"max_seq_length", "do_lower_case", "transformer_task", "modality_config", "module_output_name"}
_OF_TOKENIZER = ("tokenizer_args", "processor_kwargs")  # the tokenizer obeys or refuses them
_WITHOUT_EFFECT = {"unpad_inputs", "cache_dir"}
# What sentence-transformers hands on to transformers, by its old and its new name: what of it is obeyed here, or has no
# effect on a vector.
_OF_MODEL = {"attn_implementation", "add_pooling_layer", "dtype", "torch_dtype", "use_safetensors", "trust_remote_code"}
_OF_CONFIG = {"attn_implementation", "dtype", "torch_dtype", "use_cache", "trust_remote_code"}
_ARGUMENTS: Mapping[str, set[str]] = {
    "model_args": _OF_MODEL,
    "model_kwargs": _OF_MODEL,
    "config_args": _OF_CONFIG,
    "config_kwargs": _OF_CONFIG,
}

# 1_Pooling/config.json, first as one bool a mode (to sentence-transformers 5), then as a name.
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
POOLING_NAMES = {
    "cls": PoolingStrategy.CLS,
    "mean": PoolingStrategy.MEAN,
    "max": PoolingStrategy.MAX,
    "lasttoken": PoolingStrategy.LAST_TOKEN,
    "weightedmean": PoolingStrategy.WEIGHTED_MEAN,
    "mean_sqrt_len_tokens": PoolingStrategy.MEAN_SQRT_LEN,
}
"""What sentence-transformers calls each strategy."""

_DIMENSION_KEYS = ("embedding_dimension", "word_embedding_dimension")
_POOLING_KEYS = {"pooling_mode", "include_prompt", *_POOLING_FLAGS, *_DIMENSION_KEYS}

# 2_Dense/config.json names a class of torch.nn by one of the modules that it can be imported from.
ACTIVATION_CLASSES = {
    DenseActivation.IDENTITY: "torch.nn.modules.linear.Identity",
    DenseActivation.TANH: "torch.nn.modules.activation.Tanh",
    DenseActivation.RELU: "torch.nn.modules.activation.ReLU",
    DenseActivation.GELU: "torch.nn.modules.activation.GELU",
    DenseActivation.SILU: "torch.nn.modules.activation.SiLU",
    DenseActivation.SIGMOID: "torch.nn.modules.activation.Sigmoid",
}
"""The class of each activation."""

_ACTIVATIONS = {
    name: activation
    for activation, own in ACTIVATION_CLASSES.items()
    for name in (own, *(f"{home}.{own.rpartition('.')[2]}" for home in ("torch.nn", "torch.nn.modules")))
}
_MOST_FEATURES = 1 << 20
_MOST_STEPS = 100  # files are read for each before any weight is looked for
_SHOWN_CHARACTERS = 80
_SIZE_KEYS = ("in_features", "out_features")
_DENSE_KEYS = {*_SIZE_KEYS, "bias", "activation_function", "use_residual", "module_input_name", "module_output_name"}


@dataclass(frozen=True, slots=True)
class Module:
    """One entry of modules.json: its kind ("Pooling") and its folder ("1_Pooling")."""

    kind: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What the steps come to.

    Args:
        encoder: what the encoder is told.
        poolings: how its token vectors become one; what several give lies side by side.
        dense: the products that follow, with the folders that hold their weights.
        normalize: whether the vector is scaled to unit length at last.
        token_dimension: components of a token vector, if the pooling says.
    """

    encoder: Document
    poolings: tuple[PoolingStrategy, ...] = (PoolingStrategy.MEAN,)
    dense: tuple[tuple[Dense, Path], ...] = ()
    normalize: bool = False
    token_dimension: int | None = None


def list_modules(folder: Path, name: str) -> list[Module] | None:
    """The entries of modules.json; None if there is no such file.

    Raises:
        UnsupportedModel: it has no step, too many, two of one name, or one of the folder's own code.
        ModelCorrupt: it is no such list, or names a folder outside of this one.
    """
    path = folder / "modules.json"
    entries = read_objects(path)
    if not entries:
        if not path.exists():
            return None
        raise UnsupportedModel(name, f"{path} lists no steps")
    if len(entries) > _MOST_STEPS:
        raise UnsupportedModel(name, f"{path} lists {len(entries)} steps, more than {_MOST_STEPS}")
    names = [entry.get("name", number) for number, entry in enumerate(entries)]
    if repeated := [own for number, own in enumerate(names) if own in names[:number]]:
        raise UnsupportedModel(name, f"{path} lists two steps of the name {repeated[0]!r}")
    return [_module(entry, name) for entry in entries]


def _module(entry: Document, name: str) -> Module:
    kind = entry.text("type", None)
    if kind is None:
        raise entry.refused("type", "the name of a class")
    if entry.get("path") is None:
        raise entry.refused("path", "the step's folder")
    if not kind.startswith(_NAMESPACE):
        raise UnsupportedModel(name, f"its step {kind} is code of the folder's own, which is not run")
    # The dotted path of a class changed over time; its last part did not.
    return Module(kind.rpartition(".")[2], entry.inside("path"))


def read_steps(folder: Path, modules: list[Module], name: str) -> Steps:
    """Follow the steps in their order.

    Args:
        folder: the model's.
        modules: of its modules.json.
        name: the model's, for errors.

    Raises:
        UnsupportedModel: a step that is not run here, or told what is not done here.
        ModelCorrupt: a file that is declared is missing or damaged.
    """
    reader = _Reader(folder, name)
    for module in modules:
        reader.follow(module)
    return reader.result()


class _Reader:
    """Keeps what is there after each step: token vectors, and a text's vector."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._encoder: Document | None = None
        self._pooling: Document | None = None
        self._dense: list[tuple[Dense, Path]] = []
        self._tokens_scaled = self._normalize = self._is_table = False

    def follow(self, module: Module) -> None:
        if self._encoder is None and module.kind not in FIRST:
            raise self._refuse(f"its first step is {module.kind}, where an encoder ({' or '.join(FIRST)}) is run here")
        match module.kind:
            case "Transformer" | "StaticEmbedding":
                self._follow_encoder(module)
            case "Pooling":
                self._follow_pooling(module)
            case "Normalize":
                self._follow_normalize(module)
            case "Dense":
                self._follow_dense(module)
            case "Dropout":  # does nothing outside of training
                self._require_text(module)
            case _:
                raise self._refuse(f"its modules.json has a step that is not run here: {module.kind}")

    def result(self) -> Steps:
        pooling = self._pooling
        if self._encoder is not None and self._is_table:
            return Steps(encoder=self._encoder, normalize=self._normalize)
        if self._encoder is None or pooling is None:
            raise self._refuse("its modules.json has no step Pooling, so nothing makes one vector of a text")
        return Steps(
            encoder=self._encoder,
            poolings=tuple(POOLING_NAMES[mode] for mode in _modes(pooling)),
            dense=tuple(self._dense),
            normalize=self._normalize,
            token_dimension=_dimension(pooling),
        )

    def _follow_encoder(self, module: Module) -> None:
        if self._encoder is not None:
            raise self._refuse(f"its modules.json has two encoders ({module.kind} is the second)")
        if module.kind == _TABLE:  # which is told nothing
            self._is_table, self._encoder = True, Document(self._folder / module.path)
            return
        self._encoder = read_encoder_settings(self._folder / module.path)
        for told in _not_done(self._encoder):
            raise self._refuse(f"its encoder is told {told}, which is not done here", self._encoder)

    @property
    def _has_text(self) -> bool:
        return self._pooling is not None or self._is_table

    def _follow_pooling(self, module: Module) -> None:
        if self._is_table:
            raise self._refuse("its step Pooling needs tokens' vectors, and StaticEmbedding gives none")
        if self._tokens_scaled:
            raise self._refuse("its tokens' vectors are scaled (Normalize) before they are pooled")
        told = read_object(self._folder / module.path / "config.json", required=True)
        if unknown := sorted(told.keys() - _POOLING_KEYS):
            raise self._refuse(f"its pooling is told {', '.join(unknown)}, which is not known here", told)
        if not told.flag("include_prompt", True):
            raise self._refuse("its pooling leaves out the prompt's tokens, which is not done here", told)
        modes = list(_modes(told))
        if not modes or not POOLING_NAMES.keys() >= set(modes):
            raise self._refuse(f"pooling {' + '.join(modes) or 'none'} is not run here", told)
        self._pooling, self._dense, self._normalize = told, [], False

    def _follow_dense(self, module: Module) -> None:
        self._require_text(module)
        if self._is_table:
            raise self._refuse("its step Dense follows StaticEmbedding, which is not done here")
        folder = self._folder / module.path
        told = read_object(folder / "config.json", required=True)
        if unknown := sorted(told.keys() - _DENSE_KEYS):
            raise self._refuse(f"its step Dense is told {', '.join(unknown)}, which is not known here", told)
        source = told.text("module_input_name", _TEXT)
        target = told.text("module_output_name", source)
        if (source, target) != (_TEXT, _TEXT):
            raise self._refuse(f"its step Dense makes {target} of {source}, which is not done here", told)
        n_in, n_out = (self._size(told, key) for key in _SIZE_KEYS)
        dense = Dense(
            n_in=n_in,
            n_out=n_out,
            activation=self._activation(told),
            bias=bool(told.flag("bias", True)),
            residual=bool(told.flag("use_residual", False)),
            normalize_input=self._normalize,
        )
        self._dense.append((dense, folder))
        self._normalize = False

    def _size(self, told: Document, key: str) -> int:
        size = told.integer(key, None, least=1, most=_MOST_FEATURES)
        if size is None:
            raise told.refused(key, "a whole number")
        return size

    def _activation(self, told: Document) -> DenseActivation:
        """None named is Tanh."""
        if "activation_function" not in told:
            return DenseActivation.TANH
        name = told.text("activation_function", "null")
        if name not in _ACTIVATIONS:
            known = ", ".join(ACTIVATION_CLASSES.values())
            shown = name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}..."
            raise self._refuse(f"its step Dense has the activation {shown}, which is not run here ({known} are)", told)
        return _ACTIVATIONS[name]

    def _require_text(self, module: Module) -> None:
        if not self._has_text:
            raise self._refuse(f"its step {module.kind} comes before the pooling, whose result it needs")

    def _follow_normalize(self, module: Module) -> None:
        told = read_object(self._folder / module.path / "config.json")
        source = told.text("module_input_name", _TEXT)
        target = told.text("module_output_name", source)
        there = ({_TEXT} if self._has_text else set()) | (set() if self._is_table else {_TOKENS})
        if source not in there or target not in {_TOKENS, _TEXT}:
            return  # as sentence-transformers does: there is nothing to scale, or nothing that is read later
        if source != target:
            raise self._refuse(f"its step Normalize makes {target} of {source}, which is not done here", told)
        self._normalize |= target == _TEXT
        self._tokens_scaled |= target == _TOKENS

    def _refuse(self, reason: str, told: Document | None = None) -> UnsupportedModel:
        path = self._folder / "modules.json" if told is None else told.path
        return UnsupportedModel(self._name, f"{reason}: see {path}")


def read_encoder_settings(folder: Path) -> Document:
    """What the encoder in a folder is told: the first of its files that says anything."""
    for name in _ENCODER_FILES:
        if settings := read_object(folder / name):
            return settings
    return Document(folder / _ENCODER_FILES[0])


def told_max_tokens(encoder: Document) -> float | None:
    """The limit that a file of the encoder sets, if it does."""
    for key in _OF_TOKENIZER:
        if limit := encoder.section(key).number("model_max_length", None, least=3):
            return limit
    return encoder.number("max_seq_length", None, least=3)


def _not_done(encoder: Document) -> Iterator[str]:
    """What the encoder is told that is not done here, each as `key=value`."""
    task = encoder.text("transformer_task", "feature-extraction")
    if task != "feature-extraction":
        yield f"transformer_task={task}"
    if encoder.get("modality_config") is not None:
        yield from _other_output(encoder)
    for key, value in encoder.items():
        if key in _ARGUMENTS:
            section = encoder.section(key)
            yield from (f"{key}.{own}={section[own]!r}" for own in section if own not in _ARGUMENTS[key])
        elif key == "processing_kwargs":
            section = encoder.section(key)
            yield from (f"{key}.{own}={section[own]!r}" for own in ("text", "common") if section.get(own))
        elif key not in _ENCODER_KEYS | _WITHOUT_EFFECT | set(_OF_TOKENIZER) and value is not None:
            yield f"{key}={value!r}"


def _other_output(encoder: Document) -> Iterator[str]:
    """Of `modality_config`: whatever is not the last hidden state, as token embeddings, of a text."""
    modalities = encoder.section("modality_config")
    text = modalities.section("text")
    output: Any = text.get("method_output_name")
    output = output[0] if isinstance(output, list) and len(output) == 1 else output
    if "message" in modalities:
        yield "modality_config.message (a chat template)"
    if text.get("method") != "forward":
        yield f"modality_config.text.method={text.get('method')!r}"
    if output != "last_hidden_state":
        yield f"modality_config.text.method_output_name={output!r}"
    if encoder.get("module_output_name") != _TOKENS:
        yield f"module_output_name={encoder.get('module_output_name')!r}"


def _modes(pooling: Document) -> Iterator[str]:
    modes = pooling.get("pooling_mode")
    if modes is None:
        chosen = [mode for key, mode in _POOLING_FLAGS.items() if pooling.flag(key, False)]
        yield from chosen or ["mean"]
    elif isinstance(modes, str):
        yield modes
    elif isinstance(modes, list) and all(isinstance(mode, str) for mode in modes):
        yield from modes
    else:
        raise pooling.refused("pooling_mode", "the name of a mode, or a list of names")


def _dimension(pooling: Document) -> int | None:
    found = (pooling.integer(key, None, least=1) for key in _DIMENSION_KEYS)
    return next((number for number in found if number is not None), None)
