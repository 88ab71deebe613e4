"""Repositories laid out as those of well known models: what is fetched of them, and what is left where it is."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import save_file

from neuralcore.embedding import EmbeddingEngine, ModelUnavailable, UnsupportedModel
from neuralcore.embedding.store import Store, make_store
from neuralcore.embedding.store.registry import find_spec
from tests import foreign_graphs, hub_server, tiny_model
from tests.families import modules
from tests.families.tokenizers import SIZE, TOKENIZERS

REPOSITORY = "org/model"
CASES = {case.name: case for cases in modules().values() for case in cases}
OTHER_FORMATS = (
    "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "rust_model.ot", "unigram.json", "model.gguf",
    "onnx/model.onnx", "onnx/model_O4.onnx", "onnx/model_qint8_avx512.onnx", "onnx/tokenizer.json", "onnx/config.json",
    "openvino/openvino_model.bin", "openvino/openvino_model.xml", "openvino/config.json", "README.md", "vocab.txt",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "repository"


@pytest.fixture
def hub(folder):
    with hub_server.running(repositories={REPOSITORY: folder}) as state:
        yield state


@pytest.fixture
def store(hub, tmp_path) -> Store:
    return make_store(tmp_path / "cache", endpoint=hub.url, sources=("mirror",))


def put(folder: Path, *names: str, content: bytes = b"{}") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def fetched(store: Store) -> set[str]:
    """What is in the cache; and offline, all that is needed is there."""
    found = files(store.fetch(REPOSITORY))
    assert files(replace(store, offline=True).fetch(REPOSITORY)) == found
    return found


def test_weights_of_every_step_are_fetched_and_no_other_format(store, folder):
    """As LaBSE: two checkpoints, and the same weights in six more formats."""
    tiny_model.write(folder, modules=("Transformer", "Pooling", "Dense", "Normalize"))
    put(folder, "2_Dense/config.json", "2_Dense/model.safetensors", "2_Dense/pytorch_model.bin")
    put(folder, "special_tokens_map.json", "added_tokens.json")
    needed = files(folder) - {"2_Dense/pytorch_model.bin"}
    put(folder, *OTHER_FORMATS)
    assert fetched(store) == needed


def test_shards_and_bf16_are_fetched_and_give_the_folders_vectors(hub, store, folder, tmp_path):
    """As Qwen3-Embedding-4B."""
    CASES["qwen3_embedding"].write(folder, "bf16", n_shards=3)
    put(folder, "model-00004-of-00003.safetensors", "README.md")
    assert {path for path in fetched(store) if "safetensors" in path} == {
        "model.safetensors.index.json", *(f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3))
    }  # fmt: skip
    compare_with_folder(hub, folder, tmp_path)


def test_only_the_checkpoint_is_fetched_where_there_is_an_onnx_file_too(store, folder):
    """As multilingual-e5-base."""
    CASES["xlm_roberta"].write(folder)
    needed = files(folder)
    put(folder, *OTHER_FORMATS)
    assert fetched(store) == needed


def test_onnx_file_of_a_known_family_is_used_where_its_checkpoint_is_pickled(hub, store, folder, tmp_path):
    """As bge-m3: its weights are in files of any name, and it has a text's vector besides those of tokens."""
    CASES["xlm_roberta"].write(folder)
    (folder / "model.safetensors").unlink()
    pooling = {"word_embedding_dimension": 2, "pooling_mode_cls_token": True}
    put(folder, "1_Pooling/config.json", content=json.dumps(pooling).encode())
    needed = files(folder)
    write_split_graph(folder / "onnx", outputs=("token_embeddings", "sentence_embedding"))
    needed |= {name for name in files(folder) if name.startswith("onnx/")}
    put(folder, "pytorch_model.bin", "colbert_linear.pt", "onnx/tokenizer.json")
    assert fetched(store) == needed
    engine = compare_with_folder(hub, folder, tmp_path)
    first = int(engine.tokenize(["a"]).ids[0])
    np.testing.assert_allclose(engine.embed("a"), np.array([first, 1]) / np.hypot(first, 1), atol=1e-6)


