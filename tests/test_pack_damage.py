"""A packed file is trusted in nothing: whatever is wrong with it is said when it is loaded, and nothing crashes."""

import json
import os
import re
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neuralcore.embedding import EmbeddingEngine, ModelCorrupt, ModelUnavailable, OutOfMemory
from neuralcore.embedding.backends.native.check import check_model
from neuralcore.embedding.backends.native.file import open_model, read_packed, write_packed
from neuralcore.embedding.backends.native.kernels import absence
from neuralcore.embedding.loader import ModelFile
from tests.children import run_in_child
from tests.packed_damage import KINDS, Packed, check_damaged, enumerate_damage, random_damage, with_value

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork() and its kin")


SOME = ("mpnet", "modernbert", "qwen3", "gemma3")  # all that there is to say, in one of them


@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, id="-".join(kind), marks=() if kind[0] in SOME else pytest.mark.full) for kind in KINDS],
)
def packed(request, tmp_path_factory) -> Packed:
    return Packed.make(*request.param, tmp_path_factory.mktemp("packed"))


def say(packed: Packed, path: Path, **about) -> Path:
    """The model with other words in its header."""
    path.write_bytes(replace(packed, about={**packed.about, **about}).whole())
    return path


@posix
def test_damage_of_every_kind_is_refused_or_gives_finite_vectors(packed, tmp_path, monkeypatch):
    """A part of what `python -m faults packed` tries, in one child that says what it is at."""
    if absence(packed.precision):
        monkeypatch.setenv("NEURALCORE_ISA", "scalar")  # which every CPU has
    if reason := absence(packed.precision):
        pytest.skip(reason)
    path, progress = tmp_path / "damaged.safetensors", tmp_path / "progress"
    enumerated, random = islice(enumerate_damage(packed), 0, None, 61), islice(random_damage(packed, Random(1)), 20)

    def run() -> dict[str, int]:
        counts = {"ran": 0, "refused": 0}
        for name, damage in chain(enumerated, random):
            progress.write_text(name)
            damage(path)
            counts[check_damaged(path).split(":")[0]] += 1
        return counts

    try:
        counts = run_in_child(run, seconds=120)
    except AssertionError as error:
        raise AssertionError(f"{progress.read_text()}: {error}") from error
    assert eval(counts)["refused"] > 50
    assert eval(counts)["ran"] > 5


def test_whole_model_is_accepted(packed, tmp_path):
    tensors, about = open_model(say(packed, tmp_path / "whole.safetensors"))
    assert about == packed.about
    assert tensors.keys() == packed.header.keys()


class Untouched(np.ndarray):
    """An array that knows its shape, and whose numbers nobody may look at."""

    def __array_ufunc__(self, *_, **__):
        raise AssertionError("looked at")

    __array_function__ = __array_ufunc__


def test_weights_of_products_and_words_stay_on_the_disk_while_a_model_is_opened(packed, tmp_path):
    tensors, about = read_packed(say(packed, tmp_path / "whole.safetensors"))
    hidden = {
        name: values.view(Untouched)
        if name == "words" or re.search(r"(qkv|out|up|gate|down).weight$", name)
        else values
        for name, values in tensors.items()
    }
    with pytest.raises(AssertionError, match="looked at"):
        hidden["words"].min()
    check_model(hidden, about)


