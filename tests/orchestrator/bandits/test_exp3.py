"""EXP3 and EXP3.S against the worked numbers of the curricula reference, section 3.6."""

import numpy as np
import pytest

from orchestrator.bandits.contracts import Feedback
from orchestrator.bandits.exp3 import Config, Exp3
from orchestrator.bandits.testing import BanditSuite
from tests.orchestrator.bandits.steps import seen


class TestExp3S(BanditSuite):
    floor = 0.1

    def make(self, arms, rng):
        return bandit(arms, rng=rng)


class TestExp3WithAFloorOfTheSpec(BanditSuite):
    floor = 0.28  # 1 - .9 * .8
    learns = True

    def make(self, arms, rng):
        return bandit(arms, rng=rng, floor=0.2, rate=0.02, share=0.05)


def bandit(arms="abc", rng=None, **options):
    return Exp3(arms, rng or np.random.default_rng(0), Config(**options))


SECTION_3_6 = [  # share, w, P
    (0.0, (1.0, 1.271249, 1.0), (0.313986, 0.372029, 0.313986)),
    (0.05, (1.135914, 1.407163, 1.135914), (0.316130, 0.367740, 0.316130)),
]


@pytest.mark.parametrize(("share", "weights", "probabilities"), SECTION_3_6)
def test_update_and_choice_of_a_worked_example(share, weights, probabilities):
    one = bandit(exploration=0.3, share=share)
    one.observe(seen({1: 0.8}, probability=1 / 3))
    assert np.exp(one.log_weight) == pytest.approx(np.array(weights) / max(weights), abs=1e-6)
    assert list(one.probabilities().values()) == pytest.approx(probabilities, abs=1e-6)


def test_a_batch_is_one_summed_update_with_the_probabilities_of_its_draw():
    one = bandit(exploration=0.3, share=0.0, rate=0.05)
    one.log_weight = np.log([0.5, 1.0, 0.25])
    drawn = np.array(list(one.probabilities().values()))
    picks = one.pick(50)
    counts = np.array([sum(pick.arm == arm for pick in picks) for arm in "abc"])
    one.observe(seen({0: 0.9}, probability=0.7))  # the probabilities are others by now
    before = one.log_weight.copy()
    one.learn([Feedback(pick, 0.4) for pick in picks])
    gain = 0.05 * counts * 0.4 / drawn
    moved = before + gain
    assert one.log_weight == pytest.approx(moved - moved.max())


def test_the_rate_is_exploration_over_arms_by_default():
    default, told = bandit(exploration=0.3), bandit(exploration=0.3, rate=0.1)
    for one in (default, told):
        one.observe(seen({1: 0.8}, probability=1 / 3))
    assert default.log_weight == pytest.approx(told.log_weight, abs=1e-15)


def reward_on_one_arm(one, num_groups=1.0):
    one.observe(seen({0: 1.0}, num_groups=num_groups, probability=one.probabilities()["a"]))


def check_it_is_finite_and_floored(one):
    assert np.isfinite(one.log_weight).all()
    probabilities = one.probabilities()
    assert min(probabilities.values()) >= 0.1 / 3
    assert sum(probabilities.values()) == pytest.approx(1.0, abs=1e-12)
    assert probabilities["a"] == max(probabilities.values()) > 0.4


@pytest.mark.parametrize("share", [1e-6, 0.1])
def test_a_million_steps_of_reward_1_on_one_arm_end_where_the_weights_come_to_rest(share):
    """What one update leaves as it is, to the last bit, all later ones leave as it is."""
    one = bandit(exploration=0.1, share=share)
    for _ in range(5000):
        before = one.log_weight
        reward_on_one_arm(one)
    assert (one.log_weight == before).all()
    check_it_is_finite_and_floored(one)


def test_a_million_steps_of_reward_1_on_one_arm_without_share():
    """Once P has come to rest every step gains the same: the rest of the million in a hundred updates."""
    one = bandit(exploration=0.1, share=0.0)
    for _ in range(10_000):
        reward_on_one_arm(one)
    for _ in range(100):
        reward_on_one_arm(one, num_groups=9_900)
    assert one.log_weight[1] == pytest.approx(-1e6 * (0.1 / 3) / (0.9 + 0.1 / 3), rel=1e-3)
    check_it_is_finite_and_floored(one)


def test_the_largest_gain_there_can_be_does_not_overflow():
    one = bandit(exploration=1e-6, rate=1.0)
    one.observe(seen({0: 1.0}, num_groups=1e6, probability=1e-6 / 3))
    assert np.isfinite(one.log_weight).all()
    assert list(one.preferences()) == pytest.approx([1, 0, 0], abs=1e-6)


def test_with_share_a_lead_is_bounded_and_without_it_is_not():
    shared, plain = bandit(share=0.1), bandit(share=0.0)
    for step in range(3000):
        for one in (shared, plain):
            one.observe(seen({0: 1.0}, step=step, probability=0.5))
    assert plain.log_weight.min() == pytest.approx(-3000 * 0.1 / 3 * 2)
    assert shared.log_weight.min() > np.log(np.e * 0.1 / 3) - 0.1 / 3 * 2 - 0.1


def test_a_weight_is_not_lost_when_the_only_likely_arm_goes():
    one = bandit(share=0.1)
    one.log_weight = np.array([0.0, -2000.0, -2001.0])
    one.retire("a")
    one.observe(seen({0: 0.0}, probability=0.5))
    assert np.isfinite(one.log_weight).all()
