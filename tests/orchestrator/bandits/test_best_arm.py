"""The quadrature of Thompson rules, against closed forms, a finer rule and sampling."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.bandits import probability_of_best
from orchestrator.bandits.probability_of_best import best_of_betas, best_of_normals, normal


def test_the_normal_cdf_is_that_of_the_standard_library() -> None:
    z = np.linspace(-8.0, 8.0, 20001)
    cdf, bell = normal(z)
    exact = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in z])
    assert np.abs(cdf - exact).max() < 3e-12
    tail = z < -1
    assert np.abs(cdf[tail] / exact[tail] - 1).max() < 1e-12, "the small side keeps its digits"
    assert bell == pytest.approx(np.exp(-0.5 * z**2), rel=1e-13)


def test_the_probability_of_two_normals_has_a_closed_form() -> None:
    for gap, sd, other in ((0.1, 0.1, 0.2), (1.0, 0.01, 0.5), (-3.0, 1.0, 0.003), (0.0, 0.3, 1e-6)):
        best = best_of_normals(np.array([gap, 0.0]), np.array([sd, other]))
        z = gap / math.hypot(sd, other)
        assert best[0] == pytest.approx(0.5 * math.erfc(-z / math.sqrt(2)), abs=1e-7)
        assert best.sum() == pytest.approx(1.0, abs=1e-12)


def test_the_probabilities_of_normals_are_those_of_drawing() -> None:
    mean, sd = np.array([0.5, 0.45, 0.1, 0.52]), np.array([0.1, 0.3, 0.2, 0.02])
    drawn = np.random.default_rng(0).normal(mean, sd, (200_000, 4)).argmax(axis=1)
    assert best_of_normals(mean, sd) == pytest.approx(np.bincount(drawn, minlength=4) / 200_000, abs=0.005)


def beliefs(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Means in [0, 1] and counts of a thousand arms."""
    mean, count = rng.random(1000), rng.exponential(3, 1000)
    if kind == "equally known":
        count[:] = 9.0
    if kind == "some known well":
        mean[:5], count[:5] = 0.95, 2000.0
    return mean, count


@pytest.mark.parametrize("kind", ["equally known", "known by chance", "some known well"])
def test_a_thousand_normals_as_a_finer_rule_has_them(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mean, count = beliefs(kind, np.random.default_rng(1))
    sd = 0.5 / np.sqrt(1 + count)
    best = best_of_normals(mean, sd)
    monkeypatch.setattr(probability_of_best, "NORMAL_STEP", 0.05)
    monkeypatch.setattr(probability_of_best, "MAX_POINTS", 10**6)
    assert np.abs(best - best_of_normals(mean, sd)).max() < 1e-7


@pytest.mark.parametrize("kind", ["equally known", "known by chance", "some known well"])
def test_a_thousand_betas_as_a_finer_rule_has_them(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mean, count = beliefs(kind, np.random.default_rng(1))
    a, b = 1 + count * mean, 1 + count * (1 - mean)
    best = best_of_betas(a, b)
    monkeypatch.setattr(probability_of_best, "BETA_STEP", 0.02)
    assert np.abs(best - best_of_betas(a, b)).max() < 2e-4


SUCCESSES_AND_FAILURES = [
    ([0, 0, 0], [0, 0, 0]),  # the prior: a third each
    ([4, 5, 0], [0, 0, 0]),  # never failed
    ([0, 0, 0], [12, 10, 3]),  # never succeeded
    ([3.2, 0.4, 7.7], [1.1, 0.2, 6.3]),  # discounted
    ([1800, 31, 4], [200, 4, 1]),  # one known well
]


@pytest.mark.parametrize(("successes", "failures"), SUCCESSES_AND_FAILURES)
def test_the_probabilities_of_betas_are_those_of_drawing(successes, failures) -> None:
    a, b = 1 + np.array(successes, np.float64), 1 + np.array(failures, np.float64)
    drawn = np.random.default_rng(0).beta(a, b, (400_000, 3)).argmax(axis=1)
    assert best_of_betas(a, b) == pytest.approx(np.bincount(drawn, minlength=3) / 400_000, abs=0.003)


def test_two_betas_have_a_closed_form_for_whole_parameters() -> None:
    """P(Beta(2, 1) > Beta(1, 2)) = 5/6: the integral of 2 x (1 - (1 - x)^2)."""
    assert best_of_betas(np.array([2.0, 1.0]), np.array([1.0, 2.0]))[0] == pytest.approx(5 / 6, abs=2e-4)


def test_a_lone_arm_is_the_best_and_a_hopeless_one_never() -> None:
    assert best_of_normals(np.array([0.3]), np.array([0.1])).tolist() == [1.0]
    assert best_of_betas(np.array([2.0]), np.array([7.0])).tolist() == [1.0]
    assert best_of_normals(np.array([0.0, 100.0]), np.ones(2)).tolist() == [0.0, 1.0]
    assert best_of_betas(np.array([1.0, 5e4]), np.array([5e4, 1.0]))[0] < 1e-12


def test_variables_alike_count_as_one_entry() -> None:
    mean, sd = np.array([0.5, 0.2, 0.4]), np.array([0.1, 0.3, 0.2])
    each = best_of_normals(mean[[0, 1, 2, 2, 2, 2]], sd[[0, 1, 2, 2, 2, 2]])
    assert best_of_normals(mean, sd, np.array([1.0, 1.0, 4.0])) == pytest.approx(each[:3], abs=1e-12)


def test_memory_is_cut_into_pieces_without_changing_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    mean, count = beliefs("known by chance", np.random.default_rng(2))
    whole = [best_of_normals(mean, 1 / np.sqrt(1 + count)), best_of_betas(1 + count * mean, 1 + count)]
    monkeypatch.setattr(probability_of_best, "CHUNK", 1000)
    assert best_of_normals(mean, 1 / np.sqrt(1 + count)) == pytest.approx(whole[0], abs=1e-12)
    assert best_of_betas(1 + count * mean, 1 + count) == pytest.approx(whole[1], abs=1e-12)
