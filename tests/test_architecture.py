"""Imports point down only: docs/architecture.md draws the layers, this holds them."""

import ast
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src/neuralcore/embedding"
PACKAGE = "neuralcore.embedding"

LAYERS = [
    {"errors", "types", "config", "settings", "cpu", "forks", "memory"},
    {
        "pooling",
        "batch",
        "workers",
        "providers",
        "progress",
        "fingerprint",
        "samples",
        "arguments",
        "documents",
        "files",
    },
    {"healing", "truncation"},
    {"tokenizer"},
    {"families"},
    {"backends.onnx", "backends.native", "backends.static"},
    {"store"},
    {"precision"},
    {"convert"},
    {"loader"},
    {"stream"},
    {"engine"},
    {"verify", "calls"},
    {"admission"},
    {"aio"},
    {"server", "distributed"},
    {"cli"},
]
WALLS = {
    "ctypes": {"backends.native.kernels", "backends.native.library", "backends.onnx.session", "memory"},
    "onnxruntime": {"backends.onnx.session"},
    "tokenizers": {"tokenizer.reference"},
    "tokie": {"tokenizer.fast"},
    "huggingface_hub": {"store.hub"},
    "safetensors": set(),  # families/tensor_file.py reads them by itself
    "onnx": {"backends.onnx.write", "backends.onnx.graph_file", "backends.onnx.weights", "backends.onnx.quantize"},
    "sentence_transformers": {"verify"},
    "torch": {"backends.onnx.export"},
    "transformers": {"backends.onnx.export", "verify"},
    "click": {"cli"},
    "rich": {"cli", "progress"},
    "pyarrow": {"cli", "distributed.batches"},
    "filelock": {"files"},
    "platformdirs": {"settings"},
    "starlette": {"server"},
    "uvicorn": {"server.process", "server.connection"},
    "orjson": {"server"},
    "prometheus_client": {"server.metrics"},
    "ray": {"distributed.ray"},
    "pyspark": {"distributed.spark"},
}


@cache
def modules() -> dict[str, Path]:
    paths = {path: path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in ROOT.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for path, name in paths.items() if name != "__init__"}


