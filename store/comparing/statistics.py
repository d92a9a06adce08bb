"""The statistics of comparisons, as plasticity.md section 6 defines them. Plain numbers in, plain numbers out.

The unit of replication is a whole run with its own seed: what is called a score here is one number of one run, and a
difference is that of two runs with the same seed. A table of scores has a row a run and a column a stratum (an
environment, a stage). Randomness comes from the generator that is passed in.

Sources: aggregates and intervals 2108.13264 (google-research/rliable); the rest is textbook, each with its name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from scipy import special

LEVEL = 0.95  # of intervals
ALPHA = 0.05  # of claims
POWER = 0.8  # of plans
NUM_DRAWS = 10_000  # of a bootstrap
MOST_ENUMERATED = 7  # seeds whose n^n resamples are all looked at
MOST_SIGNS = 20  # differences whose 2^n sign patterns are all looked at
NUM_PATTERNS = 100_000  # drawn beyond that
MOST_SEEDS = 1000  # planned for
_CHUNK = 1000  # sign patterns or resamples in memory at a time
_ROUNDING = 1e-9  # relative: sums in another order differ by less

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]  # tables (draws, rows, columns) to one number a draw


@dataclass(frozen=True)
class Interval:
    """An interval, and how many resamples it comes from."""

    low: float
    high: float
    num_draws: int = 0  # 0: none, it is a formula
    is_exact: bool = True  # every resample was looked at


@dataclass(frozen=True)
class SignFlip:
    """The result of a sign-flip test."""

    p: float  # two-sided
    num_patterns: int
    is_exact: bool  # every pattern was looked at


# --- one cell ----------------------------------------------------------------------------------------------


def cluster_error(prompt_means: ArrayLike) -> float:
    """Standard error of a mean over samples that come in clusters: sd(prompt means) / sqrt(number of prompts)."""
    means = np.asarray(prompt_means, float)
    return float(means.std(ddof=1) / math.sqrt(means.size))


def wilson(share: float, n: int, level: float = LEVEL) -> Interval:
    """Wilson's interval of a binomial share of n."""
    z = _normal(level)
    centre, scale = share + z * z / (2 * n), 1 + z * z / n
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval((centre - half) / scale, (centre + half) / scale)


def detectable(share: float, num_prompts: int, power: float = POWER, alpha: float = ALPHA) -> float:
    """Difference of two shares near `share`, each over its own prompts, that is seen with this power."""
    z = _normal(1 - alpha) + float(special.ndtri(power))
    return float(z * math.sqrt(2 * share * (1 - share) / num_prompts))


# --- aggregates over seeds and strata ----------------------------------------------------------------------


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


# --- intervals ---------------------------------------------------------------------------------------------


def bootstrap(
    table: ArrayLike, rng: Generator, statistic: Statistic = means, num_draws: int = NUM_DRAWS
) -> Interval:
    """Percentile interval; rows are resampled inside each column, independently of the other columns.

    One column of up to 7 rows is enumerated: all n^n resamples, which fall into a few thousand multisets. With more
    columns their joint n^(n columns) resamples cannot be, and with more rows need not be: these are drawn.
    """
    scores = _table(table)
    if scores.shape[1] == 1 and len(scores) <= MOST_ENUMERATED:
        values = _enumerated(scores, statistic)
        return Interval(*_percentiles(values), values.size, True)
    chunks = [min(_CHUNK, num_draws - done) for done in range(0, num_draws, _CHUNK)]
    values = np.concatenate([statistic(_resampled(scores, rng, size)) for size in chunks])
    return Interval(*_percentiles(values), num_draws, False)


def t_interval(differences: ArrayLike, level: float = LEVEL) -> Interval:
    """Student's interval of a mean: at least two differences."""
    d = np.asarray(differences, float)
    half = float(special.stdtrit(d.size - 1, (1 + level) / 2) * d.std(ddof=1) / math.sqrt(d.size))
    return Interval(float(d.mean()) - half, float(d.mean()) + half)


def _resampled(scores: Floats, rng: Generator, num_draws: int) -> Floats:
    rows, columns = scores.shape
    picked = rng.integers(rows, size=(num_draws, rows, columns))
    resampled: Floats = scores[picked, np.arange(columns)]
    return resampled


