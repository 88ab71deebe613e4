"""Token ids: those of sentence-transformers, cut where Hugging Face tokenizers cuts, and never silently."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as HfTokenizer
from tokenizers import normalizers
from tokenizers.models import WordLevel

from neuralcore.embedding.errors import InputError, ModelCorrupt, UnsupportedModel
from neuralcore.embedding.tokenizer import Tokenizer, fast
from tests import golden, tiny_model

CLS, SEP = 2, 3  # of tiny_model's vocabulary
CONTENT = {"a": [5], "big red cat": [14, 16, 6]}
LIMIT = 12
SURROGATE = "fine until here \ud83d"


@pytest.fixture(scope="module", autouse=True, params=["reference", "fast"])
def _backend(request):
    """All of this holds for both: tokie from the first text on, where it is and the file is of its kind, or never."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "WORTH_TEXTS", 0 if request.param == "fast" else sys.maxsize)
        yield


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory):
    """A tokenizer.json that carries a truncation and a padding of its own."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tiny_model.tokenizer().save(str(path))
    return path


@pytest.fixture(scope="module")
def tiny(tiny_path, _backend):
    return Tokenizer(tiny_path, max_tokens=LIMIT)


def rows(batch) -> list[list[int]]:
    return [part.tolist() for part in np.split(batch.ids, batch.offsets[1:-1])] if len(batch) else []


@pytest.fixture(scope="module")
def directed_paths(tmp_path_factory):
    """The same with each direction of truncation."""
    folder, paths = tmp_path_factory.mktemp("directed"), {}
    for direction in ("left", "right"):
        tokenizer, paths[direction] = tiny_model.tokenizer(), folder / f"{direction}.json"
        tokenizer.enable_truncation(16, direction=direction)
        tokenizer.save(str(paths[direction]))
    return paths


def reference(path, max_tokens, direction="right") -> HfTokenizer:
    tokenizer = HfTokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens, direction=direction)
    return tokenizer


def test_ids_equal_those_of_sentence_transformers(minilm_folder):
    expected = golden.load("all-MiniLM-L6-v2")
    tokenizer = Tokenizer(minilm_folder / "tokenizer.json", max_tokens=expected.max_tokens)
    assert rows(tokenizer.encode(expected.texts)) == expected.ids


@pytest.mark.full
def test_ids_of_mpnet_equal_those_of_sentence_transformers(mpnet_folder):
    expected = golden.load("all-mpnet-base-v2")
    tokenizer = Tokenizer(mpnet_folder / "tokenizer.json", max_tokens=expected.max_tokens)
    assert rows(tokenizer.encode(expected.texts)) == expected.ids
    assert tokenizer.pad_id == 1


def test_text_alone_has_the_ids_it_has_in_a_batch(minilm_folder):
    texts = golden.load("all-MiniLM-L6-v2").texts
    tokenizer = Tokenizer(minilm_folder / "tokenizer.json", max_tokens=256)
    together = rows(tokenizer.encode(texts))
    assert [rows(tokenizer.encode([text]))[0] for text in texts] == together


@pytest.mark.parametrize("max_tokens", [3, 4, 17, 128, 512])
def test_cut_is_that_of_hugging_face(max_tokens, minilm_folder):
    texts = golden.load("all-MiniLM-L6-v2").texts
    path = minilm_folder / "tokenizer.json"
    expected = [encoding.ids for encoding in reference(path, max_tokens).encode_batch(texts)]
    assert rows(Tokenizer(path, max_tokens=max_tokens).encode(texts)) == expected


def test_cut_text_keeps_both_special_tokens(tiny):
    (ids,) = rows(tiny.encode(["the cat sat on the mat under the big red tree not a dog"]))
    assert len(ids) == LIMIT
    assert (ids[0], ids[-1]) == (CLS, SEP)


def test_cut_is_visible_in_full_lengths(tiny):
    batch = tiny.encode(["the cat", "the cat " * 20])
    assert batch.lengths.tolist() == [4, LIMIT]
    assert batch.full_lengths.tolist() == [4, 42]


def test_count_is_the_length_before_the_cut(tiny, tiny_path):
    texts = ["", "the", "the cat " * 20, "xyz"]
    uncut = HfTokenizer.from_file(str(tiny_path))
    uncut.no_padding()
    uncut.no_truncation()
    expected = [len(uncut.encode(text).ids) for text in texts]
    assert tiny.count(texts).tolist() == expected == [2, 3, 42, 5]
    assert tiny.encode(texts).full_lengths.tolist() == expected


def test_count_counts_the_prefix(tiny):
    assert tiny.count(["cat"], prefix="the ").tolist() == [4]


def test_truncation_and_padding_of_the_file_are_off(tiny_path):
    inner = HfTokenizer.from_file(str(tiny_path))
    assert len(inner.encode("the").ids) == inner.truncation["max_length"] == 16
    batch = Tokenizer(tiny_path, max_tokens=40).encode(["the", "cat " * 30])
    assert batch.lengths.tolist() == [3, 32]


def test_prefix_is_put_before_every_text(tiny):
    assert rows(tiny.encode(["cat", "dog"], prefix="the big ")) == rows(tiny.encode(["the big cat", "the big dog"]))


def test_no_texts_give_an_empty_batch(tiny):
    batch = tiny.encode([])
    assert len(batch) == 0
    assert batch.ids.size == batch.full_lengths.size == tiny.count([]).size == 0
    assert batch.offsets.tolist() == [0]


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\x00", "\u200b\ufeff"])
def test_text_without_content_is_two_special_tokens(text, tiny):
    assert rows(tiny.encode([text])) == [[CLS, SEP]]


def test_literal_special_token_is_cut_like_any_other(tiny):
    assert rows(tiny.encode(["[SEP]" * 50])) == [[CLS, *[SEP] * (LIMIT - 2), SEP]]


def test_arrays_have_the_documented_dtypes(tiny):
    batch = tiny.encode(["the cat", "dog"])
    assert (batch.ids.dtype, batch.offsets.dtype, batch.full_lengths.dtype) == (np.int32, np.int64, np.int64)


@pytest.mark.parametrize("bad", [None, 3, 1.5, b"bytes", ["a", "list"], ("a", "pair"), ["nested"], {}])
@pytest.mark.parametrize("prefix", ["", "the "])
@pytest.mark.parametrize("n_before", [0, 2])
def test_element_that_is_no_str_is_refused_with_its_index(bad, prefix, n_before, tiny):
    texts = [*["fine"] * n_before, bad]
    with pytest.raises(InputError, match=f"text {n_before + 100}: expected a str, got {type(bad).__name__}") as caught:
        tiny.encode(texts, prefix=prefix, first_index=100)
    assert caught.value.index == n_before + 100
    with pytest.raises(InputError, match=f"text {n_before}: "):
        tiny.count(texts, prefix=prefix)


@pytest.mark.parametrize("n_before", [0, 2])
def test_lone_surrogate_is_refused_with_its_index_and_place(n_before, tiny):
    with pytest.raises(InputError, match=f"text {n_before}: lone surrogate at character 16") as caught:
        tiny.encode([*["fine"] * n_before, SURROGATE])
    assert caught.value.index == n_before


def test_advice_for_lone_surrogates_works(tiny):
    cleaned = SURROGATE.encode(errors="replace").decode()
    assert len(tiny.encode([cleaned])) == 1


@pytest.fixture
def cased_path(tmp_path):
    inner = tiny_model.tokenizer()
    inner.normalizer = normalizers.BertNormalizer(lowercase=False)
    inner.save(str(tmp_path / "cased.json"))
    return tmp_path / "cased.json"


def test_lowercase_lowers_what_the_file_would_not(cased_path):
    texts = ["The CAT sat"]
    cased, lowered = (Tokenizer(cased_path, max_tokens=LIMIT, lowercase=option) for option in (False, True))
    assert rows(lowered.encode(texts)) == rows(cased.encode(["the cat sat"]))
    assert rows(cased.encode(texts)) != rows(lowered.encode(texts))


def test_lowercase_of_a_file_without_normalizer(tmp_path):
    inner = tiny_model.tokenizer()
    inner.normalizer = None
    inner.save(str(tmp_path / "bare.json"))
    tokenizer = Tokenizer(tmp_path / "bare.json", max_tokens=LIMIT, lowercase=True)
    assert rows(tokenizer.encode(["The CAT"])) == rows(tokenizer.encode(["the cat"]))
    assert 1 not in rows(tokenizer.encode(["The CAT"]))[0]  # no [UNK]


def test_lowercase_keeps_literal_special_tokens(cased_path):
    tokenizer = Tokenizer(cased_path, max_tokens=LIMIT, lowercase=True)
    assert rows(tokenizer.encode(["[SEP] The"])) == [[CLS, SEP, *rows(tokenizer.encode(["the"]))[0][1:]]]


def test_lowercase_changes_nothing_where_the_file_lowers(minilm_folder):
    expected = golden.load("all-MiniLM-L6-v2")
    tokenizer = Tokenizer(minilm_folder / "tokenizer.json", max_tokens=expected.max_tokens, lowercase=True)
    assert rows(tokenizer.encode(expected.texts)) == expected.ids


def test_pad_id_is_that_of_the_file(tmp_path):
    """MPNet's vocabulary holds a stray [PAD] besides the <pad> it uses."""
    inner = tiny_model.tokenizer()
    inner.add_special_tokens(["<pad>"])
    pad_id = inner.token_to_id("<pad>")
    inner.enable_padding(pad_id=pad_id, pad_token="<pad>")
    inner.save(str(tmp_path / "tokenizer.json"))
    assert inner.token_to_id("[PAD]") == 0 != pad_id
    assert Tokenizer(tmp_path / "tokenizer.json", max_tokens=LIMIT).pad_id == pad_id


