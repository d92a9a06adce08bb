"""Tabular Actor-Curator against the worked numbers of the curricula reference, section 4.3."""

import numpy as np
import pytest

from orchestrator.bandits.contracts import Feedback
from orchestrator.bandits.mirror_descent import Config, MirrorDescent
from orchestrator.bandits.softmax import softmax
from orchestrator.bandits.testing import BanditSuite
from tests.orchestrator.bandits.steps import seen


class TestMirrorDescent(BanditSuite):
    floor = 0.1

    def make(self, arms, rng):
        return bandit(arms, rng=rng)


class TestMirrorDescentWithoutFloor(BanditSuite):
    def make(self, arms, rng):
        return bandit(arms, rng=rng, floor=0.0)


def bandit(arms="abcd", rng=None, **options):
    return MirrorDescent(arms, rng or np.random.default_rng(0), Config(**options))


SECTION_4_3 = [  # share, w, P at floor .1
    (0.0, (0.207378, 0.207378, 0.377867, 0.207378), (0.211640, 0.211640, 0.365080, 0.211640)),
    (0.2, (0.215902, 0.215902, 0.352293, 0.215902), (0.219312, 0.219312, 0.342064, 0.219312)),  # .8 w + .05
]


@pytest.mark.parametrize(("share", "weights", "probabilities"), SECTION_4_3)
def test_update_and_choice_of_a_worked_example(share, weights, probabilities):
    one = bandit(rate=0.5, share=share)
    one.observe(seen({2: 0.3}, probability=0.25))
    assert one.preferences() == pytest.approx(weights, abs=1e-6)
    assert list(one.probabilities().values()) == pytest.approx(probabilities, abs=1e-6)


@pytest.mark.parametrize(("utility", "exponent"), [(1e6, 20.0), (-1e6, -20.0)])
def test_the_exponent_of_one_update_is_at_most_20(utility, exponent):
    one = bandit(share=0.0)
    one.observe(seen({2: utility}, probability=0.25))
    assert one.log_weight[2] - one.log_weight[0] == pytest.approx(exponent)


SPREAD = np.array([0.9, 0.6, 0.3, 0.1])  # chance of a group to have spread, by arm
WORTH = np.array([0.2, 0.5, 0.4, 0.3])  # signal of one that has; the others' is 0


@pytest.mark.parametrize("num_picks", [4, 32])
@pytest.mark.parametrize("rounds", [1, 3, 10])
def test_the_estimate_of_a_utility_is_unbiased_also_where_picks_are_played_again(num_picks, rounds):
    """Groups without spread are played again: the utility is what a pick earns in the mean, within four errors."""
    tried = np.arange(1, rounds + 1)
    utility = SPREAD * WORTH * ((1 - SPREAD[:, None]) ** (tried - 1) / tried).sum(axis=1)
    rng, gains = np.random.default_rng(rounds), []
    for seed in range(4000 // num_picks):
        one = bandit(rate=1e-6, share=0.0, rng=np.random.default_rng(seed))
        one.log_weight = np.log([0.4, 0.3, 0.2, 0.1])
        before = one.log_weight
        picks = one.pick(num_picks)
        at = np.array([one.arms.index(pick.arm) for pick in picks])
        needed = rng.geometric(SPREAD[at])
        num = np.minimum(needed, rounds)
        earned = np.where(needed <= rounds, WORTH[at], 0.0) / num
        one.learn([Feedback(p, r, n) for p, r, n in zip(picks, earned.tolist(), num.tolist(), strict=True)])
        moved = (one.log_weight - before) / 1e-6
        gains.append(moved[:3] - moved[3])
    errors = np.std(gains, axis=0) / np.sqrt(len(gains))
    assert (np.abs(np.mean(gains, axis=0) - (utility[:3] - utility[3])) < 4 * errors).all()


def test_two_picks_of_three_groups():
    """The mean over picks, not over groups: arm 2 once and arm 0 once, played three times."""
    one = bandit(rate=0.5, share=0.0)
    one.log_weight = np.log([0.25, 0.25, 0.25, 0.25])
    picks = one.witness(["c", "a"], [0.25, 0.25])
    one.learn([Feedback(picks[0], 0.3), Feedback(picks[1], 0.1, num_groups=3)])
    assert one.preferences() == pytest.approx(softmax(np.array([0.1, 0.0, 0.3, 0.0])), abs=1e-9)


def test_the_fixed_share_bounds_how_unlikely_an_arm_becomes():
    one = bandit(share=0.02, floor=0.0)
    for step in range(200):
        one.observe(seen({0: 1.0}, step=step, probability=0.5))
    assert min(one.preferences()) >= 0.02 / 4 - 1e-12
    assert softmax(one.log_weight) == pytest.approx([0.985, 0.005, 0.005, 0.005], abs=1e-6)
