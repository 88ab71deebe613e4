"""The engine on altered model folders gives sentence-transformers' vectors, or says why it does not."""

import json
from dataclasses import replace
from functools import cache
from importlib import resources

import numpy as np
import onnx
import pytest

from neuralcore.embedding import EmbeddingEngine, UnsupportedModel
from neuralcore.embedding.backends.onnx.write import write_onnx
from neuralcore.embedding.convert import convert_model
from neuralcore.embedding.store import make_store
from neuralcore.embedding.store.folder import ModelFolder
from tests.altered_folders import TEXTS, groups
from tests.stacks import stack_of

ALL = {f"{group}/{folder.name}": (group, folder) for group, folders in groups().items() for folder in folders}
BOUND, BOUND_OF_UNIT_LENGTH = 5e-6, 1e-6
RUN = {name: pair for name, pair in ALL.items() if pair[1].refused is None}
DENSE = ("two_poolings", "two_without_bias", "residual_of_another_size", "unit_length_everywhere", "gelu")
CONVERTED = [name for name, (group, folder) in RUN.items() if group == "steps" or folder.name in DENSE]


@cache
def golden(group):
    with np.load(resources.files("tests.golden") / f"folders_{group}.npz") as arrays:
        return dict(arrays)


def expected(group, folder, *, has_default):
    """The vectors of each type; what is not written down gives those of encode, and so does no type where there is a
    default prompt. Where there is none, this package takes a text for a document.
    """
    own = {key.removeprefix(f"{folder.name}/"): value for key, value in golden(group).items()
           if key.startswith(f"{folder.name}/")}  # fmt: skip
    assert "error" not in own, f"sentence-transformers refuses it: {own}"
    encode = own.pop("encode")
    made = {
        "query": encode,
        "document": encode,
        **{call.removeprefix("prompt "): values for call, values in own.items()},
    }
    return {None: encode if has_default else made["document"], **made}


@pytest.mark.parametrize("name", RUN)
def test_vectors_are_those_of_sentence_transformers(tmp_path, name):
    group, folder = ALL[name]
    written = folder.write(tmp_path / "model")
    for backend in ("auto", "onnxruntime") if group in ("steps", "dense") else ("auto",):
        compare(written, group, folder, tmp_path / "cache", backend=backend)


@pytest.mark.parametrize("folder", [folder for folder in groups()["steps"] if folder.refused is None], ids=str)
def test_onnx_file_that_is_used_where_it_lies_obeys_the_same_steps(tmp_path, folder):
    written = folder.write(tmp_path / "model")
    model = ModelFolder(written)
    write_onnx(
        stack_of(model.safetensors_path, model.architecture),
        replace(model.config(), normalize=False),
        written / "model.onnx",
    )
    model.safetensors_path.unlink()
    compare(written, "steps", folder, tmp_path / "cache")


def compare(written, group, folder, cache, *, backend="auto"):
    with EmbeddingEngine.from_pretrained(written, cache_dir=cache, threads=1, backend=backend) as engine:
        has_default = engine.config.default_prompt is not None
        for embedding_type, vectors in expected(group, folder, has_default=has_default).items():
            if embedding_type in folder.unlike:
                continue
            bound = BOUND_OF_UNIT_LENGTH if np.allclose(np.linalg.norm(vectors, axis=1), 1) else BOUND
            own = engine.embed_batch(TEXTS, embedding_type=embedding_type)
            np.testing.assert_allclose(own, vectors, rtol=0, atol=bound, err_msg=str(embedding_type))


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


@pytest.mark.parametrize("declared", [False, True])
def test_graph_that_makes_a_sentence_itself_is_believed_where_no_file_says_how_to_pool(tmp_path, declared):
    """It has both outputs, and pools by the first token; 1_Pooling, where modules.json names it, pools by mean."""
    by_name = {folder.name: folder for folder in groups()["steps"]}
    folder = by_name["plain"].write(tmp_path / "model")
    model = ModelFolder(folder)
    config = replace(model.config(), pooling="cls", normalize=True)
    write_onnx(stack_of(model.safetensors_path, model.architecture), config, folder / "model.onnx")
    graph = onnx.load(folder / "model.onnx", load_external_data=False)
    assert {output.name for output in graph.graph.output} == {"last_hidden_state", "sentence_embedding"}
    del graph.metadata_props[:]  # as if another program had made it
    onnx.save(graph, folder / "model.onnx")
    model.safetensors_path.unlink()
    if not declared:
        (folder / "modules.json").unlink()
    vectors = golden("steps")["plain/encode" if declared else "pooling_cls/encode"]
    for engine in (
        EmbeddingEngine.from_pretrained(folder, max_tokens=32, cache_dir=tmp_path / "cache"),
        EmbeddingEngine(folder / "model.onnx", folder / "tokenizer.json"),
    ):
        with engine:
            assert engine.fingerprint.pooling == ("mean" if declared else "graph")
            own = np.stack([engine.embed(text) for text in TEXTS[:9]])  # those that no limit cuts
            np.testing.assert_allclose(own, vectors[:9], rtol=0, atol=BOUND_OF_UNIT_LENGTH)


def test_dimensions_of_the_caller_take_the_place_of_those_of_the_folder(tmp_path):
    by_name = {folder.name: folder for folder in groups()["steps"]}
    folder = by_name["truncate_dim"].write(tmp_path / "model")
    whole = golden("steps")["plain/encode"].astype(np.float64)
    with EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache") as engine:
        assert engine.dimension == engine.fingerprint.dimension == 16
        assert not engine.fingerprint.normalize
        assert engine.embed("cat").shape == (16,)
    with EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache", dimensions=16) as engine:
        assert engine.fingerprint.normalize  # another length than the folder's own 16 components have
    with EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache", dimensions=24) as engine:
        expected = whole[:, :24] / np.linalg.norm(whole[:, :24], axis=1, keepdims=True)
        np.testing.assert_allclose(engine.embed_batch(TEXTS), expected, rtol=0, atol=BOUND_OF_UNIT_LENGTH)


@pytest.mark.parametrize("name", CONVERTED)
def test_converted_folder_says_all_that_its_source_does(tmp_path, name):
    group, folder = ALL[name]
    source = folder.write(tmp_path / "model")
    store = make_store(tmp_path / "cache")
    written = convert_model(source, tmp_path / "converted", store=store).folder
    own, others = (ModelFolder(path, "same") for path in (written, source))
    assert own.config() == others.config()
    assert [path.read_bytes() for path in own.dense_paths] == [path.read_bytes() for path in others.dense_paths]
    compare(written, group, folder, tmp_path / "cache")


def test_onnx_file_of_others_is_refused_where_dense_steps_follow(tmp_path):
    """Its token vectors would have to go on through weights that lie elsewhere."""
    folder = next(folder for folder in groups()["dense"] if folder.name == "tanh_to_fewer")
    written = folder.write(tmp_path / "model")
    model = ModelFolder(written)
    plain = replace(model.config(), dense=(), dimension=48)
    write_onnx(stack_of(model.safetensors_path, model.architecture), plain, written / "model.onnx")
    model.safetensors_path.unlink()
    with pytest.raises(UnsupportedModel, match="does not run the Dense steps"):
        EmbeddingEngine.from_pretrained(written, cache_dir=tmp_path / "cache")


def test_folders_of_all_groups_are_forty_at_least():
    assert len(ALL) >= 40
