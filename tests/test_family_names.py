"""A family's name stands in families/ and in the registry. What is written once for all families names none."""

import re
from pathlib import Path

import pytest

from neuralcore.embedding.families import MODEL_TYPES
from neuralcore.embedding.store.registry import registry

ROOT = Path(__file__).parents[1] / "src/neuralcore/embedding"
NATIVE = Path(__file__).parents[1] / "native"

# "new" is a word, and what follows a first number or underscore is a variant (qwen3, gemma3_text, nomic_bert).
FAMILIES = {re.split(r"[\d_]", kind)[0] for kind in MODEL_TYPES} - {"new"} | {"nomicbert", "albert"}
WORD = re.compile(rf"(?<![a-z])(?:{'|'.join(sorted(FAMILIES, key=len, reverse=True))})(?![a-z])", re.IGNORECASE)

# A tokenizer has kinds of its own, whatever family's model it came with: classes of transformers ("BertTokenizer") and
# parts of a tokenizer.json ("BertNormalizer"), and the words for them.
OF_TOKENIZERS = {
    "tokenizer/classes.py", "tokenizer/classes.toml", "tokenizer/effective.py", "tokenizer/files.py",
    "tokenizer/pieces.py", "tokenizer/proven.py", "tokenizer/rebuilds.py",
}  # fmt: skip
# What sentence-transformers calls the encoder's own file, "sentence_<one of these>_config.json".
OF_FILES = {"store/steps.py": {"bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta"}}
FILE_NAME = re.compile(r"sentence_[a-z]+_config\.json")


def sources() -> dict[str, Path]:
    paths = [path for path in ROOT.rglob("*") if path.suffix in {".py", ".toml"}]
    named = {path.relative_to(ROOT).as_posix(): path for path in paths}
    return {
        name: path
        for name, path in named.items()
        if not name.startswith("families/") and Path(name).stem != "registry" and name not in OF_TOKENIZERS
    }


def names_in(text: str) -> set[str]:
    """Families' names in a text, without those that are part of a model's or a file's name."""
    for spec in registry():
        text = text.replace(spec.name, "")
    text = FILE_NAME.sub("", text)
    forms = (text, re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text))  # RoBERTa, RobertaModel
    return {found[0].lower() for form in forms for found in WORD.finditer(form)}


@pytest.mark.parametrize("name", sorted(sources()))
def test_no_family_is_named(name):
    assert names_in(sources()[name].read_text(encoding="utf-8")) <= OF_FILES.get(name, set())


def test_kernels_know_no_family():
    files = [path for part in ("src", "include") for path in (NATIVE / part).rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not {path.name: found for path in files if (found := names_in(path.read_text(encoding="utf-8")))}


def test_exceptions_are_needed():
    for name in OF_TOKENIZERS | set(OF_FILES):
        assert names_in((ROOT / name).read_text(encoding="utf-8")), name


FOUND = ('kind == "qwen3"', "class BertGraph:", "_read_xlm-roberta", "BERT's norms", "RoBERTa", "gemma3_text", "is_gte")


@pytest.mark.parametrize("text", FOUND)
def test_name_is_found(text):
    assert names_in(text)


@pytest.mark.parametrize("text", ["sentence_bert_config.json", "all-mpnet-base-v2", "multilingual-e5-base", "alberta"])
def test_names_of_models_and_files_are_not(text):
    assert not names_in(text)