FIRST, LAST = ("attentions", 0), ("attentions", 2)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ((*FIRST, "n_heads"), 0, "n_heads = 0 in its header, not 1 to 65536"),
        ((*FIRST, "n_heads"), -3, "n_heads = -3"),
        ((*FIRST, "n_heads"), True, "n_heads = True"),
        ((*FIRST, "n_heads"), 2**31, "n_heads = 2147483648"),
        ((*FIRST, "n_heads"), 5000, "5000 heads of 16 components: not .* beyond 65536"),
        ((*LAST, "n_key_heads"), 0, "n_key_heads = 0"),
        ((*LAST, "n_key_heads"), 4, "heads that cannot share 4 key heads"),
        ((*LAST, "n_key_heads"), 10**6, "n_key_heads = 1000000"),
        ((*LAST, "head_size"), 24, "heads of 24 components: not multiples of 16"),
        ((*LAST, "head_size"), 32, ", not "),
        ((*LAST, "head_size"), 1040, "head_size = 1040"),
        ((*LAST, "head_size"), None, "head_size = None"),
        ((*FIRST, "rotary"), -1, "rotary = -1"),
        ((*FIRST, "rotary"), 7, "no cosines.7"),
        ((*FIRST, "rotary"), 2**31, "rotary = 2147483648"),
        ((*FIRST, "causal"), 0, "causal = 0"),
        ((*FIRST, "window"), -1, "window = -1"),
        ((*FIRST, "window"), 10**6, "window = 1000000"),
        ((*FIRST, "window"), False, "window = False"),
        (FIRST, None, "None among attentions"),
        (("attentions",), [], "0 attentions in its header, for 3 layers"),
        (("attentions",), {}, "attentions = {}"),
        (("n_layers",), 2, "3 attentions in its header, for 2 layers"),
        (("n_layers",), 10**9, "n_layers = 1000000000"),
        (("max_positions",), 63, ", not float32"),
        (("max_positions",), 10**9, "max_positions = 1000000000"),
        (("epsilon",), 0.0, "epsilon = 0.0"),
        (("epsilon",), 1e-46, "epsilon = 1e-46"),
        (("epsilon",), "1e-12", "epsilon = '1e-12'"),
        (("precision",), "fp64", "precision = 'fp64' in its header, not int8, fp32, fp16, bf16"),
        (("precision",), "dynamic-int8", "precision = 'dynamic-int8'"),
        (("precision",), None, "precision = None"),
        (("precision",), 1, "precision = 1"),
        (("norm",), "group", "norm = 'group' in its header, not layer, rms"),
        (("gated",), 1, "gated = 1"),
        (("activation",), "tanh", "activation = 'tanh' in its header, not gelu"),
        (("activation",), ["gelu"], "activation = "),
        (("pad_position",), -1, "pad_position = -1"),
        (("pad_position",), 10**6, "pad_position = 1000000"),
        (("pad_position",), "1", "pad_position = '1'"),
        (("pack_version",), 99, "version 99 of the format, not"),
        (("made_from",), 3, "made_from = 3"),
        (("dense",), None, "dense = None"),
        (("dense",), [], "dense.0.bias as well"),
        (("dense", 0), 3, "3 among dense"),
        (("dense", 0, "activation"), "mish", "activation = 'mish' in its header, not gelu"),
        (("dense", 0, "residual"), True, "dense.0 that adds its 48 inputs to 32 outputs"),
        (("dense", 1, "residual"), False, "dense.1.residual as well"),
        (("dense", 2, "residual"), 1, "residual = 1"),
    ],
)
def test_header_is_checked_and_the_message_says_what_is_wrong(place, value, told, packed, tmp_path):
    about = with_value(packed.about, place, value)
    path = say(packed, tmp_path / "damaged.safetensors", **about)
    with pytest.raises(ModelCorrupt, match=told.replace("*", ".*")) as caught:
        open_model(path)
    assert caught.value.path == str(path)
    assert "load the model again" in str(caught.value)


def test_layers_that_share_a_table_of_angles_have_heads_of_one_size(packed, tmp_path):
    """The last layer's heads fit the table that is there, the first one's do not."""
    attentions = packed.about["attentions"]
    if attentions[0]["rotary"] is None or attentions[0]["rotary"] != attentions[1]["rotary"]:
        pytest.skip("layers share no table")
    tensors, about = read_packed(say(packed, tmp_path / "whole.safetensors"))
    changed = {name: np.array(tensor) for name, tensor in tensors.items()}
    n_heads, n_key_heads = (attentions[0][key] for key in ("n_heads", "n_key_heads"))
    for part, n_in, n_out in (("qkv", 48, 32 * (n_heads + 2 * n_key_heads)), ("out", 32 * n_heads, 48)):
        weight, group = tensors[f"layers.0.{part}.weight"].dtype, tensors[f"layers.0.{part}.weight"].shape[3]
        changed[f"layers.0.{part}.weight"] = np.zeros((n_out // 16, n_in // group, 16, group), weight)
        for name in {"bias", "column_scale", "column_sum"} & {name.split(".")[-1] for name in tensors}:
            changed[f"layers.0.{part}.{name}"] = np.zeros(n_out, tensors[f"layers.0.{part}.{name}"].dtype)
    changed = {name: tensor for name, tensor in changed.items() if not re.match(r"layers.0.\w+_norm", name)}
    write_packed(tmp_path / "two.safetensors", changed, with_value(about, (*FIRST, "head_size"), 32))
    with pytest.raises(ModelCorrupt, match=r"(cosines|sines).0 is float32 \(64, 8\), not float32 \(64, 16\)"):
        open_model(tmp_path / "two.safetensors")


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("layers.0.up.weight", "float32"), ("layers.0.up.weight", "uint16"), ("layers.0.up.weight", "int8"),
     ("layers.2.down.weight", "float16"), ("words", "float32"), ("words", "float16"), ("words", "int8")],
)  # fmt: skip
def test_weights_and_words_are_of_the_precision_that_the_header_says(name, dtype, packed, tmp_path):
    tensors, about = read_packed(say(packed, tmp_path / "whole.safetensors"))
    kept = tensors[name].dtype.name
    if kept == dtype:
        pytest.skip("that is its own")
    changed = {key: np.array(tensor) for key, tensor in tensors.items()}
    changed[name] = np.zeros(tensors[name].shape, dtype)
    write_packed(tmp_path / "other.safetensors", changed, about)
    with pytest.raises(ModelCorrupt, match=re.escape(f"{name} is {dtype} {tensors[name].shape}, not {kept} ")):
        open_model(tmp_path / "other.safetensors")


