"""What an ONNX file says without its weights being read: operators, tensors, where they are kept and come from.

Weights may lie in other files beside the graph, whose names are in it. A graph that was made from another model can say
from which weights; the claim holds as long as the graph and its files are what they were when it was written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import AttributeProto, TensorProto

from ...documents import open_file
from ...errors import EmbeddingError, ModelCorrupt
from ...files import sha256, sha256_of_all
from .external_data import external_files, external_names

_ORIGIN, _CONTENT = "weights_sha256", "content_sha256"  # keys of the graph's metadata


def read_graph(path: Path) -> onnx.ModelProto:
    """The model without what lies in other files.

    Raises:
        ModelCorrupt: it cannot be read.
    """
    external_names(path)  # a name that leads elsewhere is refused before onnx sees it
    try:
        with open_file(path, "an ONNX model") as file:
            return onnx.load(file, format="protobuf", load_external_data=False)
    except EmbeddingError:
        raise
    except Exception as error:
        actual = str(error).partition("\n")[0] or type(error).__name__
        raise ModelCorrupt(str(path), expected="an ONNX model", actual=actual) from error


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and the bodies of its If, Loop and Scan, however deep."""
    yield graph
    for node in graph.node:
        for body in bodies(node):
            yield from all_graphs(body)


def bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs that a node runs."""
    found = [attribute.g for attribute in node.attribute if attribute.type == AttributeProto.GRAPH]
    return found + [graph for attribute in node.attribute for graph in attribute.graphs]


def all_tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """The constants of a graph and its bodies: initializers, and those that nodes hold."""
    for part in all_graphs(graph):
        yield from part.initializer
        for node in part.node:
            yield from (attribute.t for attribute in node.attribute if attribute.type == AttributeProto.TENSOR)


def weights_sha256(path: Path) -> str:
    """What tells the weights of one model from those of another.

    SHA-256 of the fp32 weights that it was made from, where the graph says so and neither it nor its files have
    changed; else of the file, or of the SHA-256s of it and of the files that hold its weights.

    Raises:
        ModelCorrupt: a file is missing or cannot be read.
    """
    model = read_graph(path)
    claims: dict[str, str] = {entry.key: entry.value for entry in model.metadata_props}
    if _ORIGIN in claims and claims.get(_CONTENT) == _content_sha256(model, path):
        return claims[_ORIGIN]
    return sha256_of_all([path, *external_files(path)])


def note_origin(path: Path, weights: str) -> None:
    """Let a graph say which weights it was made from.

    Args:
        path: an ONNX file that is whole, its weights beside it.
        weights: their SHA-256, as of `weights_sha256`.
    """
    model = read_graph(path)
    content = _content_sha256(model, path)
    for key, value in ((_ORIGIN, weights), (_CONTENT, content)):
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, str(path))


def _content_sha256(model: onnx.ModelProto, path: Path) -> str:
    """Of a graph, without what it says of its origin (which is taken out of it), and of its weights."""
    others = [entry for entry in model.metadata_props if entry.key not in {_ORIGIN, _CONTENT}]
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    digest = hashlib.sha256(model.SerializeToString(deterministic=True))
    for file in external_files(path):
        digest.update(bytes.fromhex(sha256(file)))
    return digest.hexdigest()