def test_table_of_words_is_fetched_without_the_graph_beside_it(hub, store, folder, tmp_path):
    """As potion-base-8M: steps in the folder itself, none of which is an encoder."""
    steps = [("StaticEmbedding", "."), ("Normalize", "1_Normalize")]
    write_steps(folder, steps)
    put(folder, "config.json", content=b'{"model_type": "model2vec", "normalize": true}')
    write_table(folder, "embeddings")
    needed = files(folder)
    put(folder, *OTHER_FORMATS)
    assert fetched(store) == needed
    (folder / "modules.json").unlink()  # as it was saved at first: config.json says the same
    assert fetched(replace(store, cache_dir=tmp_path / "other")) == needed - {"modules.json"}
    compare_with_folder(hub, folder, tmp_path)


def test_table_of_words_in_a_folder_of_its_own_is_fetched(hub, store, folder, tmp_path):
    """As static-retrieval-mrl-en-v1."""
    write_steps(folder, [("StaticEmbedding", "0_StaticEmbedding")])
    write_table(folder / "0_StaticEmbedding", "embedding.weight")
    needed = files(folder)
    put(folder, "0_StaticEmbedding/pytorch_model.bin", "README.md")
    assert fetched(store) == needed
    compare_with_folder(hub, folder, tmp_path)


def test_pickled_table_of_words_is_refused(store, folder):
    write_steps(folder, [("StaticEmbedding", "0_StaticEmbedding")])
    put(folder, "0_StaticEmbedding/tokenizer.json", "0_StaticEmbedding/pytorch_model.bin", "onnx/model.onnx")
    with pytest.raises(UnsupportedModel, match=r"has 0_StaticEmbedding/pytorch_model.bin without"):
        store.fetch(REPOSITORY)


def test_gated_repository_says_what_to_do_and_is_fetched_with_a_token(hub, store, folder, tmp_path):
    """As embeddinggemma-300m: everyone may list it, and who has agreed to its terms may fetch it."""
    CASES["embeddinggemma"].write(folder)
    hub.answer = gate
    with pytest.raises(ModelUnavailable, match=r"401.*agreed to its terms.*token=, HF_TOKEN or `hf auth login`"):
        store.fetch(REPOSITORY)
    with pytest.raises(ModelUnavailable, match=r"403.*may need a token"):
        replace(store, token="of-somebody-else").fetch(REPOSITORY)
    assert fetched(replace(store, token="right")) == files(folder)


def gate(handler) -> bool:
    token = handler.headers.get("Authorization")
    if "/resolve/" not in handler.path or token == "Bearer right":
        return False
    handler.send_response(403 if token else 401)
    if not token:
        handler.send_header("X-Error-Code", "GatedRepo")
    handler.send_header("Content-Length", "0")
    handler.end_headers()
    return True


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin"])
def test_pickled_weights_are_refused_with_what_to_do(hub, store, folder, name):
    tiny_model.write(folder)
    (folder / "model.safetensors").unlink()
    put(folder, name, "other/pytorch_model.bin")
    with pytest.raises(UnsupportedModel, match=rf"has {name} without a model.safetensors.*save_pretrained") as caught:
        store.fetch(REPOSITORY)
    assert "other" not in str(caught.value)
    assert not [request for request in hub.requests if request.endswith(".bin")]


def test_pickled_step_is_refused_before_the_encoder_is_fetched(hub, store, folder):
    tiny_model.write(folder, modules=("Transformer", "Pooling", "Dense", "Normalize"))
    put(folder, "2_Dense/config.json", "2_Dense/pytorch_model.bin")
    with pytest.raises(UnsupportedModel, match=r"has 2_Dense/pytorch_model.bin without a model.safetensors"):
        store.fetch(REPOSITORY)
    assert not [request for request in hub.requests if request.endswith(".safetensors")]


def test_pickled_weights_that_another_program_cached_do_not_hide_the_checkpoint(hub, store, folder):
    from huggingface_hub import snapshot_download

    tiny_model.write(folder)
    put(folder, "pytorch_model.bin")
    snapshot_download(REPOSITORY, cache_dir=store.hub_cache, endpoint=hub.url, ignore_patterns=["*.safetensors"])
    assert "model.safetensors" in files(store.fetch(REPOSITORY))


