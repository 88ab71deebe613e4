"""Write what transformers makes of the random tokenizer folders of tests/tokenizer_folders.py: token ids.

Run where transformers is installed (not needed by the tests):

    python -m scripts.golden_tokenizers [FIRST LAST OUTPUT]

Each text is cut to `MAX_TOKENS` as sentence-transformers has it cut. A folder that transformers refuses has no ids.
"""

from __future__ import annotations

import json
import sys
import warnings
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import transformers
from transformers import AutoTokenizer

folders: Any = import_module("tests.tokenizer_folders")  # tests are not type-checked
_GOLDEN = Path(__file__).parents[1] / "tests/golden/tokenizers.npz"


def main() -> None:
    """Write the ids of every text of every folder, one after the other, and the length of each; -1 if refused."""
    transformers.utils.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    arguments = sys.argv[1:] or ["0", str(folders.N_FOLDERS), str(_GOLDEN)]
    seeds = range(int(arguments[0]), int(arguments[1]))
    rows = [row for seed in seeds for row in _tokenize(seed)]
    about = {"transformers": transformers.__version__, "first": seeds.start, "last": seeds.stop}
    np.savez_compressed(
        arguments[2],
        ids=np.array([token for row in rows for token in row or []], np.int16),
        lengths=np.array([-1 if row is None else len(row) for row in rows], np.int16),
        about=np.array(json.dumps(about)),
    )
    print(f"{len(seeds)} folders, of which {rows.count(None) // len(folders.TEXTS)} are refused")


def _tokenize(seed: int) -> list[list[int] | None]:
    with TemporaryDirectory() as temporary:
        try:
            tokenizer = AutoTokenizer.from_pretrained(folders.write(Path(temporary), seed), local_files_only=True)
            return [
                tokenizer(text, truncation="longest_first", max_length=folders.MAX_TOKENS)["input_ids"]
                for text in folders.TEXTS
            ]
        except Exception as error:  # noqa: BLE001 - whatever it is, there are no ids
            print(f"{seed}: {type(error).__name__}: {str(error)[:150]!r}")
            return [None] * len(folders.TEXTS)


if __name__ == "__main__":
    main()
