"""Where positions are angles alone, a text may be longer than config.json says, as in sentence-transformers."""

from dataclasses import replace

import pytest

from neuralcore.embedding import EmbeddingEngine
from neuralcore.embedding.documents import Document
from neuralcore.embedding.families import read_stack
from neuralcore.embedding.families.checkpoint import Checkpoint
from neuralcore.embedding.families.positions import _ENDLESS
from neuralcore.embedding.store.folder import ModelFolder
from tests.families.checkpoints import save
from tests.families.test_families import CASES, compare
from tests.families.texts import LIMIT, TEXTS

OF_FAMILIES = {case.config["model_type"]: case for _, case in reversed(CASES.values())}


def short(case):
    """The same with fewer positions than `max_seq_length`."""
    return replace(case, config={**case.config, "max_position_embeddings": LIMIT // 2})


@pytest.mark.parametrize("kind", sorted(_ENDLESS & OF_FAMILIES.keys()))
def test_limit_that_an_encoder_is_told_is_obeyed_beyond_that_of_its_config(tmp_path, kind):
    name = OF_FAMILIES[kind].name
    folder = short(OF_FAMILIES[kind]).write(tmp_path / "model")
    with EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache") as engine:
        assert engine.max_tokens == LIMIT
        compare(engine.embed_batch(TEXTS), name)


def test_one_that_is_told_no_limit_has_that_of_its_config(tmp_path):
    case = short(OF_FAMILIES["llama"])
    folder = replace(case, files={"sentence_bert_config.json": {"max_seq_length": None}}).write(tmp_path / "model")
    assert ModelFolder(folder).config().max_tokens == ModelFolder(folder).stack().max_positions == LIMIT // 2


@pytest.mark.parametrize("kind", OF_FAMILIES)
def test_tables_of_positions_are_of_the_families_that_end(tmp_path, kind):
    case = OF_FAMILIES[kind]
    save(tmp_path, case.tensors)
    stack = read_stack(
        Document(tmp_path / "config.json", dict(case.config)), Checkpoint(tmp_path / "model.safetensors")
    )
    embeddings = stack.read_embeddings()
    assert (embeddings.positions is None and embeddings.distance_bias is None) == (kind in _ENDLESS)
