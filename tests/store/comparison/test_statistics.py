"""Every worked number of plasticity.md section 6, and what must hold beyond them."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import scipy.stats
from numpy.random import Generator

from store.comparison import statistics as s
from store.intervals import Interval, ratio_interval, t_interval, wilson

D = [0.03, 0.05, 0.01, 0.04, 0.02]
PROMPTS = [[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 1, 0]]


def rng() -> Generator:
    return np.random.default_rng(7)


def ends(interval: Interval) -> list[float]:
    return [interval.low, interval.high]


def ends_of(found: s.SignFlip) -> list[float]:
    assert found.interval is not None
    return ends(found.interval)


WORKED: list[tuple[str, Callable[[], object], object, float]] = [
    ("cluster error", lambda: s.cluster_error(np.mean(PROMPTS, axis=1)), 0.213478, 1e-5),
    ("binomial error, beside it", lambda: math.sqrt(np.mean(PROMPTS) * (1 - np.mean(PROMPTS)) / 16), 0.124020, 1e-5),
    ("iqm of 8", lambda: s.interquartile_mean(range(1, 9)), 4.5, 1e-5),
    ("iqm of 5", lambda: s.interquartile_mean([0.1, 0.2, 0.3, 0.4, 0.9]), 0.3, 1e-5),
    ("improvement", lambda: s.probability_of_improvement([0.5, 0.6, 0.7], [0.4, 0.6, 0.65]), 0.611111, 1e-5),
    ("percentile interval", lambda: ends(s.bootstrap(D, rng())), [0.018, 0.042], 1e-5),
    ("t interval", lambda: ends(t_interval(D)), [0.010368, 0.049632], 1e-5),
    ("Wilson, 60 of 200", lambda: ends(wilson(60, 200)), [0.240747, 0.366791], 1e-5),
    ("ratio to a base of 1", lambda: ends(ratio_interval(D, [1.0] * 5)), [0.010368, 0.049632], 1e-5),
    ("ratio that every pair has", lambda: ends(ratio_interval([0.1, 0.2, 0.3], [0.2, 0.4, 0.6])), [0.5, 0.5], 1e-9),
    ("smallest p of 4", lambda: s.least_p(4), 0.125, 1e-5),
    ("smallest p of 5", lambda: s.least_p(5), 0.0625, 1e-5),
    ("smallest p of 6", lambda: s.least_p(6), 0.03125, 1e-5),
    ("smallest p of 8", lambda: s.least_p(8), 0.0078125, 1e-5),
    ("sign flip", lambda: s.sign_flip(D, rng()).p, 0.0625, 1e-5),
    ("sign flip, one against", lambda: s.sign_flip([0.03, 0.05, 0.01, 0.04, -0.02], rng()).p, 0.1875, 1e-5),
    ("sign flip interval", lambda: ends_of(s.sign_flip(D, rng(), 0.1)), [0.01, 0.05], 1e-5),
    ("sign flip interval, wider", lambda: ends_of(s.sign_flip(D, rng(), 0.15)), [0.015, 0.045], 1e-5),
    ("effect size", lambda: s.effect_size(D), 4.242641 / math.sqrt(5), 1e-5),
    ("Student's p, beside it", lambda: scipy.stats.ttest_1samp(D, 0).pvalue, 0.013236, 1e-4),
    ("power d_z 1, n 5", lambda: s.paired_power(1, 5), 0.40, 0.01),
    ("power d_z 1, n 8", lambda: s.paired_power(1, 8), 0.68, 0.01),
    ("power d_z 1, n 10", lambda: s.paired_power(1, 10), 0.80, 0.01),
    ("power d_z 1.5, n 5", lambda: s.paired_power(1.5, 5), 0.71, 0.01),
    ("power d_z 1.5, n 8", lambda: s.paired_power(1.5, 8), 0.95, 0.01),
    ("power d_z 1.5, n 10", lambda: s.paired_power(1.5, 10), 0.99, 0.01),
    ("bonferroni", lambda: [s.bonferroni(p, 3) for p in (0.01, 0.04, 0.5)], [0.03, 0.12, 1.0], 1e-5),
]


@pytest.mark.parametrize(("compute", "expected", "tolerance"), [w[1:] for w in WORKED], ids=[w[0] for w in WORKED])
def test_worked_numbers(compute: Callable[[], object], expected: object, tolerance: float) -> None:
    assert compute() == pytest.approx(expected, abs=tolerance)


def test_the_resamples_of_few_seeds_are_all_looked_at() -> None:
    scores = np.array([0.1, 0.4, 0.2, 0.9])
    brute = [s.interquartile_mean(scores[list(rows)]) for rows in product(range(4), repeat=4)]
    found = s.bootstrap(scores, rng(), s.interquartile_means)
    assert (found.num_draws, found.is_exact) == (4**4, True)
    assert ends(found) == pytest.approx(np.percentile(brute, [2.5, 97.5]).tolist())
    assert s.bootstrap(np.arange(7.0), rng()).num_draws == 7**7


def test_more_seeds_or_strata_are_drawn_with_the_given_generator() -> None:
    scores = np.random.default_rng(0).normal(size=(8, 1))
    found = s.bootstrap(scores, rng())
    assert (found.num_draws, found.is_exact) == (10_000, False)
    assert found == s.bootstrap(scores, rng())
    assert found != s.bootstrap(scores, np.random.default_rng(8))
    assert not s.bootstrap(scores.reshape(4, 2), rng()).is_exact


def test_columns_are_resampled_independently() -> None:
    """Two columns that cancel: drawn together the mean would never move."""
    table = np.array([[1.0, -1.0], [-1.0, 1.0], [2.0, -2.0], [-2.0, 2.0]])
    found = s.bootstrap(table, rng())
    assert found.high > 0.5
    assert found.low < -0.5


def test_drawing_agrees_with_enumerating(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(3).uniform(size=7)
    exact = s.bootstrap(scores, rng())
    monkeypatch.setattr(s, "MOST_ENUMERATED", 6)
    drawn = s.bootstrap(scores, rng())
    assert (exact.is_exact, drawn.is_exact) == (True, False)
    assert ends(drawn) == pytest.approx(ends(exact), abs=0.01)


@pytest.mark.parametrize("size", [6, 13, 20])
def test_sign_flips_count_patterns_whatever_the_rounding(size: int) -> None:
    """Differences of one size: p is twice the binomial tail, ties included."""
    d = [0.1] * (size - 1) + [-0.1]
    assert s.sign_flip(d, rng()).p == pytest.approx(2 * (1 + size) / 2**size)
    assert s.sign_flip([0.0] * size, rng()).p == 1.0


def test_many_differences_are_tested_by_drawing() -> None:
    d = np.random.default_rng(1).normal(0.3, 1, 25)
    found = s.sign_flip(d, rng())
    assert found.interval is not None
    assert (found.is_exact, found.interval.num_draws) == (False, 100_000)
    assert found.p == pytest.approx(scipy.stats.ttest_1samp(d, 0).pvalue, abs=0.02)
    assert ends_of(found) == pytest.approx(ends(t_interval(d)), abs=0.05)
    assert s.sign_flip(np.ones(30), rng()).p == pytest.approx(1 / 100_001)  # never 0


@pytest.mark.parametrize(("comparisons", "pairs"), [(1, 6), (2, 7), (3, 7), (4, 8), (10, 9), (100, 12)])
def test_pairs_needed_grow_with_the_number_of_comparisons(comparisons: int, pairs: int) -> None:
    assert s.pairs_needed(comparisons) == pairs
    assert s.least_p(pairs) * comparisons < 0.05 <= s.least_p(pairs - 1) * comparisons


def test_seeds_for_power_is_where_power_is_first_enough() -> None:
    for d_z in (0.3, -0.7, 1.0, 4.0):
        n = s.seeds_for_power(d_z)
        assert n is not None
        assert s.sign_flip_power(d_z, n) >= 0.8
        assert n == 6 or s.sign_flip_power(d_z, n - 1) < 0.8
    assert s.seeds_for_power(0.0) is None
    assert s.seeds_for_power(0.01) is None


def test_power_is_a_number_however_large_the_effect() -> None:
    for d_z in (3.0, 100.0, 1e6):
        assert s.paired_power(d_z, 20, 0.03) == pytest.approx(1.0)
        assert (s.seeds_for_power(d_z), s.seeds_for_power(d_z, alpha=0.05 / 21)) == (6, 10)


def test_no_effect_size_without_spread() -> None:
    assert s.effect_size([0.1 + 0.2, 0.3, 0.3]) is None
    assert s.effect_size([0.3]) is None


def test_improvement_is_averaged_over_strata() -> None:
    ours, theirs = [[1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]
    assert s.probability_of_improvement(ours, theirs) == pytest.approx((1 + 0.25) / 2)
    assert s.probability_of_improvement(theirs, ours) == pytest.approx(1 - (1 + 0.25) / 2)
