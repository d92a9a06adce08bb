"""Sliding-window UCB, against the curricula reference, section 3.4."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from orchestrator.bandits.sliding_window_ucb import Config, SlidingWindowUcb, create
from orchestrator.bandits.testing import BanditSuite
from tests.orchestrator.bandits.steps import seen

PLAYS = [(0, 1.0), (1, 0.0), (2, 0.5), (0, 1.0), (0, 0.0)]
ARMS = ["a", "c", "e"]


class TestSlidingWindowUcb(BanditSuite):
    in_turn = True
    keeps_ratios = False

    def make(self, arms, rng):
        return create(Config(window=8), arms, rng)


def rule(window: int = 4, **options: float) -> SlidingWindowUcb:
    return SlidingWindowUcb(ARMS, np.random.default_rng(0), Config(window=window, **options))


def played(made: SlidingWindowUcb, order: list[int] | None = None) -> SlidingWindowUcb:
    for step in order or range(len(PLAYS)):
        arm, reward = PLAYS[step]
        made.observe(seen({arm: reward}, step=step))
    return made


SECTION_3_4 = [  # width, window, xi, N, S, index
    (1.0, 4, 0.6, (2, 1, 1), (1.0, 0.0, 0.5), (1.144894, 0.912018, 1.412018)),
    (0.5, 4, 0.6, (2, 1, 1), (1.0, 0.0, 0.5), (0.822447, 0.456009, 0.956009)),
    (1.0, 303, 0.5, (3, 1, 1), (2.0, 0.0, 0.5), (1.184585, 0.897061, 1.397061)),  # n = min(t, w) = 5
]


@pytest.mark.parametrize(("width", "window", "xi", "count", "total", "index"), SECTION_3_4)
def test_the_index_of_a_worked_example(width, window, xi, count, total, index) -> None:
    made = played(rule(window, width=width, xi=xi))
    assert made.counts().tolist() == list(count)
    assert made.total == pytest.approx(total, abs=1e-12)
    assert made.index() == pytest.approx(index, abs=1e-6)


def test_an_arm_that_left_the_window_is_unseen_again() -> None:
    made = played(rule(window=2))
    assert made.index().tolist()[1:] == [math.inf, math.inf]
    assert made.values() == {"a": 0.5, "c": None, "e": None}
    assert made.total.tolist() == [1.0, 0.0, 0.0]


def test_steps_without_feedback_leave_the_window_too() -> None:
    made = rule(window=4)
    made.observe(seen({0: 1.0}, step=0))
    made.observe(seen({1: 1.0}, step=4))
    assert made.counts().tolist() == [0.0, 1.0, 0.0]


def test_late_feedback_counts_for_its_own_step_or_not_at_all() -> None:
    late = played(rule(), [4, 0, 2, 1, 3])
    assert late.counts().tolist() == played(rule()).counts().tolist()
    assert [entry.step for entry in late.window] == [1, 2, 3, 4]


def test_a_step_is_one_entry_an_arm_with_its_slots() -> None:
    made = rule()
    made.observe(seen({0: 0.5, 2: 0.25}, num_groups=32))
    assert made.counts().tolist() == [32.0, 0.0, 32.0]
    assert made.total.tolist() == [16.0, 0.0, 8.0]
    (entry,) = made.window
    assert entry.at.tolist() == [0, 2]


def test_the_window_follows_arms_that_come_and_go() -> None:
    made = played(rule())
    made.add("b")
    made.add("f")
    assert dict(zip(made.arms, made.counts().tolist(), strict=True)) == {
        "a": 2,
        "b": 0,
        "c": 1,
        "e": 1,
        "f": 0,
    }
    made.retire("c")
    made.observe(seen({1: 0.3}, step=6))  # steps 1 and 2 leave: those of c and e
    assert dict(zip(made.arms, made.counts().tolist(), strict=True)) == {"a": 2, "b": 1, "e": 0, "f": 0}
    copy = rule()
    copy.load_state(json.loads(json.dumps(made.state())))
    for one in (made, copy):
        one.observe(seen({0: 0.4, 3: 0.2}, step=8))
    assert copy.state() == made.state()


def test_forgetting_an_arm_makes_it_new_for_good() -> None:
    made = played(rule())
    made.forget(np.array([0]))
    made.observe(seen({1: 0.5}, step=7))
    assert made.counts().tolist() == [0.0, 1.0, 0.0], "what was forgotten does not leave the window a second time"
