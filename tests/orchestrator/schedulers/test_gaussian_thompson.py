"""Discounted Gaussian Thompson sampling on the stage's clock; the rule itself is tested with the bandit `thompson`."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.bandits.testing import BanditSuite
from orchestrator.bandits.thompson import Thompson
from orchestrator.schedulers.gaussian_thompson import Config, create
from tests.orchestrator.bandits.steps import seen


class TestGaussianThompson(BanditSuite):
    def make(self, arms, rng):
        return create(Config(sigma=0.1, min_share=0.0), arms, rng)


def rule_of(config: Config) -> Thompson:
    """The rule behind the guards."""
    rule = create(config, ["a", "b"], np.random.default_rng(0)).rule
    assert isinstance(rule, Thompson)
    return rule


def test_the_posterior_of_a_worked_example() -> None:
    rule = rule_of(Config(discount=0.9, prior_mean=0.5, prior_weight=1.0, sigma=1.0))
    for stage, reward in enumerate((0.5, 0.4, 1.0)):  # N = .81 + .9 + 1 = 2.71, as in the reference
        rule.observe(seen({0: reward}, step=stage, num_groups=320))
    assert rule.weight[0] == pytest.approx(2.71), "a stage counts once"
    rule.total[0] = 1.9
    mean, sd = rule.posterior()
    assert (mean[0], sd[0]) == (pytest.approx(0.646900, abs=1e-6), pytest.approx(0.519174, abs=1e-6))
    assert (mean[1], sd[1]) == (0.5, 1.0), "no data: the prior"


def test_an_arm_that_had_no_stage_for_long_drifts_back_to_the_prior() -> None:
    rule = rule_of(Config(discount=0.5))
    rule.observe(seen({0: 0.1}))
    for stage in range(1, 41):
        rule.observe(seen({1: 0.3}, step=stage))
    mean, sd = rule.posterior()
    assert (mean[0], sd[0]) == (pytest.approx(0.5, abs=1e-6), pytest.approx(0.3, abs=1e-6))
    assert sd[1] < 0.2