def test_scales_are_of_int8_alone(packed, tmp_path):
    tensors, about = read_packed(say(packed, tmp_path / "whole.safetensors"))
    changed = {key: np.array(tensor) for key, tensor in tensors.items()}
    names = {"word_scale": len(tensors["words"]), "layers.1.out.column_scale": len(tensors["layers.1.out.bias"])}
    for name, size in names.items():
        other = {key: tensor for key, tensor in changed.items() if key != name}
        if name not in changed:
            other[name] = np.ones(size, np.float32)
        write_packed(tmp_path / "other.safetensors", other, about)
        told = f"no {name}" if packed.precision == "int8" else f"{name} as well"
        with pytest.raises(ModelCorrupt, match=told):
            open_model(tmp_path / "other.safetensors")


@pytest.mark.parametrize("gone", ["cosines.0", "sines.0"])
def test_cosines_come_with_sines(gone, packed, tmp_path):
    path = say(packed, tmp_path / "whole.safetensors")
    tensors, about = read_packed(path)
    if gone not in tensors:
        pytest.skip("positions are not rotary")
    write_packed(tmp_path / "half.safetensors", {k: np.array(v) for k, v in tensors.items() if k != gone}, about)
    with pytest.raises(ModelCorrupt, match=f"no {gone}"):
        open_model(tmp_path / "half.safetensors")


@pytest.mark.parametrize("name", ["layers.0.up.bias", "layers.2.qkv.column_sum", "embedding_norm.weight", "words"])
def test_what_is_missing_is_named(name, packed, tmp_path):
    tensors, about = read_packed(say(packed, tmp_path / "whole.safetensors"))
    if name not in tensors or (name == "embedding_norm.weight" and "embedding_norm.bias" not in tensors):
        pytest.skip("there is none, or it may be absent")
    write_packed(tmp_path / "less.safetensors", {k: np.array(v) for k, v in tensors.items() if k != name}, about)
    with pytest.raises(ModelCorrupt, match=f"no {name}"):
        open_model(tmp_path / "less.safetensors")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"dense.0.weight": (40, 32)}, "dense.0 of 40 inputs, for poolings of 48 components"),
        ({"dense.1.weight": (31, 48)}, "dense.1.weight is float32 (31, 48), not float32 (32, 48)"),
        ({"dense.2.weight": (48, 50)}, "dense.2 that adds its 48 inputs to 50 outputs"),
        ({"dense.0.bias": (31,)}, "dense.0.bias is float32 (31,), not float32 (32,)"),
        ({"dense.0.residual": (48, 32)}, "dense.0.residual as well"),
        ({"end_norm.weight": (32,)}, "end_norm.weight is float32 (32,), not float32 (48,)"),
        ({"layers.1.query_norm.weight": (48,)}, "layers.1.query_norm.weight is float32 (48,), not float32 (16,)"),
        ({"layers.0.feed_forward_inner.weight": (96,)}, "layers.0.feed_forward_inner.weight is float32 (96,)"),
        ({"distance_bias": (9, 127)}, "distance_bias is float32 (9, 127), not float32"),
        ({"cosines.5": (64, 8)}, "cosines.5 as well"),
    ],
)
def test_sizes_of_every_part_fit_each_other(changes, told, packed, tmp_path):
    tensors, about = read_packed(say(packed, tmp_path / "whole.safetensors"))
    changed = {name: np.array(tensor) for name, tensor in tensors.items()}
    changed |= {name: np.ones(shape, np.float32) for name, shape in changes.items()}
    write_packed(tmp_path / "odd.safetensors", changed, about)
    with pytest.raises(ModelCorrupt, match=re.escape(told)):
        open_model(tmp_path / "odd.safetensors")


