from hypothesis import given
from hypothesis import strategies as st

from neuralcore.embedding.stream import WINDOW_CHARACTERS, WINDOW_TEXTS, windows


@given(st.integers(0, 4 * WINDOW_TEXTS))
def test_windows_hold_every_text_once_in_order(n_texts):
    texts = [str(number) for number in range(n_texts)]
    cut = list(windows(iter(texts)))
    assert [text for window in cut for text in window] == texts
    assert all(len(window) == WINDOW_TEXTS for window in cut[:-1])
    assert all(0 < len(window) <= WINDOW_TEXTS for window in cut)


def test_long_texts_end_a_window_early():
    text = "x" * (WINDOW_CHARACTERS // 3)
    assert [len(window) for window in windows([text] * 10)] == [4, 4, 2]


def test_windows_are_read_as_needed():
    read = []
    source = (read.append(number) or str(number) for number in range(10 * WINDOW_TEXTS))
    next(windows(source))
    assert len(read) == WINDOW_TEXTS
