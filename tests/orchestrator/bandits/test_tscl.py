"""Teacher-student curriculum learning: slopes of scores, and what is chosen by them. Curricula reference, 4.12."""

import json

import numpy as np
import pytest

from orchestrator.bandits.contracts import Bandit, Feedback
from orchestrator.bandits.testing import BanditSuite
from orchestrator.bandits.tscl import Config, Tscl, create, slopes
from tests.orchestrator.bandits.steps import seen


class SlopeSuite(BanditSuite):
    floor = 0.1

    def teach(self, bandit: Bandit, best: str) -> None:
        """The best arm's score climbs; the others' stays."""
        climbing = 0.018 * (bandit.clock % 50)
        bandit.learn([Feedback(p, 0.4, score=climbing if p.arm == best else 0.5) for p in bandit.pick(16)])


class TestTsclOnline(SlopeSuite):
    def make(self, arms, rng):
        return create(Config(), arms, rng)


class TestTsclWindow(SlopeSuite):
    def make(self, arms, rng):
        return create(Config(slope="window"), arms, rng)


class TestTsclWindowGreedy(SlopeSuite):
    def make(self, arms, rng):
        return create(Config(slope="window", choice="greedy"), arms, rng)


class TestTsclWithoutFloor(SlopeSuite):
    floor = 0.0

    def make(self, arms, rng):
        return create(Config(floor=0.0), arms, rng)


def bandit(num_arms=2, **options):
    return Tscl([str(k) for k in range(num_arms)], np.random.default_rng(0), Config(**options))


def teach(one, *scores, at=0, steps=None):
    for step, score in zip(steps or range(len(scores)), scores, strict=True):
        one.observe(seen({at: 0.1}, step=step, score={at: score}))


SECTION_4_12_ONLINE = [  # scores, Q at a = .1
    ([0.4], 0.0),  # compared with nothing
    ([0.4, 0.6], 0.02),
    ([0.4, 0.6, 0.3], 0.9 * 0.02 - 0.03),
]


@pytest.mark.parametrize(("scores", "expected"), SECTION_4_12_ONLINE)
def test_the_online_slope_of_a_worked_example(scores, expected):
    one = bandit()
    teach(one, *scores)
    assert one.q[0] == pytest.approx(expected)
    assert one.values() == {"0": pytest.approx(abs(expected)), "1": None}


SECTION_4_12_WINDOW = [  # steps, scores, slope of the last three
    ([0], [0.4], 1.0),  # no slope yet: `start`
    ([0, 1], [0.4, 0.6], 0.2),
    ([0, 4], [0.4, 0.6], 0.05),  # over steps, not visits
    ([0, 1, 2], [0.1, 0.2, 0.6], 0.25),
    ([0, 1, 2, 3], [0.9, 0.3, 0.2, 0.1], -0.1),  # the first has left
    ([3, 3], [0.4, 0.6], 1.0),  # a step told in two parts
]


@pytest.mark.parametrize(("steps", "scores", "expected"), SECTION_4_12_WINDOW)
def test_the_slope_over_a_window(steps, scores, expected):
    one = bandit(slope="window", window=3)
    teach(one, *scores, steps=steps)
    assert one.q[0] == pytest.approx(expected)


def test_the_slope_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    x, y = rng.random((5, 10)), rng.random((5, 10))
    assert slopes(x, y, 0.0) == pytest.approx([np.polyfit(*row, 1)[0] for row in zip(x, y, strict=True)])


def test_a_fall_counts_like_a_climb():
    one = bandit(floor=0.0)
    teach(one, 0.4, 0.6)
    teach(one, 0.6, 0.4, at=1)
    assert list(one.probabilities().values()) == pytest.approx([0.5, 0.5])


def test_boltzmann_and_greedy():
    one, greedy = bandit(floor=0.1, temperature=0.02), bandit(3, choice="greedy", floor=0.3)
    for each in (one, greedy):
        teach(each, 0.4, 0.6)
    assert list(one.probabilities().values()) == pytest.approx([0.707953, 0.292047], abs=1e-6)
    assert list(greedy.probabilities().values()) == pytest.approx([0.8, 0.1, 0.1])


def test_greedy_shares_among_the_best():
    assert list(bandit(choice="greedy").probabilities().values()) == [0.5, 0.5]


def test_a_window_comes_first_to_arms_without_a_slope():
    one = bandit(slope="window", floor=0.0)
    teach(one, 0.4, 0.6)
    assert one.probabilities()["1"] > 0.999
    assert bandit(slope="window", start=0.0).q.tolist() == [0.0, 0.0]


def test_a_group_without_a_score_teaches_nothing():
    for slope in ("online", "window"):
        one = bandit(slope=slope)
        teach(one, 0.2, 0.3)
        before = one.state()
        one.observe(seen({0: 0.4, 1: 0.2}, step=7))
        assert one.state() == before


def test_scores_follow_arms_that_come_and_go():
    one = bandit(3, slope="window")
    teach(one, 0.2, 0.3, at=1)
    one.add("00")
    one.retire("0")
    assert one.arms == ["00", "1", "2"]
    copy = bandit(3, slope="window")
    copy.load_state(json.loads(json.dumps(one.state())))
    for each in (one, copy):
        teach(each, 0.7, at=1, steps=[2])
        assert each.q[1] == pytest.approx(0.25)
