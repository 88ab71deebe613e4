"""What is proven of a text's characters before tokie may have it."""

import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from neuralcore.embedding.tokenizer import fast, proven

pytest.importorskip("tokie", reason="no tokie on this platform: Hugging Face tokenizers alone serve")

CHARACTERS = [chr(code) for first, last in proven.proven_ranges() for code in range(first, last + 1)]


def test_order_of_combining_marks_that_stay_is_not_among_what_is_proven():
    """Canonical order is all that a neighbour changes in a decomposition: what has one must be what is removed."""
    decomposed = {part for character in CHARACTERS for part in unicodedata.normalize("NFD", character)}
    assert not [part for part in decomposed if unicodedata.combining(part) and unicodedata.category(part) != "Mn"]


def test_longest_proven_text_stays_below_64_kib_in_every_form():
    widest = max(CHARACTERS, key=lambda character: len(unicodedata.normalize("NFD", character).encode()))
    assert len(unicodedata.normalize("NFD", widest * proven.LONGEST_CHARACTERS).encode()) < 64 * 1024


def test_what_is_compared_when_tokie_is_loaded_is_proven_itself():
    assert all(proven.mark_proven([*fast._PROBES, fast._sample_characters()]))


@given(st.lists(st.text(max_size=20), min_size=1, max_size=6))
def test_marking_a_batch_is_marking_each_text(texts):
    assert proven.mark_proven(texts) == [proven.mark_proven([text])[0] for text in texts]


@given(st.text(max_size=30))
def test_proven_text_is_made_of_proven_characters_only(text):
    assume(text)
    assert proven.mark_proven([text]) == [set(text) <= set(CHARACTERS)]
