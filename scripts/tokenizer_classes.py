"""Write which class transformers opens a tokenizer with, by the kind of model and by the name in its files.

Run where transformers is installed (not needed by the tests):

    python -m scripts.tokenizer_classes > src/neuralcore/embedding/tokenizer/classes.toml
"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable

import transformers
from transformers.models.auto import tokenization_auto

_WITH_MISTRAL_COMMON = "MistralCommonBackend"  # a package that does not read tokenizer.json
_KEEPS_FILE = "TokenizersBackend"


def main() -> None:
    """Print the tables."""
    print(f"# Written by scripts/tokenizer_classes.py from transformers {transformers.__version__}.\n")
    print("# By class, the kinds of model (model_type) whose usual class it is.\n[model_types]")
    kinds = _model_types()
    for name in sorted(kinds):
        print(f"{name} = {_list(kinds[name])}")
    print("\n# By class, its other names; Fast at the end of a name does not count.\n[other_names]")
    classes = _classes(kinds)
    for name in sorted(classes):
        if others := classes[name] - {name}:
            print(f"{name} = {_list(others)}")
    print("\n[lists]\n# Kinds of model whose usual class is taken, whatever their files call it.")
    print(f"misnamed = {_list(tokenization_auto.MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS)}")
    print("# Every class; what has another name is taken as it is.")
    print(f"classes = {_list(classes)}")


def _model_types() -> dict[str, set[str]]:
    """As the source has them: what is imported leaves out those for which a package is missing."""
    source = inspect.getsource(tokenization_auto)
    table = source[source.index("TOKENIZER_MAPPING_NAMES = ") : source.index("MODELS_WITH_INCORRECT_HUB")]
    kinds = defaultdict(set)
    for kind, name in re.findall(r'\(\s*"([^"]+)",\s*"(\w+)"', table):
        kinds[_KEEPS_FILE if name == _WITH_MISTRAL_COMMON else name.removesuffix("Fast")].add(kind)
    for kind in tokenization_auto.MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS - set().union(*kinds.values()):
        kinds[_KEEPS_FILE].add(kind)
    return kinds


def _classes(used: Iterable[str]) -> dict[str, set[str]]:
    gone = {"ElectraTokenizer", "LayoutLMTokenizer", "LongformerTokenizer", "BloomTokenizer", "PreTrainedTokenizer"}
    exported = {name.removesuffix("Fast") for name in dir(transformers) if re.search(r"Tokenizer(Fast)?$", name)}
    names = exported | set(used) | gone
    classes = defaultdict(set)
    for name in names - {"AutoTokenizer", "BasicTokenizer", "CharacterTokenizer", "MecabTokenizer"}:
        classes[_KEEPS_FILE if name == "PreTrainedTokenizer" else _class_name(name)].add(name)
    return classes


def _class_name(name: str) -> str:
    found = tokenization_auto.tokenizer_class_from_name(name)
    try:
        return str(found.__name__) if found else name
    except ImportError:  # stands for a class that needs a package that is missing
        return name


def _list(names: Iterable[str]) -> str:
    lines = textwrap.wrap(", ".join(map(json.dumps, sorted(names))), 112, break_on_hyphens=False)
    return "[" + "\n  ".join(["", *lines]) + ",\n]"


if __name__ == "__main__":
    main()
