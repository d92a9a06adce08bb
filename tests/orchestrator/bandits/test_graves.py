"""The curriculum form of EXP3.S against the worked numbers of the curricula reference, section 3.6."""

import numpy as np
import pytest

from orchestrator.bandits.contracts import Feedback
from orchestrator.bandits.graves import Config, Graves
from orchestrator.bandits.testing import BanditSuite
from tests.orchestrator.bandits.steps import seen


class TestGraves(BanditSuite):
    floor = 0.05

    def make(self, arms, rng):
        return bandit(arms, rng=rng, rate=0.05)


def bandit(arms="abc", rng=None, **options):
    return Graves(arms, rng or np.random.default_rng(0), Config(**options))


def test_update_and_choice_of_a_worked_example():
    one = bandit(rate=0.1, exploration=0.05)
    one.num_steps = 3  # the fourth shares 1 / 4
    one.observe(seen({1: 0.6}, probability=1 / 3))
    expected = np.array([0.024353, 0.137946, 0.024353])
    assert one.log_weight == pytest.approx(expected - expected.max(), abs=2e-6)
    assert list(one.probabilities().values()) == pytest.approx((0.321125, 0.357750, 0.321125), abs=1e-6)


def test_one_arm_alone_shares_nothing():
    one = bandit("a", rate=0.1)
    for step in range(3):
        one.learn([Feedback(pick, 0.1 * step) for pick in one.pick(4)])
    assert one.probabilities() == {"a": 1.0}


def test_rewards_are_rescaled_between_the_quantiles_of_their_history():
    one = bandit(rate=0.1, exploration=1.0)  # every P is 1 / 3
    one.rewards.add(np.arange(101) / 100)  # quantiles .2 and .8, which two more values hardly move
    one.num_steps = 10**9  # hardly any sharing
    picks = one.pick(2)
    one.learn([Feedback(picks[0], 0.65), Feedback(picks[1], 0.0)])
    told = {0.5: picks[0], -1.0: picks[1]}  # of [-1, 1]
    gain = dict.fromkeys("abc", 0.0)
    for scaled, pick in told.items():
        gain[pick.arm] += 0.1 * scaled * 3
    expected = np.array(list(gain.values()))
    assert one.log_weight == pytest.approx(expected - expected.max(), abs=0.02)


def test_rewards_that_were_all_the_same_teach_nothing():
    one = bandit(rate=0.1)
    for _ in range(5):
        one.learn([Feedback(pick, 0.3) for pick in one.pick(8)])
    assert list(one.probabilities().values()) == pytest.approx([1 / 3] * 3)


def test_the_first_step_gives_every_arm_what_the_others_had():
    """a = 1 at t = 1, the formula as it stands: the arm that gained ends below the others."""
    one = bandit(rate=0.1)
    one.observe(seen({1: 0.6}, probability=1 / 3))
    gained = np.exp(0.18)
    assert np.exp(one.log_weight) == pytest.approx(
        np.array([(1 + gained) / 2, 1.0, (1 + gained) / 2]) / ((1 + gained) / 2)
    )


def test_a_dominant_arm_keeps_all_numbers_finite():
    one = bandit(rate=1.0)
    for step, reward in enumerate([1.0, -1.0, 1.0]):
        one.observe(seen({0: reward}, step=step, num_groups=256, probability=0.05 / 3))
        assert np.isfinite(one.log_weight).all()
        assert sum(one.probabilities().values()) == pytest.approx(1.0)
