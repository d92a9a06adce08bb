"""Averages of the pass rate, on the clock of an arm's visits."""

import numpy as np
import pytest

from orchestrator.bandits.learning_progress import PassRateAverages
from tests.orchestrator.bandits.steps import seen


class Watching(PassRateAverages):
    """The averages, and nothing chosen by them."""

    def __init__(self, arms="ab", fast=0.5, slow=0.2):
        super().__init__(arms, np.random.default_rng(0))
        self.watch(fast, slow)

    def preferences(self):
        return np.full(len(self.arms), 1 / len(self.arms))

    def observe(self, seen):
        self.follow(seen)


def test_both_begin_at_the_first_score_and_the_slow_one_trails_the_fast_one():
    one = Watching()
    one.observe(seen({0: 0.1}, score={0: 0.4}))
    assert one.progress().tolist() == [0.0, 0.0]
    one.observe(seen({0: 0.1}, step=1, score={0: 0.8}))
    assert one.fast_score[0] == pytest.approx(0.6)
    assert one.slow_score[0] == pytest.approx(0.4 + 0.2 * (0.6 - 0.4))
    assert one.progress()[0] == pytest.approx(0.16)


def test_an_arm_that_is_not_visited_or_not_scored_stays():
    one = Watching()
    one.observe(seen({0: 0.1, 1: 0.1}, score={0: 0.4, 1: 0.2}))
    one.observe(seen({0: 0.1}, step=1, score={0: 0.8}))
    one.observe(seen({0: 0.1, 1: 0.1}, step=2, score={0: 0.8, 1: np.nan}))
    assert one.num_scores.tolist() == [3, 1]
    assert (one.fast_score[1], one.slow_score[1]) == (0.2, 0.2)


def test_falling_is_negative_progress_and_a_level_that_stays_is_none():
    one = Watching()
    for step in range(60):
        one.observe(seen({0: 0.1, 1: 0.1}, step=step, score={0: 0.9 - 0.01 * step, 1: 0.5}))
    assert one.progress()[0] == pytest.approx(-0.01 * (1 - 0.2) / 0.2, abs=1e-4)  # the lag behind the fast one
    assert one.progress()[1] == 0.0


def test_the_averages_follow_arms_that_come_and_go():
    one = Watching()
    one.observe(seen({0: 0.1, 1: 0.1}, score={0: 0.4, 1: 0.2}))
    one.add("aa")
    one.retire("a")
    assert (one.fast_score.tolist(), one.num_scores.tolist()) == ([0.0, 0.2], [0, 1])
    copy = Watching()
    copy.load_state(one.state())
    assert (copy.arms, copy.fast_score.tolist()) == (["aa", "b"], [0.0, 0.2])


def test_begun_at_zero_the_whole_level_counts_as_progress_at_first():
    one = Watching()
    one.watch(0.5, 0.2, from_zero=True)
    one.observe(seen({0: 0.1}, score={0: 0.4}))
    assert (one.fast_score[0], one.slow_score[0]) == (pytest.approx(0.2), pytest.approx(0.04))
