"""Discounted UCB, against the curricula reference, section 3.3."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.bandits.discounted_ucb import Config, DiscountedUcb, create
from orchestrator.bandits.testing import BanditSuite
from tests.orchestrator.bandits.steps import seen

PLAYS = [(0, 1.0), (1, 0.0), (2, 0.5), (0, 1.0), (0, 0.0)]


class TestDiscountedUcb(BanditSuite):
    in_turn = True
    keeps_ratios = False

    def make(self, arms, rng):
        return create(Config(width=0.25), arms, rng)


class TestDiscountedUcbWithFloor(BanditSuite):
    in_turn = True
    keeps_ratios = False
    floor = 0.2

    def make(self, arms, rng):
        return create(Config(floor=0.2, discount=0.8, width=0.5), arms, rng)


def played(config: Config, num_groups: float = 1.0) -> DiscountedUcb:
    rule = DiscountedUcb(["0", "1", "2"], np.random.default_rng(0), config)
    for step, (arm, reward) in enumerate(PLAYS):
        rule.observe(seen({arm: reward}, step=step, num_groups=num_groups))
    return rule


SECTION_3_3 = [  # width, xi, index
    (2.0, 0.6, (1.759299, 2.154365, 2.543810)),
    (1.0, 0.6, (1.184039, 1.077183, 1.521905)),  # the same with half of the bonus
]


@pytest.mark.parametrize(("width", "xi", "index"), SECTION_3_3)
def test_the_index_of_a_worked_example(width: float, xi: float, index: tuple[float, ...]) -> None:
    rule = played(Config(discount=0.9, width=width, xi=xi))
    assert rule.counts() == pytest.approx((2.5561, 0.7290, 0.8100), abs=1e-12)
    assert rule.total == pytest.approx((1.5561, 0.0, 0.4050), abs=1e-12)
    assert rule.counts().sum() == pytest.approx(4.0951)
    assert rule.means() == pytest.approx((0.608779, 0.0, 0.5), abs=1e-6)
    assert rule.index() == pytest.approx(index, abs=1e-6)
    assert rule.preferences().tolist() == [0.0, 0.0, 1.0]


def test_n_counts_slots() -> None:
    assert played(Config(discount=0.9), num_groups=64).counts() == pytest.approx((163.5904, 46.656, 51.84))


def test_discount_1_with_width_1_and_xi_2_is_ucb1() -> None:
    rule = played(Config(discount=1.0, width=1.0, xi=2.0))
    bonus = [math.sqrt(2 * math.log(5) / n) for n in (3, 1, 1)]
    assert rule.index() == pytest.approx(np.array([2 / 3, 0.0, 0.5]) + bonus)


def test_an_arm_that_is_not_seen_keeps_its_mean_while_its_bonus_grows() -> None:
    rule = played(Config())
    mean, index = rule.means()[2], rule.index()[2]
    for step in range(5, 15):
        rule.observe(seen({0: 0.5}, step=step))
    assert rule.means()[2] == pytest.approx(mean)
    assert rule.index()[2] > index + 0.3
    rule.observe(seen({0: 0.5}, step=400))
    assert rule.index()[2] == math.inf, "all its weight is gone: unseen again"


def test_an_arm_without_data_comes_first_and_its_value_is_not_made_up() -> None:
    rule = create(Config(floor=0.3), ["0", "1", "2"], np.random.default_rng(0))
    rule.observe(seen({0: 1.0}))
    assert rule.values() == {"0": 1.0, "1": None, "2": None}
    assert list(rule.probabilities().values()) == pytest.approx([0.1, 0.45, 0.45])


def test_few_observations_do_not_turn_the_bonus_round() -> None:
    rule = played(Config(discount=0.1))
    assert (rule.index() > rule.means()).all(), "ln n is at least 1"


def test_forgetting_an_arm_makes_it_new() -> None:
    rule = played(Config())
    rule.forget(np.array([0]))
    assert np.isnan(rule.means()).tolist() == [True, False, False]
