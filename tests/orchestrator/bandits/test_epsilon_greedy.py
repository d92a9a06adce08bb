"""Epsilon-greedy, section 3.2."""

import math

import numpy as np
import pytest

from orchestrator.bandits.epsilon_greedy import Config, EpsilonGreedy
from orchestrator.bandits.testing import BanditSuite
from tests.orchestrator.bandits.steps import seen


class TestEpsilonGreedy(BanditSuite):
    floor = 0.6
    keeps_ratios = False

    def make(self, arms, rng):
        return bandit(arms, rng=rng)


class TestGreedyButForTheFloor(BanditSuite):
    floor = 0.2
    keeps_ratios = False

    def make(self, arms, rng):
        return bandit(arms, rng=rng, epsilon=0.0, floor=0.2)


def bandit(arms="abcd", rng=None, **options):
    return EpsilonGreedy(arms, rng or np.random.default_rng(0), Config(**options))


SECTION_3_2 = [  # Q, P at epsilon .4
    ((0.1, 0.5, 0.2, 0.0), (0.1, 0.7, 0.1, 0.1)),
    ((0.5, 0.5, 0.2, 0.0), (0.4, 0.4, 0.1, 0.1)),  # ties share
    ((0.3, 0.3, 0.3, 0.3), (0.25, 0.25, 0.25, 0.25)),
]


@pytest.mark.parametrize(("q", "expected"), SECTION_3_2)
def test_the_rest_goes_to_all_arms_the_best_included(q, expected):
    one = bandit(epsilon=0.4)
    one.q = np.array(q)
    assert list(one.probabilities().values()) == pytest.approx(expected)


def test_one_arm_has_probability_1():
    assert bandit("a", epsilon=1.0).probabilities() == {"a": 1.0}


@pytest.mark.parametrize(("learning_rate", "half_life"), [(0.5, 1.0), (0.1, 6.6)])
def test_half_life_of_an_observation(learning_rate, half_life):
    one = bandit(learning_rate=learning_rate, start=0.0)
    one.observe(seen({0: 1.0}))
    first, steps = one.q[0], 0
    while one.q[0] > first / 2 * (1 + 1e-12):
        steps += 1
        one.observe(seen({0: 0.0}, step=steps))
    assert steps == math.ceil(half_life)


def test_an_arm_that_was_not_picked_keeps_its_estimate_and_an_unseen_one_is_tried_first():
    one = bandit(epsilon=0.0)
    one.observe(seen({0: 0.5, 1: 0.2}))
    assert list(one.values().values()) == [0.75, 0.6, 1.0, 1.0]
    assert {pick.arm for pick in one.pick(50)} == {"c", "d"}
