"""Model folders that differ from the usual in one thing each, small and random, the same on every machine.

One module a group, with `FOLDERS`. `python -m scripts.golden_folders` writes what sentence-transformers makes of each
into golden/folders_<group>.npz, and test_altered_folders.py holds the engine to it. A folder that is refused says why.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from neuralcore.embedding import EmbeddingError, UnsupportedModel
from tests import tiny_model

TEXTS = (
    "the cat sat on the mat",
    "a big dog ran under the tree",
    "",
    "cat",
    "The CAT, the Dog!",
    "Résumé naïve café Ångström",
    "cat\u732b\u5750\u4e0bdog",
    "not\n\n a\t\u00a0\u200b red  mat ",
    "[CLS] the [MASK] cat [SEP] \U0001f63a",
    " ".join(["a small red dog ran under the big tree"] * 3),
    "the cat big cat red cat dog cat sat cat not cat on cat a cat small cat tree cat under cat mat cat " * 4,
    "3.14 x-ray_vision's tree; e\u0301 \u1e69 \u00df \u0130",
)
"""Cases, accents in both forms, Chinese, blanks, special tokens, a text near the limit and one far beyond it."""

SPECIAL_TOKENS = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


@dataclass(frozen=True)
class AlteredFolder:
    """One altered folder.

    Args:
        name: what is altered, unique in its group.
        alter: what is done to a folder that `plain` has written.
        refused: what the error says (a regular expression), for one that is not run here.
        error: of which kind it then is.
        unlike: types that are not compared ("query", "document", a prompt); a comment says why.
        plain: writes the folder that is then altered.
    """

    name: str
    alter: Callable[[Path], object]
    refused: str | None = None
    error: type[EmbeddingError] = UnsupportedModel
    unlike: tuple[str, ...] = ()
    plain: Callable[[Path], Path] | None = None

    def __str__(self) -> str:
        return self.name

    def write(self, folder: Path) -> Path:
        """Write the folder and return it."""
        (self.plain or plain)(folder)
        self.alter(folder)
        return folder


def plain(folder: Path) -> Path:
    """What is altered: a random BERT, mean pooling, unit length, no prompts, its tokenizer.json as it is."""
    tiny_model.write(folder)
    write(folder, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **SPECIAL_TOKENS})
    return folder


def groups() -> dict[str, Sequence[AlteredFolder]]:
    """The folders of each group."""
    return {info.name: import_module(f"{__name__}.{info.name}").FOLDERS for info in iter_modules(__path__)}


def write(folder: Path, name: str, value: Any) -> None:
    """Write a JSON file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def change(folder: Path, name: str, **values: Any) -> None:
    """Set keys of a JSON file; None, where a key should be taken out, is `...`."""
    own = {**json.loads((folder / name).read_text(encoding="utf-8")), **values}
    write(folder, name, {key: value for key, value in own.items() if value is not ...})


def changed(name: str, **values: Any) -> Callable[[Path], None]:
    """`change` as the `alter` of a folder."""
    return lambda folder: change(folder, name, **values)
