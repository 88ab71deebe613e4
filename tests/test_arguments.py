"""What may be given where several texts are taken: whatever has texts in an order, and nothing that only looks so."""

import asyncio
import re
from collections import OrderedDict, UserDict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from neuralcore.embedding import AsyncEmbeddingEngine, EmbeddingEngine, InputError, verify_model
from neuralcore.embedding.arguments import check_texts
from tests import tiny_model

TEXTS = ["the cat", "a dog", "mat"]


class Frame:
    """As pandas' DataFrame: it gives its labels, which are texts, too."""

    columns = ("text", "id")

    def __iter__(self):
        return iter(self.columns)


async def asynchronous():
    yield "the cat"


WRONG = [
    ("the cat", "one str; embed takes one"),
    (np.str_("the cat"), "one str_; embed takes one"),
    (b"the cat", "one bytes; embed takes one, decoded: "),
    (bytearray(b"the cat"), "one bytearray; embed takes one, decoded: "),
    (memoryview(b"the cat"), "one memoryview; embed takes one, decoded: "),
    ({"the cat": 1}, "a dict, of which the keys would be embedded; pass list(texts.values())"),
    (OrderedDict(cat=1), "a OrderedDict, of which the keys"),
    (UserDict(cat="x"), "a UserDict, of which the keys"),
    ({"the cat", "a dog"}, "a set, which has no order; pass a list"),
    (frozenset(TEXTS), "a frozenset, which has no order"),
    (Frame(), "a Frame, which is a table; pass one column, e.g. list(frame['text'])"),
    (pa.table({"text": TEXTS}), "a Table, which is a table"),
    (np.array([["the cat", "a dog"]]), "a ndarray of 2 dimensions, not one; pass one column"),
    (np.array("the cat"), "a ndarray of 0 dimensions"),
    (None, "got None"),
    (7, "one int"),
    (Path("texts.txt"), "one PosixPath"),
    (str, "got <class 'str'>"),
]
WRONG_INSIDE = [
    (["the cat", None], 1, "got NoneType, a missing value; leave such rows out, or fill them"),
    (["the cat", float("nan")], 1, "got float, a missing value"),
    (np.array(["the cat", np.nan], object), 1, "got float, a missing value"),
    (["the cat", 1.5], 1, "expected a str, got float$"),
    (np.array([b"the cat"]), 0, "got bytes_; decode it"),
    ([bytearray(b"the cat")], 0, "got bytearray; decode it"),
    ([np.array(["the cat", "a dog"])], 0, "got ndarray"),  # Hugging Face would take it for a pair
    (pa.array(TEXTS), 0, "got StringScalar"),
    ((text for text in ["the cat", "a dog", 3]), 2, "got int"),
    ({"cat": 1}.items(), 0, "got tuple"),
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    place = tmp_path_factory.mktemp("model")
    with EmbeddingEngine.from_pretrained(tiny_model.write(place / "tiny"), cache_dir=place / "cache") as engine:
        yield engine


@pytest.fixture(scope="module")
def entries(engine):
    """Every function that takes several texts."""
    queued = AsyncEmbeddingEngine(engine)

    async def stream(texts):
        return [block async for block in queued.embed_stream(texts)]

    return {
        "embed_batch": engine.embed_batch,
        "embed_stream": lambda texts: list(engine.embed_stream(texts)),
        "count_tokens": engine.count_tokens,
        "tokenize": engine.tokenize,
        "aio.embed_batch": lambda texts: asyncio.run(queued.embed_batch(texts)),
        "aio.embed_stream": lambda texts: asyncio.run(stream(texts)),
        "verify_model": lambda texts: verify_model("no-such-model", texts=texts),
    }


ENTRIES = ["embed_batch", "embed_stream", "count_tokens", "tokenize", "aio.embed_batch", "aio.embed_stream"]


@pytest.mark.parametrize("entry", [*ENTRIES, "verify_model"])
@pytest.mark.parametrize(("texts", "told"), WRONG, ids=[type(texts).__name__ for texts, _ in WRONG])
def test_what_is_no_order_of_texts_is_refused_with_the_way_out(entries, entry, texts, told):
    if entry == "verify_model" and texts is None:
        return  # those of the package
    with pytest.raises(InputError, match=re.escape(told)) as caught:
        entries[entry](texts)
    assert caught.value.index is None


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("number", range(len(WRONG_INSIDE)))
def test_element_that_is_no_text_is_refused_with_its_number(entries, entry, number):
    texts, index, told = WRONG_INSIDE[number]
    texts = ["the cat", "a dog", 3] if hasattr(texts, "send") and entry != "embed_batch" else texts  # ends once
    with pytest.raises(InputError, match=told) as caught:
        entries[entry](texts)
    assert caught.value.index == index


@pytest.mark.parametrize(
    "texts",
    [tuple(TEXTS), iter(TEXTS), (text for text in TEXTS), np.array(TEXTS), np.array(TEXTS, object),
     dict.fromkeys(TEXTS).keys(), dict(enumerate(TEXTS)).values(), map(str, TEXTS)],
    ids=lambda texts: type(texts).__name__,
)  # fmt: skip
def test_whatever_gives_texts_in_an_order_is_taken(engine, texts):
    np.testing.assert_array_equal(engine.embed_batch(texts), engine.embed_batch(TEXTS))


def test_generator_is_tokenized_whole_and_counted_whole(engine):
    assert engine.count_tokens(text for text in TEXTS).tolist() == engine.count_tokens(TEXTS).tolist()
    assert engine.tokenize(text for text in TEXTS).ids.tolist() == engine.tokenize(TEXTS).ids.tolist()


def test_asynchronous_texts_are_for_the_asynchronous_engine_alone(engine):
    vectors = asyncio.run(AsyncEmbeddingEngine(engine).embed_batch(asynchronous()))
    np.testing.assert_allclose(vectors, engine.embed_batch(["the cat"]), atol=1e-6)
    with pytest.raises(InputError, match="one async_generator"):
        engine.embed_batch(asynchronous())


def test_verification_without_texts_does_not_take_others():
    with pytest.raises(InputError, match="no texts"):
        verify_model("no-such-model", texts=[])


def test_refusal_reads_nothing():
    rows = iter(TEXTS)
    check_texts(rows)
    assert list(rows) == TEXTS
