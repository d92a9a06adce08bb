"""Learning progress against the worked numbers of the curricula reference, section 5.4."""

import numpy as np
import pytest

from orchestrator.bandits.contracts import Bandit, Feedback
from orchestrator.bandits.learning_progress import Config, LearningProgress, create, sigmoid_choice, stretched
from orchestrator.bandits.testing import BanditSuite
from tests.orchestrator.bandits.steps import seen


class ProgressSuite(BanditSuite):
    def teach(self, bandit: Bandit, best: str) -> None:
        """The best arm's pass rate climbs, again and again; the others' stays."""
        climbing = 0.1 + 0.08 * (bandit.clock % 10)
        bandit.learn([Feedback(p, 0.4, score=climbing if p.arm == best else 0.5) for p in bandit.pick(16)])


class TestLearningProgress(ProgressSuite):
    floor = 0.25

    def make(self, arms, rng):
        return create(Config(), arms, rng)


class TestLearningProgressBySoftmax(ProgressSuite):
    def make(self, arms, rng):
        return create(Config(choice="softmax", fast=0.5, slow=0.2, reweight=None, floor=0.0), arms, rng)


def bandit(num_arms=2, **options):
    return LearningProgress([str(k) for k in range(num_arms)], np.random.default_rng(0), Config(**options))


SECTION_5_4_REWEIGHT = [(0.3, 0.2, 0.101810), (0.9, 0.8, 0.014832)]


@pytest.mark.parametrize(("high", "low", "expected"), SECTION_5_4_REWEIGHT)
def test_low_pass_rates_are_stretched(high, low, expected):
    f = stretched(np.array([high, low, 0.0, 1.0]), 0.1)
    assert f[0] - f[1] == pytest.approx(expected, abs=1e-6)
    assert f[2:].tolist() == [0.0, 1.0]


def test_the_sigmoid_choice():
    lp = np.array([0.1, 0.0, 0.3])
    p = sigmoid_choice(lp, np.array([True, True, True]))
    assert p == pytest.approx([0.292752, 0.172570, 0.534677], abs=1e-6)
    assert 0.75 * p + 0.25 / 3 == pytest.approx([0.302898, 0.212761, 0.484341], abs=1e-6)
    assert sigmoid_choice(lp, np.array([True, False, False])) == pytest.approx([0.268941, 0, 0.731059], abs=1e-6)


def test_the_floor_is_the_uniform_quarter():
    one = bandit(3)
    one.fast_score = np.array([0.2, 0.1, 0.5])
    one.slow_score = np.array([0.1, 0.1, 0.1])
    one.succeeded[:] = 1.0
    p = sigmoid_choice(one.learning_progress(), one.succeeded > 0)
    assert list(one.probabilities().values()) == pytest.approx(0.75 * p + 0.25 / 3)


def test_the_slow_average_trails_the_fast_one():
    one = bandit(fast=0.1, slow=0.1, reweight=None)
    one.observe(seen({0: 0.4}, score={0: 0.2}))
    assert (one.fast_score[0], one.slow_score[0]) == (0.2, 0.2), "the level is no progress"
    one.observe(seen({0: 0.4}, step=1, score={0: 0.6}))
    assert one.fast_score[0] == pytest.approx(0.24)
    assert one.slow_score[0] == pytest.approx(0.204)
    assert one.values() == {"0": pytest.approx(0.036), "1": None}


BASELINES = [(0.2, 0.6, 0.5), (0.2, 0.1, 0.0), (0.9, 0.875, 0.5), (0.9, 0.5, 0.0)]  # .75 at most


@pytest.mark.parametrize(("baseline", "score", "expected"), BASELINES)
def test_a_random_policys_score_is_taken_off(baseline, score, expected):
    one = bandit(baseline={"0": baseline})
    one.observe(seen({0: 0.4, 1: 0.4}, score={0: score, 1: score}))
    assert one.fast_score == pytest.approx([expected, score])


def test_an_arm_without_a_success_is_left_to_the_floor_unless_none_has_any():
    one = bandit(3, floor=0.3)
    assert list(one.probabilities().values()) == pytest.approx([1 / 3] * 3)
    one.observe(seen({0: 0.0, 1: 0.2}, score={0: 0.0, 1: 0.1}))
    assert list(one.probabilities().values()) == pytest.approx([0.1, 0.8, 0.1])


def test_softmax_of_the_absolute_progress():
    one = bandit(3, fast=0.5, slow=0.2, reweight=None, choice="softmax", temperature=0.05, floor=0.1)
    one.fast_score, one.slow_score = np.array([0.3, 0.1, 0.0]), np.array([0.2, 0.2, 0.0])
    weights = np.exp([2, 2, 0])
    assert list(one.probabilities().values()) == pytest.approx(0.9 * weights / weights.sum() + 0.1 / 3)


def test_a_group_without_a_score_teaches_nothing():
    one = bandit()
    before = one.state()
    one.observe(seen({0: 0.4, 1: 0.2}))
    assert one.state() == before