REGISTERED = "intfloat/multilingual-e5-large"


@pytest.fixture
def registered(folder):
    """A model that is known by name, unpinned, and that its files say other things of than the registry."""
    tiny_model.write(folder)
    with hub_server.running(repositories={REGISTERED: folder}) as state:
        yield state


@pytest.mark.parametrize("name", [REGISTERED, "Multilingual-E5-Large"])
def test_files_of_a_known_model_win_and_its_card_adds_prompts(registered, folder, tmp_path, name):
    plain = EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "c")
    engine = EmbeddingEngine.from_pretrained(name, cache_dir=tmp_path / "c", endpoint=registered.url)
    assert (engine.config.name, engine.dimension, engine.max_tokens) == ("multilingual-e5-large", 48, 32)
    expected = plain.embed_batch(["query: the cat", "passage: the cat", "the cat"])
    vectors = [engine.embed_query("the cat"), engine.embed("the cat"), engine.embed("the cat", prompt="")]
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_known_model_that_another_program_cached_in_part_is_not_pooled_as_it_happens_to_be(registered, tmp_path):
    from huggingface_hub import hf_hub_download

    store = make_store(tmp_path / "cache", endpoint=registered.url, sources=("mirror",))
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        hf_hub_download(REGISTERED, name, cache_dir=store.hub_cache, endpoint=registered.url)
    with pytest.raises(ModelUnavailable, match="in part only"):
        replace(store, offline=True).fetch(REGISTERED)


def test_pinned_commit_is_asked_for_and_its_onnx_file_is_used(folder, tmp_path):
    """As bge-m3, by name."""
    commit = find_spec("bge-m3").revision
    tiny_model.write(folder)
    (folder / "model.safetensors").unlink()
    write_split_graph(folder / "onnx", outputs=("token_embeddings", "sentence_embedding"))
    put(folder, "1_Pooling/config.json", content=b'{"word_embedding_dimension": 2, "pooling_mode_cls_token": true}')
    with hub_server.running(repositories={"BAAI/bge-m3": folder}, commit=commit) as hub:
        engine = EmbeddingEngine.from_pretrained("bge-m3", cache_dir=tmp_path / "c", endpoint=hub.url)
    assert not [request for request in hub.requests if "/main" in request]
    assert (engine.dimension, engine.max_tokens) == (2, 32)


def compare_with_folder(hub, folder: Path, tmp_path: Path) -> EmbeddingEngine:
    texts = ["the cat sat", "ein Hund", ""]
    engine = EmbeddingEngine.from_pretrained(REPOSITORY, cache_dir=tmp_path / "c", endpoint=hub.url)
    expected = EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "c").embed_batch(texts)
    np.testing.assert_array_equal(engine.embed_batch(texts), expected)
    return engine


def write_steps(folder: Path, steps) -> None:
    entries = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(steps)
    ]
    put(folder, "modules.json", content=json.dumps(entries).encode())


def write_table(folder: Path, name: str) -> None:
    folder.mkdir(exist_ok=True)
    save_file({name: np.random.RandomState(1).normal(size=(SIZE, 8)).astype(np.float32)}, folder / "model.safetensors")
    TOKENIZERS["word_piece"]().save(str(folder / "tokenizer.json"))


def write_split_graph(folder: Path, outputs) -> None:
    """One weight, of one, in a file of its own."""
    folder.mkdir()
    foreign_graphs.write_foreign(folder / "model.onnx", op="Mul", outputs=outputs, n_components=2)
    model = onnx.load(folder / "model.onnx")
    next(node for node in model.graph.node if node.op_type == "Mul").input.append("weight")
    weight = onnx.numpy_helper.from_array(np.ones(2, np.float32), "weight")
    onnx.external_data_helper.set_external_data(weight, "Constant_7_attr__value")
    model.graph.initializer.append(weight)
    onnx.save(model, folder / "model.onnx")
    assert files(folder) == {"model.onnx", "Constant_7_attr__value"}
