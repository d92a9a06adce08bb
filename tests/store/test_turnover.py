"""What is gained, lost and repaired between boundaries, and how long a loss can be repaired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.turnover import Delay, Repair, delays, is_solved, repairs, turnover, window


@dataclass(frozen=True)
class Item:
    after_stage: int
    environment: str
    item: int
    num_correct: int
    num_scored: int = 4
    category: str = "c"

    @property
    def task_key(self) -> str:
        return f"task {self.item}"


@dataclass(frozen=True)
class Visit:
    stage: int
    environment: str | None

    @property
    def start_step(self) -> int:
        return 10 * (self.stage - 1)


def course(*corrects: int | None, environment: str = "words", item: int = 0) -> list[Item]:
    """Make a task's outcomes at boundary 0, 1, ...; None: the environment was not evaluated there."""
    return [Item(after, environment, item, c) for after, c in enumerate(corrects) if c is not None]


def test_most_of_the_samples_must_be_correct() -> None:
    assert [c for c in range(5) if is_solved(4, c)] == [3, 4]
    assert is_solved(1, 1)


def test_gains_losses_and_repairs_by_environment() -> None:
    items = [
        *course(0, 4, 0, 4, item=0),  # gained, lost, repaired
        *course(0, 0, 4, 4, item=1),  # gained later
        *course(4, 4, 4, 0, item=2),  # lost at the end
        *course(4, 4, 4, 4, environment="book"),
    ]
    found = {(one.environment, one.later): one for one in turnover(items)}
    changes = {key: (one.gained, one.lost, one.repaired) for key, one in found.items() if key[0] == "words"}
    assert changes == {("words", 1): (1, 0, 0), ("words", 2): (1, 1, 0), ("words", 3): (1, 1, 1)}
    assert [(one.solved_before, one.solved_after) for (name, _), one in found.items() if name == "words"] == [
        (1, 2),
        (2, 2),
        (2, 2),
    ]
    assert found["book", 3].lost_by_luck == 0.0, "what is always right is never lost by luck"


def test_the_null_band_says_what_luck_alone_would_change() -> None:
    even = [item for n in range(40) for item in course(2, 3, item=n)]
    (noisy,) = turnover(even)
    # share 5/8: more than half of four is right with 4 p^3 q + p^4
    solved = 4 * (5 / 8) ** 3 * (3 / 8) + (5 / 8) ** 4
    assert (solved, noisy.gained_by_luck, noisy.gained_error) == pytest.approx(
        (0.518799, 20.751953, 3.160041), abs=1e-5
    )
    assert (noisy.lost_by_luck, noisy.lost_error) == (0, 0), "none was solved before"
    assert (noisy.gained, noisy.is_gain, noisy.is_loss) == (40, True, False), "all alike is no luck"
    (few,) = turnover([*course(2, 3), *course(3, 2, item=1)])
    assert (few.is_gain, few.is_loss) == (False, False)


@pytest.mark.parametrize(("before", "after"), [(0, 14), (14, 0)])
def test_what_surely_changed_is_not_put_down_to_luck(before: int, after: int) -> None:
    (found,) = turnover([Item(at, "words", n, c, 16) for n in range(20) for at, c in enumerate((before, after))])
    assert (found.gained_by_luck, found.lost_by_luck) == (0, 0)
    assert (found.is_gain, found.is_loss) == (before < after, before > after)


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=30))
def test_luck_loses_no_more_than_was_solved_and_gains_no_more_than_was_not(counts: list[tuple[int, int]]) -> None:
    (found,) = turnover([Item(at, "words", n, c, 8) for n, own in enumerate(counts) for at, c in enumerate(own)])
    assert 0 <= found.lost_by_luck <= found.solved_before
    assert 0 <= found.gained_by_luck <= found.num_items - found.solved_before


def test_boundaries_without_the_environment_are_passed_over() -> None:
    (one,) = turnover(course(4, None, None, 0))
    assert (one.earlier, one.later, one.lost) == (0, 3, 1)
    assert [entry.later for entry in turnover([*course(4, None, 0), *course(4, 4, 4, environment="book")])] == [1, 2, 2]


def test_items_that_could_not_be_scored_are_not_known() -> None:
    items = [Item(0, "words", 0, 4), Item(1, "words", 0, 0, num_scored=0), Item(2, "words", 0, 0)]
    assert sum(one.num_items for one in turnover(items)) == 1


def test_a_loss_is_followed_to_the_first_visit_after_it() -> None:
    steps = {after: 10 * after for after in range(7)}
    visits = [Visit(1, "words"), Visit(2, "book"), Visit(3, "book"), Visit(4, "words"), Visit(5, "words")]
    repaired = repairs(course(0, 4, 0, 0, 4, 4), visits, steps)
    assert repaired == [Repair("words", 2, 4, 2, 10, True)]
    assert repairs(course(0, 4, 0, 0, 0, 4), visits, steps)[0].is_repaired is False, "a later visit is none of it"
    assert repairs(course(0, 4, 0, 4, 4, 4), visits, steps) == [], "it came back by itself"
    assert repairs(course(0, 4, 4, 4, 4, 0), visits, steps) == [], "nobody came back"
    held = repairs(course(0, 4, 0, 0, None, 4), visits, steps)
    assert held == [Repair("words", 2, 4, 2, 10, True)], "the first boundary since that evaluated it"
    flat = [Visit(stage, None) for stage in range(1, 6)]
    assert repairs(course(0, 4, 0, 0, 4), flat, steps) == []


def test_losses_are_followed_without_looking_through_all_visits_for_each() -> None:
    num_looks = 0

    class Watched(Visit):
        def __getattribute__(self, name: str) -> object:
            nonlocal num_looks
            num_looks += name == "stage"
            return super().__getattribute__(name)

    num = 100
    found = repairs(course(*[0, 4] * num), [Watched(stage, "words") for stage in range(1, 2 * num)], {})
    assert [(one.lost_after, one.visit, one.is_repaired) for one in found] == [
        (lost, lost + 1, True) for lost in range(2, 2 * num, 2)
    ]
    assert num_looks < 20 * num


def test_the_window_is_the_longest_delay_at_which_half_is_repaired() -> None:
    def losses(delay: int, repaired: int, of: int) -> list[Repair]:
        return [Repair("words", 1, 1 + delay, delay, 10 * delay, n < repaired) for n in range(of)]

    found = [*losses(1, 9, 10), *losses(2, 5, 10), *losses(3, 2, 10), *losses(4, 4, 4)]
    counts = delays(found)
    assert counts[1] == Delay(2, 20.0, 10, 5)
    assert window(counts) == 2, "four losses of delay 4 say nothing"
    assert window(delays(losses(1, 0, 9))) == 0
    assert window(delays(losses(1, 4, 4))) is None


COURSES = st.lists(st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=4, max_size=4), max_size=6)


@given(COURSES)
def test_gains_less_losses_are_the_change_of_what_is_solved(courses: Sequence[Sequence[int | None]]) -> None:
    found = turnover(item for number, own in enumerate(courses) for item in course(*own, item=number))
    for one in found:
        assert one.gained - one.lost == one.solved_after - one.solved_before
        assert 0 <= one.repaired <= one.gained
        assert max(one.solved_before, one.solved_after) <= one.num_items
