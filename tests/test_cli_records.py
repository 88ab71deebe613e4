"""Records of any kind through the command line's writers: they come out as they went in, or are refused."""

import io
import json
import math
from contextlib import ExitStack

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as some

from neuralcore.embedding import InputError
from neuralcore.embedding.cli.parquet import parquet_writer
from neuralcore.embedding.cli.readers import _json_record
from neuralcore.embedding.cli.records import Chunk, Source
from neuralcore.embedding.cli.writers import _json_lines

NAMES = some.sampled_from(["x", "y", "z"])
PLAIN = some.none() | some.booleans() | some.integers(-(2**64), 2**64) | some.floats() | some.text(max_size=3)
VALUES = some.recursive(
    PLAIN, lambda inner: some.lists(inner, max_size=2) | some.dictionaries(NAMES, inner, max_size=2)
)
ROWS = some.lists(some.dictionaries(NAMES, VALUES, max_size=3), min_size=1, max_size=3)


def vectors_of(rows) -> np.ndarray:
    return np.zeros((len(rows), 1), np.float32)


def chunk_of(rows) -> Chunk:
    return Chunk([""] * len(rows), rows)


def is_kept(given, found, *, nan_is_none: bool) -> bool:
    """Whether a value came out as it went in; of a record, keys that it has not may be there as None."""
    match given:
        case dict():
            keys = given.keys() <= found.keys()
            return keys and all(is_kept(given.get(key), found[key], nan_is_none=nan_is_none) for key in found)
        case list():
            pairs = zip(given, found, strict=True)
            return all(is_kept(*pair, nan_is_none=nan_is_none) for pair in pairs)
        case float() if math.isnan(given):
            return found is None if nan_is_none else math.isnan(found)
    return given == found and isinstance(given, bool) == isinstance(found, bool)


def has_infinity(value) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(has_infinity, inner)) or (isinstance(value, float) and math.isinf(value))


@given(ROWS)
def test_json_lines_hold_what_went_in_in_strict_json(rows):
    file = io.BytesIO()
    try:
        _json_lines(file)(chunk_of(rows), vectors_of(rows))
    except InputError:
        assert any(map(has_infinity, rows))
        return
    found = [json.loads(line, parse_constant=pytest.fail) for line in file.getvalue().decode().splitlines()]
    assert [row.pop("embedding") for row in found] == [[0.0]] * len(rows)
    assert [row.keys() for row in found] == [row.keys() for row in rows]
    assert all(is_kept(*pair, nan_is_none=True) for pair in zip(rows, found, strict=True))


@given(some.lists(ROWS, min_size=1, max_size=3))
@settings(max_examples=40, suppress_health_check=[HealthCheck.filter_too_much])
def test_parquet_holds_what_went_in_or_the_records_are_refused(chunks):
    file = io.BytesIO()
    try:
        with ExitStack() as stack:
            write = stack.enter_context(parquet_writer(file, Source(chunks=iter(())), 1))
            for rows in chunks:
                write(chunk_of(rows), vectors_of(rows))
    except InputError:
        assume(False)
    found = pq.read_table(io.BytesIO(file.getvalue())).drop_columns(["embedding"]).to_pylist()
    rows = [row for chunk in chunks for row in chunk]
    assert all(is_kept(*pair, nan_is_none=False) for pair in zip(rows, found, strict=True)), (rows, found)


@given(ROWS)
def test_line_of_json_is_read_as_it_was_written(rows):
    for row in rows:
        text, found = _json_record(json.dumps({**row, "text": "a"}), "text", "line 1")
        assert text == "a"
        assert is_kept({**row, "text": "a"}, found, nan_is_none=False)
