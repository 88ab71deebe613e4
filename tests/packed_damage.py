"""Damaged packed files: every field of the header and every tensor, each in many wrong ways, and random ones."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from neuralcore.embedding.backends.native.encoder import NativeEncoder
from neuralcore.embedding.backends.native.file import read_packed, write_packed
from neuralcore.embedding.config import ModelConfig
from neuralcore.embedding.errors import InferenceError, ModelCorrupt, UnsupportedModel
from neuralcore.embedding.types import Precision
from tests import checkpoints
from tests.native_stacks import FEATURES, native_stack, pack
from tests.tokens import token_batch

WRONG: tuple[Any, ...] = (
    -(2**63), -(2**31), -1000, -16, -2, -1, 0, 1, 2, 4, 5, 7, 15, 16, 17, 48, 63, 65, 100, 120, 128, 1000, 65_536,
    2**31 - 1, 2**31, 2**32, 2**63, 10**30, 0.5, 1.0, -1e-12, 1e-46, 1e300, 1e-400, True, False, None, "", "3", "gelu",
    "silu", "tanh", "rms", "layer", "int8", "fp32", "fp16", "bf16", "dynamic-int8", [], [3], {}, {"a": 1},
)  # fmt: skip
"""What stands in the place of a field's value."""


KINDS = (
    *((family, Precision.INT8) for family in FEATURES),
    ("mpnet", Precision.FP32),
    ("gemma3", Precision.FP16),
    ("modernbert", Precision.BF16),
)
"""Models to damage: those of every family, and one in each other precision."""
STEPS = {
    name: np.random.RandomState(number).normal(0, 0.2, shape).astype(np.float32)
    for number, (name, shape) in enumerate(
        {
            "dense.0.weight": (checkpoints.HIDDEN, 32),
            "dense.0.bias": (32,),
            "dense.1.weight": (32, checkpoints.HIDDEN),
            "dense.1.residual": (32, checkpoints.HIDDEN),
            "dense.2.weight": (checkpoints.HIDDEN, checkpoints.HIDDEN),
        }.items()
    )
}
SAID = {
    "dense": [
        {"activation": "tanh", "residual": False},
        {"activation": "identity", "residual": True},
        {"activation": "sigmoid", "residual": True},
    ]
}
"""Steps behind pooling that take and give as many components as the models have."""


@dataclass(frozen=True)
class Packed:
    """A packed model in memory."""

    family: str
    precision: Precision
    header: dict[str, Any]
    about: dict[str, Any]
    data: bytes

    @classmethod
    def make(cls, family: str, precision: Precision, folder: Path) -> "Packed":
        """A random model of `KINDS`, packed, with steps behind pooling."""
        path = folder / f"{family}-{precision}.safetensors"
        ids = np.random.default_rng(9).integers(2, checkpoints.VOCABULARY, (8, 20))
        pack(native_stack(family), token_batch(list(ids)), path, precision)
        tensors, about = read_packed(path)
        write_packed(path, {**{name: np.array(values) for name, values in tensors.items()}, **STEPS}, about | SAID)
        return cls.read(family, precision, path.read_bytes())

    @classmethod
    def read(cls, family: str, precision: Precision, whole: bytes) -> "Packed":
        start = 8 + int.from_bytes(whole[:8], "little")
        header = json.loads(whole[8:start])
        return cls(family, precision, header, json.loads(header.pop("__metadata__")["neuralcore"]), whole[start:])

    def whole(self) -> bytes:
        """The file."""
        header = {"__metadata__": {"neuralcore": json.dumps(self.about)}, **self.header}
        encoded = json.dumps(header).encode()
        encoded += b" " * (-(8 + len(encoded)) % 64)
        return len(encoded).to_bytes(8, "little") + encoded + self.data


Damage = Callable[[Path], None]


def enumerate_damage(packed: Packed) -> Iterator[tuple[str, Damage]]:
    """Each field of the header, each tensor and the length of the header in turn: a name, and what writes the file."""
    yield from _of_about(packed)
    for name in packed.header:
        yield from _of_entry(packed, name)
        yield from _of_tensor(packed, name)
    yield from _of_length(packed)


