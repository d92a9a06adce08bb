"""Discounted Beta Thompson sampling, against the curricula reference, section 3.5."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.bandits.beta_thompson import BetaThompson, Config, create
from orchestrator.bandits.testing import BanditSuite
from tests.orchestrator.bandits.steps import seen


class TestBetaThompson(BanditSuite):
    keeps_ratios = False

    def make(self, arms, rng):
        return create(Config(), arms, rng)


def rule(discount: float) -> BetaThompson:
    return BetaThompson(["a", "b"], np.random.default_rng(0), Config(discount=discount))


SECTION_3_5 = [  # discount, both parameters of both arms after 1 of 1, 3 of 4 (slots), then 0 of 1 of the other
    (1.0, (5.0, 1.0), (2.0, 2.0)),
    (0.9, (1 + 0.81 + 0.9 * 3, 1.0), (1 + 0.9, 2.0)),
]


@pytest.mark.parametrize(("discount", "a", "b"), SECTION_3_5)
def test_the_posterior_of_a_worked_example(discount: float, a: tuple[float, ...], b: tuple[float, ...]) -> None:
    made = rule(discount)
    made.observe(seen({0: 1.0}, step=0))
    made.observe(seen({0: 0.75}, step=1, num_groups=4))
    made.observe(seen({1: 0.0}, step=2))
    assert made.posterior()[0] == pytest.approx((a[0], a[1]))
    assert made.posterior()[1] == pytest.approx((b[0], b[1]))


def test_the_probability_is_that_of_drawing_betas() -> None:
    made = rule(1.0)
    made.observe(seen({0: 0.6, 1: 0.3}, num_groups=5))
    drawn = np.random.default_rng(0).beta(*made.posterior(), (200_000, 2)).argmax(axis=1)
    assert made.preferences() == pytest.approx(np.bincount(drawn) / 200_000, abs=0.004)


def test_an_arm_that_is_not_picked_becomes_uniform_again() -> None:
    made = rule(0.9)
    made.observe(seen({0: 0.0, 1: 0.5}, num_groups=50))
    made.observe(seen({1: 0.5}, step=100, num_groups=50))
    assert [float(p[0]) for p in made.posterior()] == pytest.approx([1.0, 1.0], abs=0.01)


def test_a_reward_that_is_no_share_of_a_success_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rewards in \[0, 1\] and was given 1.2: choose `thompson`"):
        rule(0.9).observe(seen({0: 1.2}))
