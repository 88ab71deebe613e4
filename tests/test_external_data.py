"""Weights of an ONNX model in files beside it: through links they are found, by a name that leads elsewhere never."""

import shutil
from contextlib import suppress

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from neuralcore.embedding import EmbeddingEngine, detect_quantization, quantize_model
from neuralcore.embedding.backends.onnx.external_data import MESSAGES, external_files, external_names
from neuralcore.embedding.backends.onnx.graph_file import read_graph, weights_sha256
from neuralcore.embedding.backends.onnx.quantize.model import Model
from neuralcore.embedding.backends.onnx.weights import read_array
from neuralcore.embedding.backends.onnx.write import write_onnx
from neuralcore.embedding.errors import ModelCorrupt
from neuralcore.embedding.store.folder import ModelFolder
from tests import linked_folders, tiny_model
from tests.stacks import stack_of

TEXT = "the cat sat on the mat"
OUTSIDE = [
    "../secret.bin",
    "/etc/passwd",
    "a/../../secret.bin",
    "..\\secret.bin",
    "C:secret.bin",
    "*/_ORT_MEM_ADDR_/*",
    "",
]


@pytest.fixture(scope="module")
def onnx_folder(tmp_path_factory):
    """A model folder with a graph, its weights beside it, and no checkpoint."""
    folder = tiny_model.write(tmp_path_factory.mktemp("external") / "model")
    model = ModelFolder(folder)
    write_onnx(stack_of(folder / "model.safetensors", model.architecture), model.config(), folder / "model.onnx")
    (folder / "model.safetensors").unlink()
    return folder


@pytest.mark.parametrize(
    ("linked", "precision"),
    [
        (linked_folders.as_hub_cache, "fp32"),
        (linked_folders.as_hub_cache, "fp16"),
        (linked_folders.as_hub_cache, "int8"),
        (linked_folders.as_hard_links, "fp32"),
        (linked_folders.as_hard_links, "dynamic-int8"),
    ],
)
def test_every_precision_is_made_through_links(onnx_folder, linked, precision, tmp_path):
    folder = linked(onnx_folder, tmp_path / "linked")
    options = {"precision": precision, "threads": 1}
    with EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "a", **options) as engine:
        actual, weights = engine.embed(TEXT), engine.fingerprint.weights
    with EmbeddingEngine.from_pretrained(onnx_folder, cache_dir=tmp_path / "b", **options) as engine:
        np.testing.assert_array_equal(actual, engine.embed(TEXT))
        assert engine.fingerprint.weights == weights


def lead_to(folder, location, target):
    """A copy of a folder whose graph keeps its weights where `location` says."""
    shutil.copytree(folder, target)
    model = onnx.load(target / "model.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    (target / "model.onnx").write_bytes(model.SerializeToString())
    (target / "model.onnx.data").rename(target.parent / "secret.bin")  # so that a library would find it
    return target


@pytest.mark.parametrize("location", OUTSIDE)
def test_name_that_leads_elsewhere_is_refused_before_a_library_opens_it(onnx_folder, location, tmp_path, monkeypatch):
    import onnxruntime

    folder = lead_to(onnx_folder, location, tmp_path / "evil")
    path, tokenizer_path = folder / "model.onnx", folder / "tokenizer.json"
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: pytest.fail("it was opened"))
    monkeypatch.setattr(onnx, "load", lambda *_, **__: pytest.fail("it was loaded"))
    config = ModelFolder(folder).config()
    for attempt in (
        lambda: EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache"),
        lambda: EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache", precision="fp16"),
        lambda: EmbeddingEngine(path, tokenizer_path, config),
        lambda: quantize_model(path, tmp_path / "out.onnx", "int8", tokenizer_path=tokenizer_path),
        lambda: detect_quantization(path),
        lambda: weights_sha256(path),
    ):
        with pytest.raises(ModelCorrupt, match="weights in files beside it") as caught:
            attempt()
        assert caught.value.path == str(path)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda data: data.unlink(), "no such file"),
        (lambda data: (data.unlink(), data.symlink_to("blobs/gone")), "a link to blobs/gone"),
        (lambda data: (data.unlink(), data.mkdir()), "a folder"),
        (lambda data: data.write_bytes(b""), "an empty file"),
        (lambda data: data.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "git lfs pull"),
    ],
)
def test_weights_that_are_not_there_are_told_by_their_own_path(onnx_folder, damage, found, precision, tmp_path):
    folder = shutil.copytree(onnx_folder, tmp_path / "model")
    damage(folder / "model.onnx.data")
    with pytest.raises(ModelCorrupt, match=found) as caught:
        EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache", precision=precision)
    assert caught.value.path == str(folder / "model.onnx.data")


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("length", "3", "3 from"),
        ("length", "many", "many"),
        ("offset", "-4096", "from -4096 on"),
        ("offset", str(1 << 60), "the end of the file"),
        ("offset", "x", "x"),
    ],
)
def test_place_that_cannot_be_is_refused(onnx_folder, key, value, found, tmp_path):
    folder = shutil.copytree(onnx_folder, tmp_path / "model")
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.external_data)
    entry = next(entry for entry in tensor.external_data if entry.key == key)
    entry.value = value
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    for read in (lambda: read_array(tensor, folder / "model.onnx"), lambda: Model(folder / "model.onnx")):
        with pytest.raises(ModelCorrupt, match=found):
            read()


def test_weights_that_were_read_are_those_that_onnx_reads(onnx_folder, tmp_path):
    path = shutil.copytree(onnx_folder, tmp_path / "copy") / "model.onnx"  # which has no second name
    model = read_graph(path)
    expected = onnx.load(path)
    for own, other in zip(model.graph.initializer, expected.graph.initializer, strict=True):
        np.testing.assert_array_equal(read_array(own, path), numpy_helper.to_array(other))