@pytest.mark.parametrize(("token", "expected"), [("[PAD]", 7), ("<pad>", 7), ("other", 0)])
def test_pad_id_of_a_file_without_padding_is_found_by_name(token, expected, tmp_path):
    words = WordLevel({**{f"w{number}": number for number in range(7)}, token: 7}, unk_token="w0")
    HfTokenizer(words).save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer(tmp_path / "tokenizer.json", max_tokens=LIMIT).pad_id == expected


def test_tokenizer_without_special_tokens_frames_nothing(tmp_path):
    words = WordLevel({"w0": 0, "w1": 1}, unk_token="w0")
    HfTokenizer(words).save(str(tmp_path / "tokenizer.json"))
    assert rows(Tokenizer(tmp_path / "tokenizer.json", max_tokens=LIMIT).encode(["w1", ""])) == [[1], []]


@pytest.mark.parametrize("max_tokens", [-1, 0, 1, 2])
def test_limit_without_room_for_a_text_is_refused(max_tokens, tiny_path):
    with pytest.raises(UnsupportedModel, match=f"max_tokens={max_tokens}"):
        Tokenizer(tiny_path, max_tokens=max_tokens)


def test_limit_of_one_content_token_is_enough(tiny_path):
    the = rows(Tokenizer(tiny_path, max_tokens=3).encode(["the cat"]))
    assert the == [[CLS, tiny_model.tokenizer().token_to_id("the"), SEP]]


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ModelCorrupt, match="no such file"):
        Tokenizer(tmp_path / "tokenizer.json", max_tokens=LIMIT)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"model": {}}', b"\x00\xff" * 100])
