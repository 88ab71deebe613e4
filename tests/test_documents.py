"""Files of others are read whole, refused with their own path, or said to be unreadable; nothing else comes through."""

import json
import os
import resource
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralcore.embedding.documents import Document, leaves_folder, open_file, read_object, read_objects
from neuralcore.embedding.errors import EmbeddingError, ModelCorrupt

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 90868376\n"
PROGRAM = """
import os, resource
from pathlib import Path
from neuralcore.embedding.documents import read_object
from neuralcore.embedding.errors import ModelUnavailable
"""


def document(**values):
    return Document("config.json", values)


def run(program: str) -> str:
    """What a program of its own prints, since it changes what the process may do."""
    command = [sys.executable, "-c", PROGRAM + program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("content", "found", "advice"),
    [
        (b"", "an empty file", "Copy or download it again"),
        (b"[1]", "a list", "again"),
        (b"null", "null", "again"),
        (b"3.5", "3.5", "again"),
        (b"{", "line 1", "again"),
        (b'{"a": "\xff"}', "utf-8", "again"),
        (b'\xef\xbb\xbf{"a": 1}', "a byte-order mark", "Save it again without one"),
        ('{"a": 1}'.encode("utf-16"), "a byte-order mark", "without"),
        (b"[" * 100_000, "brackets in brackets", "again"),
        (b'{"a": %s}' % (b"9" * 5000), "4300", "again"),
        (rb'{"a": ["\ud800"]}', "surrogates not allowed", "again"),
        (POINTER, "a pointer of git-LFS", "git lfs pull"),
        (b'{"a": "%s"}' % (b"x" * (8 << 20)), "a longer file", ""),
    ],
)
def test_file_that_is_no_json_object_is_refused_with_its_own_path(tmp_path, content, found, advice):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ModelCorrupt) as caught:
        read_object(path)
    assert caught.value.path == str(path)
    assert found in caught.value.actual
    assert advice in str(caught.value)


def test_character_that_is_escaped_in_two_halves_is_one(tmp_path):
    (tmp_path / "config.json").write_bytes(rb'{"a": "\ud83d\ude00"}')
    assert read_object(tmp_path / "config.json")["a"] == "\U0001f600"


def test_absent_file_is_an_empty_object_unless_it_is_required(tmp_path):
    assert not read_object(tmp_path / "config.json")
    assert read_objects(tmp_path / "modules.json") == []
    with pytest.raises(ModelCorrupt, match="no such file"):
        read_object(tmp_path / "config.json", required=True)


def test_link_to_nothing_a_folder_and_a_pipe_are_not_absent(tmp_path):
    dangling, folder, pipe, circle, below = (tmp_path / f"{name}.json" for name in ("link", "folder", "pipe", "o", "f"))
    dangling.symlink_to(tmp_path / "blobs/abc")
    folder.mkdir()
    os.mkfifo(pipe)
    circle.symlink_to(circle)
    below.write_text("{}")
    found = {dangling: "blobs/abc", folder: "a folder", pipe: "neither file nor folder", circle: "leads to no file"}
    for path, actual in {**found, below / "config.json": "Not a directory"}.items():
        with pytest.raises(ModelCorrupt, match=actual) as caught:
            read_object(path)
        assert caught.value.path == str(path)


