"""Batches of Ray Data without Ray: dictionaries of arrays and Arrow tables; pandas is met by the tests of the edges."""

import numpy as np
import pyarrow as pa
import pytest

from neuralcore.embedding import InputError
from neuralcore.embedding.distributed.batches import texts_of, with_vectors
from neuralcore.embedding.distributed.recipe import EngineRecipe

VECTORS = np.array([[1, 2], [3, 4]], np.float32)
FORMS = {
    "numpy": lambda columns: {name: np.array(values, object) for name, values in columns.items()},
    "lists": dict,
    "arrow": pa.table,
}


@pytest.mark.parametrize("form", FORMS)
def test_batch_leaves_in_its_form_with_vectors_in_place_of_earlier_ones(form):
    batch = FORMS[form]({"text": ["cat", "dog"], "vector": [1, 2], "id": [3, 4]})
    assert texts_of(batch, "text") == ["cat", "dog"]
    found = with_vectors(batch, "vector", VECTORS)
    assert type(found) is type(batch)
    columns = found.to_pydict() if form == "arrow" else found
    assert list(columns) == ["text", "vector", "id"]
    np.testing.assert_array_equal(columns["vector"], VECTORS)
    added = with_vectors(batch, "new", VECTORS)
    np.testing.assert_array_equal(added.to_pydict()["new"] if form == "arrow" else added["new"], VECTORS)


@pytest.mark.parametrize("form", FORMS)
def test_missing_column_is_told_with_those_that_are_there(form):
    with pytest.raises(InputError, match="the batch has no column 'body'; it has 'text', 'id'"):
        texts_of(FORMS[form]({"text": ["cat"], "id": [1]}), "body")


def test_column_that_is_there_twice_is_told():
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"])
    with pytest.raises(InputError, match="the batch has 2 columns 'text'"):
        texts_of(table, "text")


def test_recipe_keeps_names_and_makes_folders_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org/name").mkdir(parents=True)
    assert EngineRecipe(model="org/name").model == str(tmp_path / "org/name")
    assert EngineRecipe(model="org/other").model == "org/other"
    assert EngineRecipe(cache_dir="cache").cache_dir == str(tmp_path / "cache")
    assert hash(EngineRecipe(model="org/name")) == hash(EngineRecipe(model=tmp_path / "org/name"))