def random_damage(packed: Packed, random: Random) -> Iterator[tuple[str, Damage]]:
    """Without end: bytes of the header changed, several fields at once, tensors exchanged, files cut."""
    kinds = (_flip_bytes, _change_fields, _exchange, _cut, _change_values)
    while True:
        yield random.choice(kinds)(packed, random)


def check_damaged(path: Path) -> str:
    """Load a file and run it to its limits: it must be refused, or give finite vectors.

    Returns:
        What came of it. Anything else is raised, and what crashes is the caller's to see (tests/children.py).
    """
    config = ModelConfig(name="damaged", dimension=checkpoints.HIDDEN, max_tokens=64)
    try:
        encoder = NativeEncoder(path, config, threads=2)
    except ModelCorrupt as error:
        assert str(path) in str(error)  # noqa: PT017
        return f"refused: {error.actual}"
    except UnsupportedModel as error:  # a first step for two poolings, say, which the file itself cannot tell
        assert str(path) in str(error)  # noqa: PT017
        return f"refused: {error}"
    limit, n_words = min(encoder.max_tokens, 256), checkpoints.VOCABULARY
    rows = [
        np.full(limit, n_words - 1),
        np.zeros(limit),
        np.arange(limit) % n_words,
        np.array([1]),
        np.array([2, 1, 3])[:limit],
    ]
    try:
        for some in (rows, rows[:1], rows[2:3]):
            assert np.isfinite(encoder.encode(token_batch(some))).all()
    except InferenceError as error:
        assert "not finite" in str(error)  # noqa: PT017 - a weight of 1e38, say
    encoder.close()
    return "ran"


def _write(whole: bytes) -> Damage:
    def write(path: Path) -> None:
        path.write_bytes(whole)

    return write


def _with_about(packed: Packed, about: Any) -> Damage:
    return _write(replace(packed, about=about).whole())


def _with_entry(packed: Packed, name: str, entry: Any) -> Damage:
    return _write(replace(packed, header={**packed.header, name: entry}).whole())


Place = tuple[str | int, ...]


def places_of(about: Any) -> Iterator[Place]:
    """Where each value of a header is, those in lists and objects included."""
    inner = about.items() if isinstance(about, dict) else enumerate(about) if isinstance(about, list) else ()
    for key, value in inner:
        yield (key,)
        yield from ((key, *place) for place in places_of(value))


def with_value(about: Any, place: Place, value: Any = None, *, gone: bool = False) -> Any:
    """The header with another value in one place, or none."""
    changed = deepcopy(about)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    if gone:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return changed


def _of_about(packed: Packed) -> Iterator[tuple[str, Damage]]:
    for place in places_of(packed.about):
        for wrong in WRONG:
            about = with_value(packed.about, place, wrong)
            if json.dumps(about) != json.dumps(packed.about):
                yield f"{place} = {wrong!r}", _with_about(packed, about)
        yield f"no {place}", _with_about(packed, with_value(packed.about, place, gone=True))


def _of_entry(packed: Packed, name: str) -> Iterator[tuple[str, Damage]]:
    entry = packed.header[name]
    first, last = entry["data_offsets"]
    for key, values in {
        "dtype": ("I8", "I32", "F32", "F16", "BF16", "I64", "x", None, 3, []),
        "shape": ([], [0], [-1], [1], [2**40, 2**40], entry["shape"][::-1], [*entry["shape"], 1], None, "48", [1.0]),
        "data_offsets": ([0, 0], [last, first], [first + 1, last + 1], [first, last - 1], [first - 64, last - 64],
                         [2**60, 2**60 + last - first], [-1, last - first - 1], [first], None, [0.0, 4.0]),
    }.items():  # fmt: skip
        for wrong in values:
            if wrong != entry[key]:
                yield f"{name}: {key} = {wrong!r}", _with_entry(packed, name, {**entry, key: wrong})
    for wrong in (None, [], 7, {}):
        yield f"{name} = {wrong!r}", _with_entry(packed, name, wrong)


