"""Discounted UCB, against the curricula reference, section 3.3."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.bandits.testing import BanditSuite
from orchestrator.schedulers.discounted_ucb import Config, DiscountedUcb, create

PLAYS = [(0, 1.0), (1, 0.0), (2, 0.5), (0, 1.0), (0, 0.0)]


class TestDiscountedUcb(BanditSuite):
    def make(self, arms, rng):
        return create(Config(), arms, rng)


def played(config: Config, plays: list[tuple[int, float]]) -> DiscountedUcb:
    rule = DiscountedUcb(["0", "1", "2"], np.random.default_rng(0), config)
    for arm, reward in plays:
        rule.observe({str(arm): reward})
    return rule


def test_section_3_3() -> None:
    rule = played(Config(discount=0.9, width=2.0, xi=0.6), PLAYS)
    assert list(rule.weight.values()) == pytest.approx((2.5561, 0.7290, 0.8100), abs=1e-12)
    assert list(rule.total.values()) == pytest.approx((1.5561, 0.0, 0.4050), abs=1e-12)
    assert sum(rule.weight.values()) == pytest.approx(4.0951)
    assert list(rule.values().values()) == pytest.approx((0.608779, 0.0, 0.5), abs=1e-6)
    assert list(rule.index().values()) == pytest.approx((1.759299, 2.154365, 2.543810), abs=1e-6)
    assert rule.preferences().tolist() == [0.0, 0.0, 1.0]


def test_an_arm_without_data_comes_before_all_others_and_ties_are_shared() -> None:
    rule = played(Config(), [(0, 1.0)])
    assert rule.index()["1"] == math.inf
    assert rule.preferences().tolist() == [0.0, 0.5, 0.5]
    assert rule.values()["1"] is None


def test_few_observations_do_not_turn_the_bonus_round() -> None:
    rule = played(Config(discount=0.5), [(0, 0.1), (1, 0.9), (2, 0.1)])
    assert all(rule.index()[arm] > (rule.mean(arm) or 0.0) for arm in rule.arms), "ln n is at least 1"
