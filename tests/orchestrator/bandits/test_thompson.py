"""Discounted Gaussian Thompson sampling, against the curricula reference, section 3.5."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.bandits.probability_of_best import best_of_normals
from orchestrator.bandits.testing import BanditSuite
from orchestrator.bandits.thompson import Config, Thompson, create
from tests.orchestrator.bandits.steps import seen


class TestThompson(BanditSuite):
    keeps_ratios = False

    def make(self, arms, rng):
        return create(Config(), arms, rng)


class TestThompsonWithFloor(BanditSuite):
    keeps_ratios = False
    floor = 0.2

    def make(self, arms, rng):
        return create(Config(floor=0.2, sigma=0.1), arms, rng)


SECTION_3_5 = [  # N, S, mean, sd
    (2.71, 1.9, 0.646900, 0.519174),
    (0.0, 0.0, 0.5, 1.0),  # no data: the prior
]


@pytest.mark.parametrize(("weight", "total", "mean", "sd"), SECTION_3_5)
def test_the_posterior_of_a_worked_example(weight: float, total: float, mean: float, sd: float) -> None:
    rule = Thompson(["a", "b"], np.random.default_rng(0), Config(prior_mean=0.5, prior_weight=1.0, sigma=1.0))
    rule.weight[0], rule.total[0] = weight, total
    means, sds = rule.posterior()
    assert (means[0], sds[0]) == (pytest.approx(mean, abs=1e-6), pytest.approx(sd, abs=1e-6))


def test_n_counts_slots_with_the_age_of_their_step() -> None:
    rule = Thompson(["a", "b"], np.random.default_rng(0), Config(discount=0.9))
    rule.observe(seen({0: 0.4}, step=0, num_groups=10))
    rule.observe(seen({1: 0.2}, step=2, num_groups=4))
    assert rule.weight == pytest.approx([8.1, 4.0])


def test_an_arm_that_is_not_picked_drifts_back_to_the_prior_and_is_tried_again() -> None:
    rule = Thompson(["a", "b"], np.random.default_rng(0), Config(sigma=0.1))
    rule.observe(seen({0: 0.0, 1: 0.3}, num_groups=32))
    before = rule.probabilities()["a"]
    for step in range(1, 100):
        rule.observe(seen({1: 0.3}, step=step, num_groups=32))
    mean, sd = rule.posterior()
    assert (mean[0], sd[0]) == (pytest.approx(0.25, abs=1e-3), pytest.approx(0.1, abs=1e-3))
    assert before < 1e-3 < 0.2 < rule.probabilities()["a"]


def test_the_recorded_probability_is_that_of_the_posterior() -> None:
    rule = Thompson(list("abc"), np.random.default_rng(0), Config())
    rule.observe(seen({0: 0.4, 1: 0.3}, num_groups=20))
    drawn = np.random.default_rng(1).normal(*rule.posterior(), (100_000, 3)).argmax(axis=1)
    shares = dict(zip("abc", np.bincount(drawn) / 100_000, strict=True))
    for pick in rule.pick(30):
        assert pick.probability == pytest.approx(shares[pick.arm], abs=0.007)


def test_arms_that_were_never_picked_are_reckoned_as_one_and_each_has_its_probability() -> None:
    rule = Thompson([f"a{k}" for k in range(50)], np.random.default_rng(0), Config())
    rule.observe(seen({3: 0.4, 7: 0.1, 11: 0.3}, num_groups=4))
    assert rule.preferences() == pytest.approx(best_of_normals(*rule.posterior()), abs=1e-12)