def test_walk_knows_every_place_where_onnx_can_have_a_tensor():
    """So that a new version of onnx.proto with another place fails here."""
    reached, waiting = {}, [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        kind = waiting.pop()
        if kind.name not in reached:
            reached[kind.name] = {f.number: f.message_type for f in kind.fields if f.message_type is not None}
            waiting += reached[kind.name].values()

    def holds_tensors(name, seen=()):
        inner = (field.name for field in reached[name].values())
        return name == "TensorProto" or any(holds_tensors(i, (*seen, name)) for i in inner if i not in (*seen, name))

    places = {name: {number: kind.name for number, kind in fields.items() if holds_tensors(kind.name)}
              for name, fields in reached.items() if name != "TensorProto" and holds_tensors(name)}  # fmt: skip
    assert {name: fields for name, fields in MESSAGES.items() if name != "TensorProto"} == places
    assert reached["TensorProto"][13].name == MESSAGES["TensorProto"][13] == "StringStringEntryProto"


def external(name: str, location: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def everywhere() -> onnx.ModelProto:
    """A tensor at each place of a model; no graph that means anything."""
    model = onnx.ModelProto(ir_version=10)
    inner = onnx.GraphProto(name="inner", initializer=[external("a", "in_body")])
    attribute = AttributeProto(name="x", type=AttributeProto.GRAPH, g=inner, t=external("b", "in_attribute"))
    attribute.tensors.append(external("c", "in_list"))
    attribute.graphs.add(initializer=[external("d", "in_graphs")])
    attribute.sparse_tensor.values.CopyFrom(external("e", "in_sparse_attribute"))
    attribute.sparse_tensors.add(indices=external("f", "in_sparse_list"))
    node = onnx.NodeProto(op_type="If", attribute=[attribute])
    model.graph.node.append(node)
    model.graph.initializer.append(external("g", "in_graph"))
    model.graph.sparse_initializer.add(values=external("h", "in_sparse"))
    model.functions.add(node=[onnx.NodeProto(attribute=[AttributeProto(t=external("i", "in_function"))])])
    model.functions.add(attribute_proto=[AttributeProto(t=external("j", "in_default"))])
    model.training_info.add(initialization=onnx.GraphProto(initializer=[external("k", "in_training")]))
    return model


def test_names_are_found_wherever_a_tensor_can_be(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(everywhere().SerializeToString())
    expected = {"body", "attribute", "list", "graphs", "sparse_attribute", "sparse_list", "graph", "sparse", "function",
                "default", "training"}  # fmt: skip
    assert external_names(path) == sorted(f"in_{name}" for name in expected)


@pytest.mark.parametrize(
    "entry",
    [
        b"\x12\x04../x" + b"\x0a\x08location",  # the value first
        b"\x0a\x88\x00location" + b"\x12\x84\x80\x00../x",  # longer numbers than needed
        b"\x0a\x01y\x0a\x08location" + b"\x12\x01z\x12\x04../x",  # the last one counts
        b"\x8a\x00\x08location" + b"\x12\x04../x",  # even for what part it is
        b"\x0a\x08location\x12\x04../x\x18\x07\x21" + bytes(8) + b"\x2d" + bytes(4),  # parts that nobody knows
    ],
)
def test_name_is_found_however_it_is_encoded(entry, tmp_path):
    path = tmp_path / "model.onnx"
    tensor = b"\x6a" + bytes([len(entry)]) + entry
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    path.write_bytes(b"\x3a" + bytes([len(graph)]) + graph)
    found = onnx.load_model_from_string(path.read_bytes()).graph.initializer[0].external_data[0]
    assert (found.key, found.value) == ("location", "../x")
    with pytest.raises(ModelCorrupt, match=r"'\.\./x'"):
        external_names(path)


def locations_of(message) -> set[str]:
    """As onnx's own classes have them."""
    if isinstance(message, TensorProto):
        return {entry.value for entry in message.external_data if entry.key == "location"}
    found = set()
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if hasattr(value, "__len__") else [value]:
                found |= locations_of(inner)
    return found


VALID = everywhere().SerializeToString()


@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(VALID)))
def test_no_damage_hides_a_name_that_onnx_still_reads(tmp_path_factory, changes, cut):
    content = bytearray(VALID)
    for position, byte in changes:
        content[position] = byte
    content = bytes(content[:cut]) if cut > len(VALID) // 2 else bytes(content)
    path = tmp_path_factory.getbasetemp() / "changed.onnx"
    path.write_bytes(content)
    try:
        names = external_names(path)
    except ModelCorrupt:
        return  # refused, whatever onnx would make of it
    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # noqa: BLE001 - onnx refuses more than the walk does
        return
    assert locations_of(model) <= set(names)


@given(st.binary(max_size=60))
def test_any_bytes_are_names_or_a_refusal(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(content)
    with suppress(ModelCorrupt):
        assert all(isinstance(name, str) for name in external_names(path))


def test_a_file_of_nothing_but_parts_is_not_walked_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("neuralcore.embedding.backends.onnx.external_data._MOST_FIELDS", 1000)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x01" * 2000)
    with pytest.raises(ModelCorrupt, match="more than 1000 parts"):
        external_files(path)


def test_graph_that_holds_its_weights_itself_names_no_files(tmp_path):
    graph = helper.make_graph([], "g", [], [], [numpy_helper.from_array(np.zeros(9, np.float32), "w")])
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    assert external_files(tmp_path / "model.onnx") == []