def test_link_out_of_the_folder_is_followed_as_the_hubs_cache_needs(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs/abc").write_text('{"a": 1}')
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot/config.json").symlink_to("../blobs/abc")
    assert read_object(tmp_path / "snapshot/config.json")["a"] == 1


def test_file_that_may_not_be_read_is_not_called_damaged(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("{}")
    path.chmod(0)
    output = run(f"""
if os.geteuid() == 0:
    os.setuid(65534)  # root may read everything
try: read_object(Path({str(path)!r}))
except ModelUnavailable as error: print(error)
""")
    assert f"model '{path}'" in output
    assert "Permission denied" in output
    assert "account may read" in output


def test_too_many_open_files_are_not_called_damage(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("{}")
    output = run(f"""
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
kept = []
while len(kept) < 64:
    try: kept.append(os.open({str(path)!r}, os.O_RDONLY))
    except OSError: break
try: read_object(Path({str(path)!r}))
except ModelUnavailable as error: print(error)
""")
    assert "Too many open files" in output
    assert "ulimit -n" in output


def test_too_long_file_is_refused_without_being_read(tmp_path):
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(5 << 30)  # a hole: takes no room
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelCorrupt, match="at most"):
        read_object(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.mark.parametrize("value", [0, -1, True, 2.0, "3", [3], {}, 2**31, 10**400])
def test_integer_is_whole_and_in_range(value):
    with pytest.raises(ModelCorrupt, match=r"a whole number from 1 to .* for layers"):
        document(layers=value).integer("layers", 12, least=1)


@pytest.mark.parametrize("value", [False, "1e-12", [1.0], float("nan"), float("inf"), -1, 10**400])
def test_number_is_finite_and_in_range(value):
    with pytest.raises(ModelCorrupt, match="a finite number of at least 0 for epsilon"):
        document(epsilon=value).number("epsilon", 1e-12, least=0)


@pytest.mark.parametrize("value", [3, ["gelu"], {}, True, "\ud800"])
def test_text_is_text(value):
    with pytest.raises(ModelCorrupt, match="a text for act"):
        document(act=value).text("act", "gelu")


@pytest.mark.parametrize("value", [1, "true", []])
def test_flag_is_true_or_false(value):
    with pytest.raises(ModelCorrupt, match="true or false for causal"):
        document(causal=value).flag("causal", False)


def test_values_of_the_right_type_are_given_and_null_is_absent():
    values = document(n=3, x=1, t="a", f=False, none=None)
    assert (values.integer("n", 1), values.number("x", 0.5), values.text("t", ""), values.flag("f", True)) == (
        3, 1.0, "a", False,
    )  # fmt: skip
    assert (values.integer("none", 7), values.text("absent", None), values.section("none")) == (7, None, {})


def test_what_is_wrong_in_an_inner_object_is_named_by_its_whole_way(tmp_path):
    path = tmp_path / "modules.json"
    path.write_text(json.dumps([{"type": "a"}, {"type": 3}]))
    with pytest.raises(ModelCorrupt, match=r"a text for \[1\]\.type, found 3"):
        read_objects(path)[1].text("type", "")
    with pytest.raises(ModelCorrupt, match=r"rope\.theta"):
        document(rope={"theta": "x"}).section("rope").number("theta", 1.0)
    with pytest.raises(ModelCorrupt, match=r"an object for steps\[0\], found 'a'"):
        document(steps=["a"]).sections("steps")


@pytest.mark.parametrize(
    "name", ["..", "../x", "a/../../x", "/etc/passwd", "C:\\x", "C:x", "..\\x", "\\\\host\\share\\x", "a\0b", "\\x"]
)
def test_name_that_leads_out_of_the_folder_is_refused(name):
    assert leaves_folder(name)
    with pytest.raises(ModelCorrupt, match="inside of the model's folder"):
        document(path=name).inside("path")


@pytest.mark.parametrize("name", ["", "model.onnx.data", "1_Pooling", "onnx/weights..bin", "./a", "a...b"])
def test_name_inside_of_the_folder_is_taken(name):
    assert document(path=name).inside("path") == name


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(content)
    try:
        found = read_object(path)
    except ModelCorrupt:
        return
    assert repr(dict(found)) == repr(json.loads(content))


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=2)
)


@given(ANY)
def test_every_getter_gives_its_type_or_refuses(value):
    values = document(key=value)
    for getter, kind in (("integer", int), ("number", float), ("text", str), ("flag", bool)):
        try:
            found = getattr(values, getter)("key", None)
        except EmbeddingError:
            continue
        assert (found is None) == (value is None)
        assert found is None or type(found) is kind


def test_name_that_no_system_takes_is_no_such_file(tmp_path):
    for name in ("a" * 5000, "a\0b"):
        with pytest.raises(ModelCorrupt, match="damaged: expected JSON, found"):
            read_object(tmp_path / name, required=True)


def test_opened_file_is_read_from_its_beginning(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"0123456789")
    with open_file(path, "a safetensors file") as file:
        assert file.read() == b"0123456789"
