"""The files that lie beside a tokenizer.json and have a say in what it means."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ..documents import Document, read_object
from ..errors import OutOfMemory, UnsupportedModel
from .reference import Reference, keep_vocabulary

_MOST_BYTES = 128 << 20  # of a tokenizer.json: Gemma's 256,000 pieces take 33 MB
_SETTINGS, _ARCHITECTURE = "tokenizer_config.json", "config.json"
_SPECIAL, _ADDED = "special_tokens_map.json", "added_tokens.json"
_KINDS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
_OF_SENTENCE_TRANSFORMERS = tuple(f"sentence_{kind}_config.json" for kind in _KINDS)
_PASSED_ON = ("tokenizer_args", "processor_kwargs")
_KNOWN_ARGUMENTS = frozenset(
    ("do_lower_case", "strip_accents", "tokenize_chinese_chars", "truncation_side", "add_prefix_space", "padding_side",
     "model_max_length", "clean_up_tokenization_spaces", "use_fast", "trust_remote_code", "token", "cache_dir",
     "revision", "subfolder", "local_files_only")
)  # fmt: skip


def write_effective(path: Path, target: Path) -> None:
    """Write the tokenizer.json that says what all files beside it say, for a folder in the cache, without those.

    Args:
        path: the tokenizer.json.
        target: where to write.

    Raises:
        UnsupportedModel, ModelCorrupt: as `read_effective`, and `Reference` of the result.
    """
    effective = read_effective(path)
    Reference(path, lowercase=False, document=effective)  # says what is wrong with it by its own path
    if effective is None:
        shutil.copyfile(path, target)
    else:
        target.write_text(effective, encoding="utf-8")
    keep_vocabulary(target)


def files_beside(path: Path) -> list[Path]:
    """The files that have a say in what a tokenizer.json means, as far as they are there."""
    names = (_SETTINGS, _ARCHITECTURE, _SPECIAL, _ADDED, *_OF_SENTENCE_TRANSFORMERS)
    return [path.parent / name for name in names if (path.parent / name).is_file()]


def read_effective(path: Path) -> str | None:
    """The tokenizer.json that says what all files beside it say; None where that is the file itself.

    Args:
        path: the tokenizer.json.

    Raises:
        UnsupportedModel: what they say is not known here.
        ModelCorrupt: one of them is damaged.
        OutOfMemory: there is no room for what is in them.
    """
    if not any((path.parent / name).exists() for name in (_SETTINGS, _ARCHITECTURE, _SPECIAL, _ADDED)):
        return None
    try:
        return _make_effective(path)
    except MemoryError as error:
        raise OutOfMemory.before_texts(f"reading {path}") from error


def _make_effective(path: Path) -> str | None:
    from .effective import TokenizerFiles, make_effective

    tokenizer = read_object(path, required=True, most_bytes=_MOST_BYTES)
    others = (read_object(path.parent / name) for name in (_ARCHITECTURE, _SPECIAL, _ADDED))
    effective = make_effective(TokenizerFiles(tokenizer, _read_settings(path.parent), *others))
    return None if effective == dict(tokenizer) else json.dumps(effective, ensure_ascii=False)


def read_passed_on(folder: Path) -> Document:
    """What sentence-transformers' own file in a folder passes on to the tokenizer, over what its settings say."""
    own = next(filter(None, (read_object(folder / name) for name in _OF_SENTENCE_TRANSFORMERS)), Document(folder))
    return Document(own.path, {key: value for name in _PASSED_ON for key, value in own.section(name).items()})


def _read_settings(folder: Path) -> Document:
    """tokenizer_config.json, overruled by what sentence-transformers' own file passes on."""
    settings, passed_on = read_object(folder / _SETTINGS), read_passed_on(folder)
    unknown = sorted(passed_on.keys() - _KNOWN_ARGUMENTS)
    if unknown:
        reason = f"{passed_on.path} passes arguments to its tokenizer that are not known here: {', '.join(unknown)}"
        raise UnsupportedModel(str(folder), reason)
    return Document(settings.path, {**settings, **passed_on})