@pytest.mark.parametrize("size", [40, 24])
def test_sizes_are_multiples_of_16(size, packed, tmp_path):
    tensors, about = read_packed(say(packed, tmp_path / "whole.safetensors"))
    changed = {name: np.array(tensor) for name, tensor in tensors.items()}
    changed["layers.0.up.bias"] = np.ones(size, np.float32)
    write_packed(tmp_path / "odd.safetensors", changed, about)
    with pytest.raises(ModelCorrupt, match=f"{size} columns, not a multiple of 16"):
        open_model(tmp_path / "odd.safetensors")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I32", "I8"]) | JSON,
        "shape": st.lists(st.integers(-1, 9), max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(-4, 140), min_size=2, max_size=2) | JSON,
    }
)
ABOUT = st.dictionaries(st.text(max_size=5), JSON, max_size=2).map(json.dumps) | st.text(max_size=9) | JSON


@given(
    st.dictionaries(st.text(max_size=4), ENTRY | JSON, max_size=4), ABOUT, st.binary(max_size=136), st.integers(-9, 9)
)
@example({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, "{}", bytes(8), 0)
def test_any_header_is_refused_or_its_tensors_lie_in_the_file_one_after_the_other(entries, about, data, lengthened):
    encoded = json.dumps({**entries, "__metadata__": {"neuralcore": about}}).encode()
    path = PATHS[0]
    path.write_bytes(max(0, len(encoded) + lengthened).to_bytes(8, "little") + encoded + data)
    try:
        tensors, found = read_packed(path)
    except ModelCorrupt as error:
        assert error.path == str(path)  # noqa: PT017
        return
    assert isinstance(found, dict)
    assert sum(tensor.nbytes for tensor in tensors.values()) == len(data)
    assert (
        b"".join(tensors[name].tobytes() for name in sorted(tensors, key=lambda n: entries[n]["data_offsets"])) == data
    )


@given(st.binary(max_size=80))
def test_any_bytes_are_refused(content):
    PATHS[0].write_bytes(content)
    with pytest.raises(ModelCorrupt, match="a packed model"):
        read_packed(PATHS[0])


PATHS: list[Path] = []


@pytest.fixture(scope="module", autouse=True)
def _path(tmp_path_factory):
    PATHS[:] = [tmp_path_factory.mktemp("any") / "any.safetensors"]


def test_fingerprint_of_a_file_that_does_not_say_its_origin_is_refused(packed, tmp_path):
    with pytest.raises(ModelCorrupt, match="made_from = None"):
        _ = ModelFile(say(packed, tmp_path / "whole.safetensors", made_from=None)).weights_sha256


def test_folder_is_no_file(tmp_path):
    with pytest.raises(ModelCorrupt, match="no regular file"):
        read_packed(tmp_path)


@posix
def test_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(ModelCorrupt, match="no regular file"):
        read_packed(tmp_path / "pipe.safetensors")


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs a right to give away")
def test_file_that_may_not_be_read_is_not_called_damaged(packed, tmp_path):
    path = say(packed, tmp_path / "whole.safetensors")
    path.chmod(0)

    def read() -> str:
        os.seteuid(65_534)
        try:
            read_packed(path)
        except ModelUnavailable as error:
            return str(error)
        return "read"

    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    assert "Permission denied" in run_in_child(read)


@posix
@pytest.mark.parametrize(("limit", "error"), [("RLIMIT_NOFILE", ModelUnavailable), ("RLIMIT_AS", OutOfMemory)])
def test_limits_of_the_process_are_not_called_damage(limit, error, packed, tmp_path):
    import resource

    path = say(packed, tmp_path / "whole.safetensors")

    def read() -> str:
        enough = {"RLIMIT_NOFILE": 0, "RLIMIT_AS": 1000}[limit]
        if limit == "RLIMIT_AS":
            with path.open("ab") as file:
                file.truncate(2**40)  # of holes: more than can be mapped
            enough = 2**38
        resource.setrlimit(getattr(resource, limit), (enough, resource.getrlimit(getattr(resource, limit))[1]))
        try:
            read_packed(path)
        except error as expected:
            return type(expected).__name__
        return "read"

    assert run_in_child(read) == error.__name__


def test_engine_says_that_its_file_was_cut(tiny_folder, tmp_path):
    if absence():
        pytest.skip(absence())
    with EmbeddingEngine.from_pretrained(tiny_folder, precision="int8", cache_dir=tmp_path) as engine:
        path, tokenizer, config = (
            engine._model_path,
            engine._model_path.parent.with_name("source") / "tokenizer.json",
            engine.config,
        )
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelCorrupt, match="it was cut off") as caught:
        EmbeddingEngine(path, tokenizer, config)
    assert caught.value.path == str(path)
