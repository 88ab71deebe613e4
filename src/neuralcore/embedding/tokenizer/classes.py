"""Which of transformers' classes opens a tokenizer: most take a tokenizer.json apart and build another from its pieces.

The rules are those of `AutoTokenizer.from_pretrained` in transformers 5; the names are in classes.toml.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from ..documents import Document
from ..errors import UnsupportedModel

KEEPS_FILE = "TokenizersBackend"
"""The class that takes a tokenizer.json as it is; PreTrainedTokenizerFast is another name of it."""

_LLAMA = "LlamaTokenizer"


@dataclass(frozen=True, slots=True)
class _Names:
    by_model_type: dict[str, str]
    by_other_name: dict[str, str]
    misnamed: frozenset[str]
    classes: frozenset[str]


def find_class(settings: Document, architecture: Document, *, is_byte_level: bool) -> str:
    """The name of the class that transformers 5 opens a tokenizer.json with.

    Args:
        settings: tokenizer_config.json.
        architecture: config.json.
        is_byte_level: whether the tokenizer.json has a part that is called ByteLevel.

    Raises:
        UnsupportedModel: it is code that comes with the model.
        ModelCorrupt: a value is of another type.
    """
    names, kind = _names(), architecture.text("model_type", "")
    usual = names.by_model_type.get(kind)
    named = settings.text("tokenizer_class", None) or architecture.text("tokenizer_class", None)
    is_misnamed = not names.misnamed.isdisjoint({kind, architecture.text("model_name", "")})
    if named and named.removesuffix("Fast") == _LLAMA and is_byte_level and not is_misnamed:
        return KEEPS_FILE
    if usual == KEEPS_FILE or (is_misnamed and usual):
        return _canonical(usual)
    found = _canonical(named or usual or KEEPS_FILE)
    _refuse_code(settings, known=usual is not None or found in names.classes)
    return found if found in names.classes else KEEPS_FILE


def _refuse_code(settings: Document, *, known: bool) -> None:
    if settings.get("auto_map") and not known:
        reason = f"{settings.path} names code of the model's own for its tokenizer (auto_map), which is not run here"
        raise UnsupportedModel(str(settings.path.parent), reason)


def _canonical(name: str) -> str:
    name = name.removesuffix("Fast")
    return _names().by_other_name.get(name, name)


@cache
def _names() -> _Names:
    tables = tomllib.loads(resources.files(__package__).joinpath("classes.toml").read_text(encoding="utf-8"))
    by_model_type = {kind: name for name, kinds in tables["model_types"].items() for kind in kinds}
    by_other_name = {other: name for name, others in tables["other_names"].items() for other in others}
    lists = {name: frozenset(values) for name, values in tables["lists"].items()}
    return _Names(by_model_type, by_other_name, lists["misnamed"], lists["classes"])
