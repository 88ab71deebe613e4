"""The engine on altered model folders gives sentence-transformers' vectors, or says why it does not."""

import json
from functools import cache
from importlib import resources

import numpy as np
import pytest

from neuralcore.embedding import EmbeddingEngine
from tests.altered_folders import TEXTS, groups

ALL = {f"{group}/{folder.name}": (group, folder) for group, folders in groups().items() for folder in folders}
BOUND, BOUND_OF_UNIT_LENGTH = 5e-6, 1e-6


@cache
def golden(group):
    with np.load(resources.files("tests.golden") / f"folders_{group}.npz") as arrays:
        return dict(arrays)


def expected(group, folder):
    """The vectors of each call; one that is not written down gives those of encode."""
    own = {key.removeprefix(f"{folder.name}/"): value for key, value in golden(group).items()
           if key.startswith(f"{folder.name}/")}  # fmt: skip
    return {"query": own.get("encode"), "document": own.get("encode"), **own}


@pytest.mark.parametrize("name", [name for name, (_, folder) in ALL.items() if folder.refused is None])
def test_vectors_are_those_of_sentence_transformers(tmp_path, name):
    group, folder = ALL[name]
    with EmbeddingEngine.from_pretrained(
        folder.write(tmp_path / "model"), cache_dir=tmp_path / "cache", threads=1
    ) as engine:
        for call, vectors in expected(group, folder).items():
            if call in folder.unlike or call == "encode":
                continue
            assert call != "error", f"sentence-transformers refuses it: {vectors}"
            bound = BOUND_OF_UNIT_LENGTH if np.allclose(np.linalg.norm(vectors, axis=1), 1) else BOUND
            own = engine.embed_batch(TEXTS, embedding_type=call.removeprefix("prompt "))
            np.testing.assert_allclose(own, vectors, rtol=0, atol=bound, err_msg=call)


@pytest.mark.parametrize("name", [name for name, (_, folder) in ALL.items() if folder.refused is not None])
def test_folder_that_is_not_run_here_is_refused_with_the_reason(tmp_path, name):
    _, folder = ALL[name]
    written = folder.write(tmp_path / "model")
    with pytest.raises(folder.error, match=folder.refused):
        EmbeddingEngine.from_pretrained(written, cache_dir=tmp_path / "cache", threads=1)


@pytest.mark.parametrize("group", groups())
def test_every_folder_has_its_golden_values(group):
    names = {key.partition("/")[0] for key in golden(group)} - {"about"}
    assert names == {folder.name for folder in groups()[group]}
    assert json.loads(str(golden(group)["about"]))["sentence_transformers"].startswith("6.2")


def test_no_name_twice():
    assert len(ALL) == sum(len(folders) for folders in groups().values())
