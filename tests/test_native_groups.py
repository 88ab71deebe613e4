"""What a plan makes of a batch, before the kernels see it: every text whole, once, and where its vector goes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neuralcore.embedding.backends.native.groups import arrange
from neuralcore.embedding.batch import plan
from neuralcore.embedding.families.positions import position_ids
from tests.tokens import token_batch

TEXTS = st.lists(st.lists(st.integers(0, 5), max_size=9), min_size=1, max_size=12)


@given(TEXTS, st.integers(1, 20), st.sampled_from([None, 1]), st.booleans())
def test_groups_hold_every_text_with_tokens_once_with_its_positions(texts, budget, pad_position, sort):
    tokens = token_batch([np.array(text, np.int32) for text in texts])
    rows = np.flatnonzero(tokens.lengths)
    if not len(rows):
        return
    groups = [rows[some] for some in plan(tokens.lengths[rows], budget)] if sort else [rows]
    found = {}
    for group in arrange(tokens, groups, pad_position):
        numbers = np.arange(len(texts))[group.rows].tolist()
        assert len(group) == len(numbers)
        assert group.offsets[0] == 0
        assert group.offsets[-1] == len(group.ids) == len(group.positions)
        assert group.longest == max(len(texts[number]) for number in numbers)
        for number, start, end in zip(numbers, group.offsets, group.offsets[1:], strict=False):
            assert number not in found
            found[number] = group.ids[start:end].tolist(), group.positions[start:end].tolist()
    assert found.keys() == set(rows.tolist())
    for number, (ids, positions) in found.items():
        assert ids == texts[number]
        assert positions == position_ids(np.array(ids), np.array([0, len(ids)]), pad_position).tolist()


def test_rows_in_order_are_a_slice_and_nothing_is_copied():
    tokens = token_batch([np.arange(n, dtype=np.int32) for n in (5, 5, 4)])
    first, second = arrange(tokens, [np.array([0, 1]), np.array([2])], None)
    assert (first.rows, second.rows) == (slice(0, 2), slice(2, 3))
    assert np.shares_memory(first.ids, tokens.ids)