@cache
def imports(name: str, path: Path) -> set[str]:
    """Full names of everything a module imports, wherever in it."""
    own = f"{PACKAGE}.{name}".split(".")
    base = own if path.name == "__init__.py" else own[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = base[: len(base) - node.level + 1] if node.level else []
            module = ".".join([*parent, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def room(name: str) -> str | None:
    """The room of the house that a module is in; None for a package that only holds rooms."""
    rooms = set().union(*LAYERS)
    return next((room for room in rooms if name == room or name.startswith(f"{room}.")), None)


def layer(room: str) -> int:
    return next(number for number, rooms in enumerate(LAYERS) if room in rooms)


@pytest.mark.parametrize("name", sorted(modules()))
def test_module_imports_only_from_lower_layers(name):
    found = [full.removeprefix(f"{PACKAGE}.") for full in imports(name, modules()[name]) if full.startswith(PACKAGE)]
    own = room(name)
    others = {other for other in map(room, found) if other not in (None, own)}
    above = {other for other in others if layer(other) > layer(own)}
    beside = {other for other in others if layer(own) >= 2 and layer(other) == layer(own)}
    assert not above | beside


def test_every_module_is_in_a_room():
    of_no_room = {name: path for name, path in modules().items() if room(name) is None}
    assert {name for name, path in of_no_room.items() if imports(name, path)} == set()
    assert set(of_no_room) <= {"backends"}


def imported_modules(name: str, path: Path) -> set[str]:
    """The package's own modules that a module imports, wherever in it; "" is the package itself."""
    known, found = modules().keys() | {""}, set()
    for full in imports(name, path):
        if f"{full}.".startswith(f"{PACKAGE}."):
            module = full.removeprefix(PACKAGE).removeprefix(".")
            while module not in known:
                module = module.rpartition(".")[0]
            found.add(module)
    return found - {name}


def circles(arrows: Mapping[str, Iterable[str]]) -> list[set[str]]:
    """Strongly connected components of more than one node (Tarjan's search)."""
    number, lowest, path, found = dict[str, int](), dict[str, int](), list[str](), list[set[str]]()

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        path.append(node)
        for other in arrows.get(node, ()):
            if other not in number:
                visit(other)
            if other in path:
                lowest[node] = min(lowest[node], lowest[other])
        if lowest[node] == number[node]:
            start = path.index(node)
            found.extend([set(path[start:])] if len(path) > start + 1 else [])
            del path[start:]

    for node in arrows:
        if node not in number:
            visit(node)
    return found


def test_circles_are_found():
    assert circles({"a": "b", "b": "cd", "c": "d", "d": ""}) == []
    assert circles({"a": "b", "b": "c", "c": "ad", "d": "e", "e": "d"}) == [{"d", "e"}, {"a", "b", "c"}]


def test_no_files_import_each_other_round_in_a_circle():
    root = ROOT / "__init__.py"
    arrows = {name: imported_modules(name, path) for name, path in [*modules().items(), ("", root)]}
    assert circles(arrows) == []


def test_no_file_of_one_back_end_is_imported_by_another():
    back_ends = sorted(path.name for path in (ROOT / "backends").iterdir() if (path / "__init__.py").is_file())
    assert {"native", "onnx"} <= set(back_ends)
    for name, path in modules().items():
        own = [each for each in back_ends if f"{name}.".startswith(f"backends.{each}.")]
        found = {module.split(".")[1] for module in imported_modules(name, path) if module.startswith("backends.")}
        assert not own or found <= set(own), name


@pytest.mark.parametrize("name", sorted(modules()))
def test_foreign_library_is_imported_in_its_wall_only(name):
    for full in imports(name, modules()[name]):
        homes = WALLS.get(full.split(".")[0])
        assert homes is None or any(name == home or name.startswith(f"{home}.") for home in homes), full


def test_environment_is_read_in_one_place():
    readers = {
        name for name, path in modules().items() if "os.environ" in path.read_text() or "getenv" in path.read_text()
    }
    assert readers == {"settings"}


def test_files_are_small_rooms():
    assert max(len(path.read_text().splitlines()) for path in modules().values()) <= 400


def test_adapters_know_the_public_names_their_framework_and_no_other_edge():
    for path in sorted((ROOT.parent / "integrations").glob("*.py")):
        text = path.read_text()
        ours = {line.split()[1] for line in text.splitlines() if line.startswith("from neuralcore")}
        assert ours <= {"neuralcore.embedding"}, path
        assert len(text.splitlines()) <= 160, path


def test_a_family_is_one_short_file_that_knows_no_back_end():
    from neuralcore.embedding.families import _MODULES

    for name in set(_MODULES.values()):
        path = ROOT / "families" / f"{name}.py"
        assert len(path.read_text().splitlines()) < 120, name
        assert not {full for full in imports(f"families.{name}", path) if "backends" in full or "onnx" in full}, name


TOP = ROOT.parents[2]
DOCUMENTS = [TOP / "CONTRIBUTING.md", TOP / "README.md", TOP / "benchmarks/README.md", *TOP.glob("docs/*.md")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_documents_name_are_there(document):
    starts = [TOP, ROOT, ROOT.parent, TOP / "native", TOP / "benchmarks"]
    known = {path.name for start in starts for path in start.iterdir()}
    found = re.findall(
        r"(?<![\w./<-])[\w-]+(?:/[\w.-]+)*(?:/|\.(?:py|toml|cpp|h|md))(?![\w/*<{])", document.read_text()
    )
    named = {name for name in found if "/" in name and name.split("/")[0] in known and not re.search("[A-Z]{4}", name)}
    assert not {name for name in named if not any((start / name).exists() for start in starts)}
    assert len(named) >= (10 if document.name == "architecture.md" else 0)
