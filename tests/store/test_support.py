from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.support import Support, is_sure, no_difference, support

NEAR = 1e-5


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((1045, 31, 107, 674), (0.907118, 0.028810, 0.055847, -0.064243)),
        ((8, 1, 2, 4), (0.8, 0.111111, 0.195122, -0.090909)),
    ],
)
def test_the_numbers_of_the_plasticity_reference(counts: tuple[int, ...], expected: tuple[float, ...]) -> None:
    found = Support(*counts)
    assert (found.retention, found.discovery, found.harmonic, found.net) == pytest.approx(expected, abs=NEAR)


def test_what_nothing_can_be_said_of_is_none() -> None:
    nothing = Support(0, 0, 0, 5)
    assert (nothing.retention, nothing.discovery, nothing.harmonic, nothing.net) == (None, None, None, None)
    assert Support(3, 0, 1, 0).harmonic == 0.0
    assert Support(0, 2, 1, 0).harmonic == 0.0


def test_a_change_is_sure_where_fishers_test_says_so() -> None:
    assert no_difference(64, 6, 64, 0) == pytest.approx(0.028, abs=5e-4)
    assert no_difference(64, 5, 64, 0) == pytest.approx(0.058, abs=5e-4)
    assert (is_sure(64, 6), is_sure(64, 5)) == (True, False)
    assert [c for c in range(9) if is_sure(8, c)] == [5, 6, 7, 8]
    assert not is_sure(2, 2), "two samples prove nothing"


def test_tasks_are_told_apart_and_unequal_numbers_of_samples_left_out() -> None:
    pairs = [((8, 5), (8, 0)), ((8, 1), (8, 0)), ((8, 0), (8, 8)), ((8, 3), (8, 2)), ((8, 0), (8, 0))]
    assert support([*pairs, ((8, 5), (7, 0)), ((0, 0), (0, 0))]) == Support(1, 1, 2, 1, 1, 1)


OUTCOMES = st.tuples(st.integers(0, 8), st.integers(0, 8))


@given(st.lists(OUTCOMES))
def test_the_reverse_of_a_comparison_finds_what_was_lost(changes: list[tuple[int, int]]) -> None:
    there = support(((8, a), (8, b)) for a, b in changes)
    back = support(((8, b), (8, a)) for a, b in changes)
    assert there.num == len(changes)
    assert (there.found, there.surely_found, there.kept) == (back.lost, back.surely_lost, back.kept)
    assert there.net == (None if back.net is None else -back.net)
