"""Imports point down only: docs/architecture.md draws the layers, this holds them."""

import ast
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
    {"backends"},
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
    "ctypes": {"backends.native.kernels", "backends.onnx.session", "memory"},
    "onnxruntime": {"backends.onnx.session"},
    "tokenizers": {"tokenizer.reference"},
    "tokie": {"tokenizer.fast"},
    "huggingface_hub": {"store.hub"},
    "safetensors": set(),  # families/tensor_file.py reads them by itself
    "onnx": {"backends.onnx.write", "backends.onnx.graph_file", "backends.onnx.quantize"},
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


def modules() -> dict[str, Path]:
    paths = {path: path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in ROOT.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for path, name in paths.items() if name != "__init__"}


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
