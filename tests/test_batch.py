"""The planner: every text once, longest first, within the budget."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralcore.embedding.batch import plan

LENGTHS = st.lists(st.integers(0, 600), max_size=80)
BUDGETS = st.integers(0, 2000)


def batches(lengths, budget) -> list[list[int]]:
    return [rows.tolist() for rows in plan(np.array(lengths, np.int64), budget)]


@given(LENGTHS, BUDGETS)
def test_each_row_is_in_exactly_one_batch(lengths, budget):
    planned = [row for rows in batches(lengths, budget) for row in rows]
    assert sorted(planned) == list(range(len(lengths)))


@given(LENGTHS, BUDGETS)
def test_padded_tokens_stay_within_the_budget_unless_a_text_runs_alone(lengths, budget):
    for rows in batches(lengths, budget):
        padded = len(rows) * max(1, *(lengths[row] for row in rows))
        assert len(rows) == 1 or padded <= budget


@given(LENGTHS, BUDGETS)
def test_lengths_never_increase(lengths, budget):
    planned = [lengths[row] for rows in batches(lengths, budget) for row in rows]
    assert planned == sorted(lengths, reverse=True)


@given(LENGTHS, BUDGETS)
def test_next_text_would_not_have_fitted(lengths, budget):
    planned = batches(lengths, budget)
    for rows in planned[:-1]:
        assert (len(rows) + 1) * max(lengths[rows[0]], 1) > budget


@given(LENGTHS, BUDGETS)
def test_row_numbers_restore_the_order(lengths, budget):
    out = np.full(len(lengths), -1)
    for rows in plan(np.array(lengths, np.int64), budget):
        out[rows] = np.array(lengths)[rows]
    assert out.tolist() == lengths


def test_equal_lengths_keep_their_order():
    assert batches([4, 4, 4, 4, 4], budget=8) == [[0, 1], [2, 3], [4]]


def test_no_texts_give_no_batches():
    assert batches([], budget=100) == []


def test_text_past_the_budget_runs_alone():
    assert batches([3, 500, 4], budget=10) == [[1], [2, 0]]


@pytest.mark.parametrize("budget", [-1, 0, 1])
def test_budget_too_small_for_anything_gives_one_text_a_batch(budget):
    assert batches([1, 2, 3], budget) == [[2], [1], [0]]


def test_zero_length_texts_count_as_one_token():
    assert batches([0, 0, 0, 0, 0], budget=2) == [[0, 1], [2, 3], [4]]


def test_million_texts_are_planned_quickly():
    lengths = np.random.RandomState(0).randint(2, 256, 1_000_000)
    assert sum(map(len, plan(lengths, 512))) == 1_000_000
