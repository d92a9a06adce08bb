"""Discounted UCB on the stage's clock; the rule itself is tested with the bandit of that name."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.bandits.discounted_ucb import DiscountedUcb
from orchestrator.bandits.testing import BanditSuite
from orchestrator.schedulers.discounted_ucb import Config, create
from tests.orchestrator.bandits.steps import seen

PLAYS = [(0, 1.0), (1, 0.0), (2, 0.5), (0, 1.0), (0, 0.0)]


class TestDiscountedUcb(BanditSuite):
    def make(self, arms, rng):
        return create(Config(), arms, rng)


def played(config: Config, plays: list[tuple[int, float]], num_groups: float = 1.0) -> DiscountedUcb:
    """The rule behind the guards, after these stages of so many groups."""
    scheduler = create(config, ["0", "1", "2"], np.random.default_rng(0))
    for stage, (arm, reward) in enumerate(plays):
        scheduler.observe(seen({arm: reward}, step=stage, num_groups=num_groups))
    assert isinstance(scheduler.rule, DiscountedUcb)
    return scheduler.rule


@pytest.mark.parametrize("num_groups", [1.0, 640.0])
def test_a_stage_counts_once_however_many_groups_it_had(num_groups: float) -> None:
    rule = played(Config(discount=0.9, width=2.0, xi=0.6), PLAYS, num_groups)
    assert rule.weight == pytest.approx((2.5561, 0.7290, 0.8100), abs=1e-12)
    assert rule.total == pytest.approx((1.5561, 0.0, 0.4050), abs=1e-12)
    assert list(rule.values().values()) == pytest.approx((0.608779, 0.0, 0.5), abs=1e-6)
    assert rule.index() == pytest.approx((1.759299, 2.154365, 2.543810), abs=1e-6)
    assert rule.preferences().tolist() == [0.0, 0.0, 1.0]


def test_an_arm_without_data_comes_before_all_others_and_ties_are_shared() -> None:
    rule = played(Config(), [(0, 1.0)])
    assert rule.index()[1] == math.inf
    assert rule.preferences().tolist() == [0.0, 0.5, 0.5]
    assert rule.values()["1"] is None


def test_few_observations_do_not_turn_the_bonus_round() -> None:
    rule = played(Config(discount=0.5), [(0, 0.1), (1, 0.9), (2, 0.1)])
    assert (rule.index() > rule.means()).all(), "ln n is at least 1"
