"""Discounted Gaussian Thompson sampling, against the curricula reference, section 3.5, and against sampling."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.bandits.testing import BanditSuite
from orchestrator.schedulers.gaussian_thompson import (
    Config,
    GaussianThompson,
    create,
    probability_of_being_best,
)


class TestGaussianThompson(BanditSuite):
    def make(self, arms, rng):
        return create(Config(sigma=0.1, min_share=0.0), arms, rng)


def test_section_3_5() -> None:
    config = Config(discount=0.9, prior_mean=0.5, prior_weight=1.0, sigma=1.0)
    rule = GaussianThompson(["a", "b"], np.random.default_rng(0), config)
    for reward in (0.5, 0.4, 1.0):  # N = .81 + .9 + 1 = 2.71, as in the reference
        rule.observe({"a": reward})
    rule.total["a"] = 1.9
    mean, sd = rule.posterior()
    assert rule.weight["a"] == pytest.approx(2.71)
    assert (mean[0], sd[0]) == (pytest.approx(0.646900, abs=1e-6), pytest.approx(0.519174, abs=1e-6))
    assert (mean[1], sd[1]) == (0.5, 1.0), "no data: the prior"


def test_the_probability_of_two_arms_is_the_normal_one() -> None:
    best = probability_of_being_best(np.array([0.6, 0.5]), np.array([0.1, 0.2]))
    z = 0.1 / math.sqrt(0.1**2 + 0.2**2)
    assert best[0] == pytest.approx(0.5 * (1 + math.erf(z / math.sqrt(2))), abs=1e-6)
    assert best.sum() == pytest.approx(1.0, abs=1e-12)


def test_the_probabilities_are_those_of_drawing_thetas() -> None:
    mean, sd = np.array([0.5, 0.45, 0.1, 0.52]), np.array([0.1, 0.3, 0.2, 0.02])
    drawn = np.random.default_rng(0).normal(mean, sd, (200_000, 4)).argmax(axis=1)
    shares = np.bincount(drawn, minlength=4) / 200_000
    assert probability_of_being_best(mean, sd) == pytest.approx(shares, abs=0.005)


def test_an_arm_that_had_no_stage_for_long_drifts_back_to_the_prior() -> None:
    rule = GaussianThompson(["a", "b"], np.random.default_rng(0), Config(discount=0.5))
    rule.observe({"a": 0.1})
    for _ in range(40):
        rule.observe({"b": 0.3})
    mean, sd = rule.posterior()
    assert (mean[0], sd[0]) == (pytest.approx(0.5, abs=1e-6), pytest.approx(0.3, abs=1e-6))
    assert sd[1] < 0.2