def _enumerated(scores: Floats, statistic: Statistic) -> Floats:
    """The statistic of all n^n resamples: of each multiset once, repeated as often as it occurs."""
    n = len(scores)
    multisets = np.array(list(combinations_with_replacement(range(n), n)))
    counts = [np.bincount(one, minlength=n) for one in multisets]
    times = [math.factorial(n) // math.prod(math.factorial(int(k)) for k in of) for of in counts]
    return np.repeat(statistic(scores[multisets]), times)


def _percentiles(values: Floats, level: float = LEVEL) -> tuple[float, float]:
    low, high = np.percentile(values, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


# --- paired differences ------------------------------------------------------------------------------------


def sign_flip(differences: ArrayLike, rng: Generator) -> SignFlip:
    """Share of the 2^n sign patterns whose mean is as far from 0 as the observed one, or farther.

    Beyond 20 differences patterns are drawn, and the observed one counts among them (Phipson and Smyth 2010).
    """
    d = np.asarray(differences, float)
    limit = abs(d.sum()) - _ROUNDING * np.abs(d).sum()
    if d.size <= MOST_SIGNS:
        sums = np.zeros(1)
        for one in d:
            sums = np.concatenate([sums + one, sums - one])
        return SignFlip(float(np.mean(np.abs(sums) >= limit)), sums.size, True)
    hits = 1 + sum(
        int(np.sum(np.abs(rng.choice((-1.0, 1.0), (_CHUNK, d.size)) @ d) >= limit))
        for _ in range(NUM_PATTERNS // _CHUNK)
    )
    return SignFlip(hits / (NUM_PATTERNS + 1), NUM_PATTERNS, False)


def t_test(differences: ArrayLike) -> tuple[float, float]:
    """Student's paired test: t and its two-sided p. The differences must differ among themselves."""
    d = np.asarray(differences, float)
    t = float(d.mean() / (d.std(ddof=1) / math.sqrt(d.size)))
    return t, float(2 * special.stdtr(d.size - 1, -abs(t)))


def effect_size(differences: ArrayLike) -> float | None:
    """d_z = mean / sd of the differences; None when they are all the same, or only one."""
    d = np.asarray(differences, float)
    if d.size < 2:
        return None
    sd = float(d.std(ddof=1))
    return float(d.mean()) / sd if sd > _ROUNDING * max(1.0, float(np.abs(d).max())) else None


def paired_power(d_z: float, n: int, alpha: float = ALPHA) -> float:
    """Power of the two-sided paired t test with n pairs and a true effect d_z (noncentral t)."""
    shift, edge = d_z * math.sqrt(n), float(special.stdtrit(n - 1, 1 - alpha / 2))
    inside = special.nctdtr(n - 1, shift, edge) - special.nctdtr(n - 1, shift, -edge)
    return float(1 - inside)


def seeds_for_power(d_z: float, power: float = POWER, alpha: float = ALPHA) -> int | None:
    """Fewest pairs with which a true effect d_z is found with this power; None: more than a thousand."""
    effect = abs(d_z)
    normal = (_normal(1 - alpha) + float(special.ndtri(power))) / effect if effect else math.inf
    if normal > math.sqrt(MOST_SEEDS):
        return None  # the t test needs a little more than the normal law says
    return next((n for n in range(2, MOST_SEEDS + 1) if paired_power(effect, n, alpha) >= power), None)


def least_p(num_pairs: int) -> float:
    """Smallest two-sided p that a sign-flip test of so many pairs can give: 2 / 2^n."""
    return min(1.0, 2.0 * 0.5**num_pairs)


def pairs_needed(num_comparisons: int = 1, alpha: float = ALPHA) -> int:
    """Fewest pairs that can stay below alpha after Holm's correction for so many comparisons: 6 for one."""
    return next(n for n in range(1, 200) if least_p(n) * num_comparisons < alpha)


def holm(ps: Sequence[float]) -> list[float]:
    """Correct for several comparisons: p times the number of those not smaller, never below a smaller one's."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    corrected, floor = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        floor = max(floor, min(1.0, ps[i] * (len(ps) - rank)))
        corrected[i] = floor
    return corrected


def _normal(level: float) -> float:
    return float(special.ndtri((1 + level) / 2))


def _table(scores: ArrayLike) -> Floats:
    """One row a run, one column a stratum."""
    table = np.asarray(scores, float)
    return table.reshape(-1, 1) if table.ndim == 1 else table