def _of_tensor(packed: Packed, name: str) -> Iterator[tuple[str, Damage]]:
    def change(make: Callable[[np.ndarray], np.ndarray | None]) -> Damage:
        return lambda path: _rewrite(packed, path, name, make)

    yield f"no {name}", change(lambda tensor: None)
    yield f"{name} one row short", change(lambda tensor: tensor[:-1] if len(tensor) > 1 else None)
    yield f"{name} in half", change(lambda tensor: tensor.reshape(-1)[: max(1, tensor.size // 2)])
    yield f"{name} twice", change(lambda tensor: np.concatenate([tensor, tensor]))
    for dtype in ("int8", "int32", "float32", "float16", "uint16"):
        yield f"{name} as {dtype}", change(partial(_as, dtype=dtype))
    for fill in (-(2**31), -1, 0, 127, 2**31 - 1, np.nan, np.inf, -np.inf, 3e38, 1e-45):
        yield f"{name} filled with {fill}", change(partial(_filled, fill=fill))


def _as(tensor: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return tensor.astype(dtype)


def _filled(tensor: np.ndarray, fill: float) -> np.ndarray:
    if tensor.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.full_like(tensor, fill)
    limits = np.iinfo(tensor.dtype)
    return np.full_like(tensor, int(np.clip(np.nan_to_num(fill), limits.min, limits.max)))


def _rewrite(packed: Packed, path: Path, name: str, make: Callable[[np.ndarray], np.ndarray | None]) -> None:
    """The same model with one tensor changed, its header right again: what a wrong packer could write."""
    path.write_bytes(packed.whole())
    found, about = read_packed(path)
    tensors = {key: np.array(value) for key, value in found.items()}
    changed = make(tensors[name])
    tensors = {**tensors, name: changed} if changed is not None else {k: v for k, v in tensors.items() if k != name}
    write_packed(path, tensors, about)


def _of_length(packed: Packed) -> Iterator[tuple[str, Damage]]:
    whole = packed.whole()
    start = 8 + int.from_bytes(whole[:8], "little")
    for n in (0, 1, 2, start - 9, start - 7, start, len(whole), len(whole) - 8, 2**24, 2**31, 2**63, 2**64 - 1):
        yield f"a header of {n} bytes", _write(n.to_bytes(8, "little") + whole[8:])
    for n in (0, 1, 7, 8, 9, start - 1, start, start + 1, len(whole) - 64, len(whole) - 1):
        yield f"cut to {n} bytes", _write(whole[:n])
    for more in (1, 64, 4096):
        yield f"{more} bytes longer", _write(whole + bytes(more))
    for junk in (b"[" * 200_000, b'{"a":' * 100_000, b"\xff\xfe{}", b"{}", b"null", b"7" * 5000, b'{"a":1,"a":2}'):
        yield f"header {junk[:12]!r}", _write(len(junk).to_bytes(8, "little") + junk + packed.data)


def _flip_bytes(packed: Packed, random: Random) -> tuple[str, Damage]:
    whole = bytearray(packed.whole())
    start = 8 + int.from_bytes(whole[:8], "little")
    places = [random.randrange(start) for _ in range(random.choice((1, 1, 2, 8)))]
    for place in places:
        whole[place] ^= 1 << random.randrange(8)
    return f"bits at {places}", _write(bytes(whole))


def _change_fields(packed: Packed, random: Random) -> tuple[str, Damage]:
    about, changed = packed.about, []
    for _ in range(random.randint(1, 4)):
        places = list(places_of(about))
        changed.append((random.choice(places), random.choice(WRONG)))
        about = with_value(about, *changed[-1])
    return f"{changed}", _with_about(packed, about)


def _exchange(packed: Packed, random: Random) -> tuple[str, Damage]:
    a, b = random.sample(sorted(packed.header), 2)
    header = {**packed.header, a: packed.header[b], b: packed.header[a]}
    return f"{a} and {b} exchanged", _write(replace(packed, header=header).whole())


def _cut(packed: Packed, random: Random) -> tuple[str, Damage]:
    whole = packed.whole()
    n = random.randrange(len(whole))
    return f"cut to {n} bytes", _write(whole[:n])


def _change_values(packed: Packed, random: Random) -> tuple[str, Damage]:
    data = bytearray(packed.data)
    first = random.randrange(len(data))
    n = min(random.choice((1, 4, 64, 4096)), len(data) - first)
    data[first : first + n] = random.randbytes(n)
    return f"{n} bytes of data at {first}", _write(replace(packed, data=bytes(data)).whole())
