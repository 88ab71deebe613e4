"""A whole model in NumPy gives sentence-transformers' vectors: what is packed in fp32 is held to it."""

import numpy as np
import pytest

from neuralcore.embedding.precision.reference import embed_in_numpy
from neuralcore.embedding.store.folder import ModelFolder
from neuralcore.embedding.tokenizer import Tokenizer
from tests.altered_folders import TEXTS
from tests.test_altered_folders import RUN, golden

NAMES = [
    name
    for name, (group, folder) in RUN.items()
    if group == "dense" or (group == "steps" and folder.name.startswith(("pool", "plain", "no_normalize")))
]


@pytest.mark.parametrize("name", NAMES)
def test_vectors_are_those_of_sentence_transformers(tmp_path, name):
    group, folder = RUN[name]
    model = ModelFolder(folder.write(tmp_path / "model"))
    config = model.config()
    tokenizer = Tokenizer(model.tokenizer_path, max_tokens=config.max_tokens, lowercase=config.lowercase)
    embed = embed_in_numpy(model.stack(), model.dense_steps(config), config, tokenizer)
    np.testing.assert_allclose(embed(TEXTS), golden(group)[f"{folder.name}/encode"], rtol=0, atol=5e-6)


def test_there_are_poolings_and_steps_among_them():
    assert len(NAMES) > 12