def test_damaged_file_is_refused(content, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(ModelCorrupt, match=r"tokenizer\.json") as caught:
        Tokenizer(path, max_tokens=LIMIT)
    assert caught.value.path == str(path)


@given(st.lists(st.text(max_size=60), max_size=5), st.integers(3, 20))
def test_any_text_is_framed_and_within_the_limit(tiny_path, texts, max_tokens):
    tokenizer = Tokenizer(tiny_path, max_tokens=max_tokens)
    batch = tokenizer.encode(texts)
    assert len(batch) == len(texts)
    for ids, length, full in zip(rows(batch), batch.lengths, batch.full_lengths, strict=True):
        assert (ids[0], ids[-1]) == (CLS, SEP)
        assert 2 <= len(ids) == length == min(max_tokens, full)


@pytest.mark.parametrize("direction", ["left", "right"])
@given(st.lists(st.text(max_size=60), max_size=5), st.integers(3, 20))
def test_any_text_is_cut_like_hugging_face_cuts(direction, directed_paths, texts, max_tokens):
    path = directed_paths[direction]
    expected = [encoding.ids for encoding in reference(path, max_tokens, direction).encode_batch(texts)]
    assert rows(Tokenizer(path, max_tokens=max_tokens).encode(texts)) == expected


def test_direction_left_keeps_the_last_tokens(directed_paths):
    text = "a " * 20 + "big red cat"
    left, right = (Tokenizer(directed_paths[side], max_tokens=5) for side in ("left", "right"))
    assert rows(left.encode([text, "a"])) == [[CLS, *CONTENT["big red cat"], SEP], [CLS, CONTENT["a"][0], SEP]]
    assert rows(right.encode([text])) == [[CLS, *(3 * CONTENT["a"]), SEP]]
    assert left.encode([text]).full_lengths.tolist() == [25]
    assert rows(left.accept([[CLS, 5, 6, 7, 8, SEP]])) == [[CLS, 6, 7, 8, SEP]]
