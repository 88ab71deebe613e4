"""Instruction sets prove themselves before they are used, and the fastest one is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralcore.embedding import ProviderUnavailable
from neuralcore.embedding.backends.native import isas
from neuralcore.embedding.backends.native.isas import (
    Trial,
    absence,
    choose_fastest,
    choose_isa,
    is_usable,
    try_isas,
)
from tests.command import run

needs_kernels = pytest.mark.skipif(bool(absence()), reason=absence())


@pytest.fixture
def pretend(monkeypatch):
    """A CPU on which each instruction set is right or wrong, and fast or slow, as it is said."""

    class Library:
        def __init__(self, **speeds):
            self.speeds = speeds

        def nc_compiled(self):
            return " ".join(self.speeds).encode()

        def nc_self_test(self, isa):
            return self.speeds[isa] > 0

        def nc_measure(self, isa):
            return self.speeds[isa]

    def become(**speeds):
        def knows(isa, precision):
            return isa in speeds and (precision == "int8" or isa != "amx")

        monkeypatch.delenv("NEURALCORE_ISA", raising=False)
        monkeypatch.setattr(isas, "load_library", lambda: Library(**speeds))
        monkeypatch.setattr(
            isas, "find_kernels", lambda isa, precision: isa if isa in speeds and knows(isa, precision) else None
        )
        isas.is_right.cache_clear(), isas.try_isas.cache_clear()

    yield become
    isas.is_right.cache_clear(), isas.try_isas.cache_clear()


@pytest.mark.parametrize(
    ("sets", "chosen"),
    [
        ({"amx": 9e11, "avx512vnni": 4e11, "avx2": 1e11}, "amx"),
        ({"amx": 3e11, "avx512vnni": 4e11, "avx2": 1e11}, "avx512vnni"),
        ({"amx": -1, "avx512vnni": 4e11, "avx2": 1e11}, "avx512vnni"),
        ({"avx512vnni": 4e11, "avxvnni": 4.2e11}, "avx512vnni"),
        ({"avx512vnni": 4e11, "avxvnni": 4.6e11}, "avxvnni"),
        ({"avx2": 1e11, "scalar": 9e12}, "avx2"),
        ({"avx2": -1, "scalar": 1e9}, None),
        ({}, None),
    ],
)
def test_fastest_that_is_right_is_chosen_and_of_equals_the_first(pretend, sets, chosen):
    pretend(**sets)
    assert choose_isa() == chosen


def test_wrong_instruction_set_is_not_used_even_where_it_is_named(pretend, monkeypatch):
    pretend(amx=-1, avx2=1e11)
    monkeypatch.setenv("NEURALCORE_ISA", "amx")
    assert not is_usable("amx")
    with pytest.raises(ProviderUnavailable, match="computes wrongly"):
        choose_isa()


def test_instruction_set_that_is_named_is_used_though_another_is_faster(pretend, monkeypatch):
    pretend(amx=9e11, avx512vnni=2e11, avx2=3e11)
    monkeypatch.setenv("NEURALCORE_ISA", "avx512vnni")
    assert choose_isa() == "avx512vnni"


def test_one_that_does_not_know_the_precision_leaves_it_to_the_fastest_behind_it(pretend, monkeypatch):
    pretend(amx=9e11, avx512vnni=2e11, avx2=3e11, scalar=9e11)
    monkeypatch.setenv("NEURALCORE_ISA", "amx")
    assert choose_isa("int8") == "amx"
    assert choose_isa("fp32") == "avx2"


def test_cpu_that_is_wrong_everywhere_has_no_kernels_and_says_why(pretend):
    pretend(avx512vnni=-1, avx2=-1, scalar=1)
    assert "computes wrongly with it (avx512vnni, avx2)" in absence()


@given(st.lists(st.tuples(st.booleans(), st.floats(1e6, 1e13)), max_size=6))
def test_choice_is_right_and_nearly_the_fastest(found):
    trials = [Trial(str(number), is_right, speed) for number, (is_right, speed) in enumerate(found)]
    right = {trial.isa: trial.speed for trial in trials if trial.is_right}
    chosen = choose_fastest(trials)
    assert (chosen is None) == (not right)
    if chosen is not None:
        assert right[chosen] * 1.1 >= max(right.values())


@needs_kernels
def test_every_instruction_set_of_this_cpu_is_right_and_all_but_the_portable_one_are_timed():
    assert [trial.isa for trial in try_isas() if not trial.is_right] == []
    assert [trial.isa for trial in try_isas() if not trial.speed] == ["scalar"]
    assert try_isas() is try_isas()  # once a process


@needs_kernels
def test_info_shows_what_was_tried(tmp_path):
    facts = json.loads(run(["info", "--json", "--cache-dir", tmp_path]).stdout)
    assert [said.split()[0] for said in facts["kernels_tried"]] == [trial.isa for trial in try_isas()]
    assert all(" right" in said for said in facts["kernels_tried"])
    assert facts["kernels_tried"][0].endswith("GOP/s")
