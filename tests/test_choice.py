"""Which back end a model takes, and why: said before anything is made, and true of what is made."""

import json
import re
import shutil
from dataclasses import dataclass, field, replace

import pytest

from neuralcore.embedding import EmbeddingEngine, ModelUnavailable, Precision, UnsupportedModel
from neuralcore.embedding.backends.native.kernels import absence, choose_isa
from neuralcore.embedding.cli.process import run
from neuralcore.embedding.precision.choice import Choice, choose_backend, runs_natively
from neuralcore.embedding.store import make_store
from neuralcore.embedding.store.registry import find_spec
from tests import tiny_model
from tests.altered_folders import static
from tests.families import modules
from tests.ready import ready_graph

pytestmark = pytest.mark.skipif(bool(absence()), reason=absence())
ODD = next(case for case in modules()["bert_like"] if case.name == "bert_odd")
INT8 = Precision.INT8
WHY = "the native kernels do not know hidden states of size 36, which is not a multiple of 16 up to 65536"


def test_folder_whose_parts_the_kernels_know_is_native(tiny_folder, tmp_path):
    assert choose_backend(make_store(tmp_path / "cache"), tiny_folder, INT8) == Choice("native")
    assert not (tmp_path / "cache").exists()


def test_first_part_that_the_kernels_do_not_know_is_the_reason_and_the_engine_takes_onnx_runtime(tmp_path):
    folder = ODD.write(tmp_path / "odd")
    assert choose_backend(make_store(tmp_path / "cache"), folder, INT8) == Choice("onnxruntime", WHY)
    assert not (tmp_path / "cache").exists()
    with EmbeddingEngine.from_pretrained(folder, precision="int8", cache_dir=tmp_path / "cache") as engine:
        assert engine.backend == "onnxruntime cpu"


def test_kernels_that_are_switched_off_are_the_reason(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("NEURALCORE_ISA", "none")
    choice = choose_backend(make_store(tmp_path), tiny_folder, INT8)
    assert choice == Choice("onnxruntime", "no native kernels: switched off by NEURALCORE_ISA=none")


def test_onnx_file_is_used_as_it_was_found(tiny_folder, tmp_path):
    made = ready_graph(make_store(tmp_path / "cache"), tiny_folder).model_path
    folder = shutil.copytree(tiny_folder, tmp_path / "found")
    (folder / "model.safetensors").unlink()
    for path in made.parent.glob("model.onnx*"):
        shutil.copy(path, folder)
    choice = choose_backend(make_store(tmp_path / "cache"), folder, INT8)
    assert choice == Choice("onnxruntime", f"{folder / 'model.onnx'} is used as it was found")


def test_what_is_no_model_or_not_fetched_yet_is_said(tmp_path):
    store = make_store(tmp_path)
    assert choose_backend(store, "all-MiniLM-L6-v2", INT8) == Choice(None, "it is not fetched yet; its files will tell")
    with pytest.raises(UnsupportedModel, match="is no model folder"):
        choose_backend(store, tmp_path, INT8)
    with pytest.raises(UnsupportedModel, match="no such folder"):
        choose_backend(store, "nonsense", INT8)


@dataclass
class Cleaned:
    """A store whose Hub cache has lost the checkpoint."""

    variants: set = field(default_factory=set)
    fetched: list = field(default_factory=list)

    def has_variant(self, source, precision):
        return type(precision) is str and precision in self.variants

    def fetch(self, model, *, revision):
        self.fetched.append((model, revision))
        raise ModelUnavailable(model, [])


@pytest.fixture
def cleaned(tmp_path, tiny_folder):
    """The manifest of a model that came from the Hub, and whose checkpoint is gone."""
    source = make_store(tmp_path).ensure(tiny_folder)
    shutil.copytree(tiny_folder, tmp_path / "snapshot", ignore=shutil.ignore_patterns("*.safetensors"))
    about = {"folder": str(tmp_path / "snapshot"), "repository": "org/tiny", "revision": "main"}
    return replace(source, source={**source.source, **about})


@pytest.mark.parametrize(
    ("variants", "native"), [({"int8-native"}, True), ({"int8"}, False), ({"int8", "int8-native"}, True)]
)
def test_int8_that_was_made_needs_no_checkpoint(cleaned, variants, native):
    store = Cleaned(variants)
    assert runs_natively(store, cleaned, INT8) is native
    assert not store.fetched


def test_name_whose_checkpoint_is_gone_is_told_by_what_the_cache_has(cleaned, tmp_path, monkeypatch):
    store = make_store(tmp_path / "cache")
    target = store.target(find_spec("org/tiny"))
    shutil.copytree(cleaned.folder, target)
    replace(cleaned, folder=target).write(target)
    gone = f"its checkpoint is gone from {tmp_path / 'snapshot'}"
    wanted = Choice(None, f"{gone}; it is fetched again when int8 is asked for")
    assert choose_backend(store, "org/tiny", INT8) == wanted
    target.with_name("int8").mkdir()
    wanted = Choice("onnxruntime", f"that is what the cache has of it; {gone}")
    assert choose_backend(store, "org/tiny", INT8) == wanted
    target.with_name("int8-native").mkdir()
    assert choose_backend(store, "org/tiny", INT8) == Choice("native")
    monkeypatch.setenv("NEURALCORE_ISA", "none")
    assert choose_backend(store, "org/tiny", INT8) == wanted


def test_checkpoint_that_is_needed_and_gone_is_fetched_again(cleaned):
    store = Cleaned()
    with pytest.raises(ModelUnavailable):
        runs_natively(store, cleaned, INT8)
    assert store.fetched == [("org/tiny", "main")]


def test_native_engine_loads_without_opening_its_checkpoint(tmp_path, monkeypatch):
    folder = tiny_model.write(tmp_path / "tiny")
    EmbeddingEngine.from_pretrained(folder, precision="int8", cache_dir=tmp_path / "cache").close()

    def refuse(*_):
        raise AssertionError("opened")

    monkeypatch.setattr("neuralcore.embedding.store.folder.Checkpoint", refuse)
    with EmbeddingEngine.from_pretrained(folder, precision="int8", cache_dir=tmp_path / "cache") as engine:
        assert engine.backend == f"native {choose_isa()}"


def test_table_of_vectors_has_no_int8_that_would_run_on_anything(tmp_path, capfd):
    folder = static.static(tmp_path / "table")
    assert run(["info", str(folder), "--cache-dir", str(tmp_path / "cache")]) == 0
    shown = capfd.readouterr().out
    assert "a table of vectors has none" in shown
    assert re.findall(r"(\S+) runs on +(\S+)", shown) == [("fp32", "static")]
    assert "not native" not in shown


def test_info_of_a_model_tells_the_back_end_and_the_reason(tmp_path, tiny_folder, capfd):
    folder = ODD.write(tmp_path / "odd")
    for model, backend, reason in ((folder, "onnxruntime", WHY), (tiny_folder, f"native {choose_isa()}", None)):
        arguments = ["info", str(model), "--cache-dir", str(tmp_path / "cache")]
        assert run([*arguments, "--json"]) == 0
        told = json.loads(capfd.readouterr().out)
        assert (told["model"], told["int8_backend"], told["int8_reason"]) == (str(model), backend, reason)
        assert run(arguments) == 0
        shown = capfd.readouterr().out
        assert backend in shown
        assert (WHY in shown) is (reason is not None)
