"""The statistics of comparisons, as plasticity.md section 6 defines them. Plain numbers in, plain numbers out.

The unit of replication is a whole run with its own seed: what is called a score here is one number of one run, and a
difference is that of two runs with the same seed. A table of scores has a row a run and a column a stratum (an
environment, a stage). Randomness comes from the generator that is passed in.

Sources: aggregates and their intervals 2108.13264 (google-research/rliable); the interval of the sign-flip test
Hartigan 1969 (typical values); the rest is textbook, each with its name. Why these: docs/decisions/0021.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from scipy import special

from store.intervals import LEVEL, Interval

ALPHA = 0.05  # of claims
POWER = 0.8  # of plans
NUM_DRAWS = 10_000  # of a bootstrap
MOST_ENUMERATED = 7  # seeds whose n^n resamples are all looked at
MOST_SIGNS = 20  # differences whose 2^n sign patterns are all looked at
NUM_PATTERNS = 100_000  # drawn beyond that
MOST_SEEDS = 1000  # planned for
NUM_PLANS = 1000  # made-up studies behind the power of few seeds
FINE = 32  # splits that a test may reject with, from which on Student's power is the sign-flip test's
_CHUNK = 1000  # sign patterns or resamples in memory at a time
_ROUNDING = 1e-9  # relative: sums in another order differ by less

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]  # tables (draws, rows, columns) to one number a draw


@dataclass(frozen=True)
class SignFlip:
    """The result of a sign-flip test, and the interval that says the same."""

    p: float  # two-sided, that the mean is 0
    interval: Interval | None  # the means that are not rejected; None: so few differences reject none
    is_exact: bool  # every pattern was looked at


def cluster_error(prompt_means: ArrayLike) -> float:
    """Standard error of a mean over samples that come in clusters: sd(prompt means) / sqrt(number of prompts)."""
    means = np.asarray(prompt_means, float)
    return float(means.std(ddof=1) / math.sqrt(means.size))


def interquartile_mean(scores: ArrayLike) -> float:
    """Mean without the lowest and the highest floor(n / 4) scores."""
    return float(interquartile_means(np.asarray(scores, float).reshape(1, -1, 1))[0])


def interquartile_means(tables: Floats) -> Floats:
    """The interquartile mean of each table (draws, rows, columns), over all its cells."""
    flat = np.sort(tables.reshape(len(tables), -1), axis=1)
    cut = flat.shape[1] // 4
    return np.asarray(flat[:, cut : flat.shape[1] - cut].mean(axis=1))


def means(tables: Floats) -> Floats:
    """The mean of each table (draws, rows, columns), over all its cells."""
    return np.asarray(tables.mean(axis=(1, 2)))


def probability_of_improvement(ours: ArrayLike, theirs: ArrayLike) -> float:
    """P(X > Y), ties one half, over all pairs of runs; with several columns the mean of theirs."""
    x, y = _table(ours), _table(theirs)
    pairs = np.sign(x[:, None, :] - y[None, :, :])
    return float(np.mean((pairs + 1) / 2))


def bootstrap(table: ArrayLike, rng: Generator, statistic: Statistic = means) -> Interval:
    """Percentile interval; rows are resampled inside each column, independently of the other columns.

    One column of up to 7 rows is enumerated: all n^n resamples, which fall into a few thousand multisets. With more
    columns their joint n^(n columns) resamples cannot be, and with more rows need not be: these are drawn.
    """
    scores = _table(table)
    if scores.shape[1] == 1 and len(scores) <= MOST_ENUMERATED:
        # each multiset once, repeated as often as it occurs among the n^n resamples
        n = len(scores)
        multisets = np.array(list(combinations_with_replacement(range(n), n)))
        counts = [np.bincount(one, minlength=n) for one in multisets]
        times = [math.factorial(n) // math.prod(math.factorial(int(k)) for k in of) for of in counts]
        values = np.repeat(statistic(scores[multisets]), times)
        return Interval(*_percentiles(values), values.size, True)
    picked = (rng.integers(len(scores), size=(_CHUNK, *scores.shape)) for _ in range(NUM_DRAWS // _CHUNK))
    columns = np.arange(scores.shape[1])
    values = np.concatenate([statistic(scores[rows, columns]) for rows in picked])
    return Interval(*_percentiles(values), NUM_DRAWS, False)


def _percentiles(values: Floats) -> tuple[float, float]:
    low, high = np.percentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def sign_flip(differences: ArrayLike, rng: Generator, alpha: float = ALPHA) -> SignFlip:
    """Test a mean by the signs of its differences, and collect the means m that the same test does not reject.

    p(m) is the share of the 2^n sign patterns whose sum is as far from 0 as that of the differences minus m, or
    farther. A pattern splits the differences into those it turns round and the others. It is as far from 0 exactly if
    the mean of one of the two parts lies on the other side of m, or on m. So p(m) steps up at the lower part's means
    and down at the upper part's, and {m: p(m) >= alpha} is an interval between two of them. Beyond 20 differences
    patterns are drawn, and the observed one counts among them (Phipson and Smyth 2010).
    """
    d = np.asarray(differences, float)
    lower, upper, is_exact = _split_means(d, rng)
    num_patterns = 2**d.size if is_exact else NUM_PATTERNS
    num_splits = lower.size + 1  # with the one that leaves all together, which counts for every m
    mean = _rounded(d.mean(keepdims=True), d)[0] if d.size else 0.0
    beyond = lower <= 0 if mean > 0 else upper >= 0
    p = 1.0 if mean == 0 else float(1 + beyond.sum()) / num_splits
    allowed = _allowed(alpha, num_splits)
    if allowed < 1:
        return SignFlip(p, None, is_exact)
    low = float(np.partition(lower, allowed - 1)[allowed - 1])
    high = float(np.partition(upper, -allowed)[-allowed])
    return SignFlip(p, Interval(low, high, num_patterns, is_exact), is_exact)


def _split_means(d: Floats, rng: Generator) -> tuple[Floats, Floats, bool]:
    """The lower and the upper part's mean of every split into two parts, and whether these are all splits."""
    n = d.size
    if n < 2:
        return np.empty(0), np.empty(0), True
    if n <= MOST_SIGNS:
        sums, sizes = np.zeros(1), np.zeros(1)
        for one in d[:-1]:  # the last stays where it is: a split and its mirror image are one
            sums, sizes = np.concatenate([sums, sums + one]), np.concatenate([sizes, sizes + 1])
        sums, sizes = sums[1:], sizes[1:]
    else:
        turned = [rng.integers(2, size=(_CHUNK, n)).astype(float) for _ in range(NUM_PATTERNS // _CHUNK)]
        sums = np.concatenate([chunk @ d for chunk in turned])
        sizes = np.concatenate([chunk.sum(axis=1) for chunk in turned])
    with np.errstate(divide="ignore", invalid="ignore"):
        ours, others = _rounded(sums / sizes, d), _rounded((d.sum() - sums) / (n - sizes), d)
    whole = (sizes == 0) | (sizes == n)  # drawn by chance: it counts for every m
    lower = np.where(whole, -np.inf, np.minimum(ours, others))
    upper = np.where(whole, np.inf, np.maximum(ours, others))
    return lower, upper, n <= MOST_SIGNS


def _rounded(means: Floats, d: Floats) -> Floats:
    """Means that differ from 0 by rounding alone are 0: sums in another order are the same sums."""
    return np.where(np.abs(means) <= _ROUNDING * np.abs(d).max(), 0.0, means)


def _allowed(alpha: float, num_splits: int) -> int:
    """How many splits may be as far from 0 for a p below alpha, the one that leaves all together among them."""
    return math.ceil(alpha * num_splits) - 1


def effect_size(differences: ArrayLike) -> float | None:
    """d_z = mean / sd of the differences; None when they are all the same, or only one."""
    d = np.asarray(differences, float)
    if d.size < 2:
        return None
    sd = float(d.std(ddof=1))
    return float(d.mean()) / sd if sd > _ROUNDING * max(1.0, float(np.abs(d).max())) else None


def paired_power(d_z: float, n: int, alpha: float = ALPHA) -> float:
    """Power of the two-sided paired t test with n pairs and a true effect d_z (noncentral t)."""
    shift, edge = abs(d_z) * math.sqrt(n), float(special.stdtrit(n - 1, 1 - alpha / 2))
    below = special.nctdtr(n - 1, shift, [edge, -edge])
    high, low = np.nan_to_num(below)  # scipy has no value where almost everything lies beyond the edge
    return float(1 - (high - low))


def sign_flip_power(d_z: float, n: int, alpha: float = ALPHA) -> float:
    """Power of the sign-flip test with n pairs, normal differences and a true effect d_z.

    A p has steps, so the test is held to the largest p below alpha that n pairs can give. Where the steps are fine its
    power is that of the t test at this p; where they are coarse it is less, and found from made-up studies.
    """
    is_exact = n <= MOST_SIGNS
    num_splits = 2 ** (n - 1) if is_exact else NUM_PATTERNS + 1
    allowed = _allowed(alpha, num_splits)
    if allowed < 1:
        return 0.0
    if not is_exact or allowed >= FINE:
        return paired_power(d_z, n, allowed / num_splits)
    return float(np.mean(_lower_ends(n, allowed) > -abs(d_z)))


@cache
def _lower_ends(n: int, allowed: int) -> Floats:
    """Lower ends of the intervals of made-up studies without an effect: an effect d_z moves them all by d_z."""
    rng = np.random.default_rng(0)
    lowers = (_split_means(d, rng)[0] for d in rng.standard_normal((NUM_PLANS, n)))
    return np.array([np.partition(lower, allowed - 1)[allowed - 1] for lower in lowers])


def seeds_for_power(d_z: float, power: float = POWER, alpha: float = ALPHA) -> int | None:
    """Fewest pairs with which the sign-flip test finds a true effect d_z with this power; None: above a thousand."""
    effect = abs(d_z)
    normal = float(special.ndtri(1 - alpha / 2) + special.ndtri(power)) / effect if effect else math.inf
    if normal > math.sqrt(MOST_SEEDS):
        return None  # it needs a little more than the normal law says

    def is_enough(
        n: int,
    ) -> bool:  # the t test's power is more than the sign-flip test's, and quicker to find
        return paired_power(effect, n, alpha) >= power and sign_flip_power(effect, n, alpha) >= power

    return next((n for n in range(2, MOST_SEEDS + 1) if is_enough(n)), None)


def least_p(num_pairs: int) -> float:
    """Smallest two-sided p that a sign-flip test of so many pairs can give: 2 / 2^n."""
    return min(1.0, 2.0 * 0.5**num_pairs)


def pairs_needed(num_comparisons: int = 1, alpha: float = ALPHA) -> int:
    """Fewest pairs whose p can be below alpha after the correction for so many comparisons: 6 for one."""
    return next(n for n in range(1, 200) if bonferroni(least_p(n), num_comparisons) < alpha)


def bonferroni(p: float, num_comparisons: int) -> float:
    """Correct a p for so many comparisons: p times their number."""
    return min(1.0, p * num_comparisons)


def _table(scores: ArrayLike) -> Floats:
    """One row a run, one column a stratum."""
    table = np.asarray(scores, float)
    return table.reshape(-1, 1) if table.ndim == 1 else table
