"""Probability that each arm is the best, given a distribution of every arm's value: by quadrature.

    P_k = integral over x of density_k(x) times the product over j != k of cdf_j(x)

Thompson sampling draws a value for every arm and picks the highest, afresh for every slot: the same as drawing the arm
from P. So Thompson rules here draw from P, and the recorded probability is exact. The error of the quadrature is below
1e-7 for normal and 2e-4 for Beta distributions (where arms have hardly ever failed; far smaller elsewhere).
"""

from __future__ import annotations

import math

import numpy as np

from orchestrator.bandits.contracts import Floats
from orchestrator.bandits.softmax import normalised

REACH = 8.0  # standard deviations from the mean beyond which a density counts as 0
NORMAL_STEP = 0.25  # of the quadrature, in the smallest standard deviation that matters
BETA_STEP = 0.1
MAX_POINTS = 4000  # of the normal one
CHUNK = 2**15  # numbers in memory at a time, for each of a few arrays

# W. J. Cody, Rational Chebyshev approximations for the error function, Math. Comp. 23 (1969): erfc(y) e^(y^2) as
# P(y) / Q(y), made for .46875 <= y <= 4; used for all y in [0, 8] the absolute error of erfc stays below 5e-12.
_P = [2.15311535474403846e-8, 0.564188496988670089, 8.88314979438837594, 66.1191906371416295]
_P += [298.635138197400131, 881.952221241769090, 1712.04761263407058]
_P += [2051.07837782607147, 1230.33935479799725]
_Q = [1.0, 15.7449261107098347, 117.693950891312499, 537.181101862009858]
_Q += [1621.38957456669019, 3290.79923573345963, 4362.61909014324716]
_Q += [3439.36767414372164, 1230.33935480374942]


def normal(z: Floats) -> tuple[Floats, Floats]:
    """Cdf of the standard normal distribution, error below 3e-12, and exp(-z^2 / 2); any shape."""
    y = np.abs(z) * math.sqrt(0.5)
    above, below = np.full_like(y, _P[0]), np.full_like(y, _Q[0])
    for p, q in zip(_P[1:], _Q[1:], strict=True):
        above *= y
        above += p
        below *= y
        below += q
    bell = np.exp(-y * y)
    tail = 0.5 * bell * above / below
    return np.where(z < 0, tail, 1.0 - tail), bell


def best_of_normals(mean: Floats, sd: Floats, count: Floats | None = None) -> Floats:
    """Probability of each of K independent normal variables to be the highest, [K]: trapezoidal rule.

    `count` says how many variables alike an entry stands for; the probability is of each of them. Standard deviations
    are at least a thousandth of the range in which the maximum lies.
    """
    count = np.ones(len(mean)) if count is None else count
    low, high = _likely_maximum(mean, sd, count)
    least = (high - low) / (NORMAL_STEP * MAX_POINTS)
    if sd.min() < least:
        sd = np.maximum(sd, least)
        low, high = _likely_maximum(mean, sd, count)
    order = np.argsort(-(mean + REACH * sd))  # those that reach highest first: the others drop out as x grows
    mean, sd, count = mean[order], sd[order], count[order]
    many = np.flatnonzero(count > 1)
    reach = mean + REACH * sd
    matter = sd[reach > low]
    num_points = 2 + int((high - low) / (NORMAL_STEP * matter.min()))
    best = np.zeros(len(mean))
    x = np.linspace(low, high, num_points)
    width = max(1, CHUNK // len(mean))
    for part in (x[i : i + width] for i in range(0, num_points, width)):
        k = int(np.count_nonzero(reach > part[0]))
        cdf, bell = normal((part - mean[:k, None]) / sd[:k, None])
        highest = cdf.prod(axis=0)
        for i in many[many < k]:
            highest *= cdf[i] ** (count[i] - 1)
        best[:k] += (bell / cdf) @ highest
    best /= sd
    back = np.empty_like(best)
    back[order] = best / (best @ count)
    return back


def _likely_maximum(mean: Floats, sd: Floats, count: Floats) -> tuple[float, float]:
    """Interval of the highest of all, but for a probability of 1e-10."""
    x = np.linspace((mean - REACH * sd).max(), (mean + REACH * sd).max(), 33)
    width = max(1, CHUNK // len(x))
    cdf = np.ones(len(x))
    for i in range(0, len(mean), width):
        z = (x - mean[i : i + width, None]) / sd[i : i + width, None]
        cdf *= (normal(np.minimum(z, REACH))[0] ** count[i : i + width, None]).prod(axis=0)
    first = max(0, int(np.searchsorted(cdf, 1e-12)) - 1)
    last = min(len(x) - 1, int(np.searchsorted(cdf, 1 - 1e-10)))
    return float(x[first]), float(x[last])


def best_of_betas(a: Floats, b: Floats) -> Floats:
    """Probability of each of K independent Beta(a, b) variables to be the highest, [K]; a and b at least 1.

    By the midpoint rule over phi in x = sin^2 phi, where every Beta has a standard deviation of about .5 / sqrt(a + b)
    and less than exp(-(a + b) d^2) of its mass lies beyond a distance of d. The cdf is summed from above, with the
    first correction of Euler and Maclaurin.
    """
    spread = 0.5 / np.sqrt(a + b)
    centre = np.arcsin(np.sqrt(a / (a + b)))
    reach = centre + REACH * spread
    low, high = max(0.0, float((centre - REACH * spread).max())), min(math.pi / 2, float(reach.max()))
    order = np.argsort(-reach)  # those that reach highest first: the others join as x falls
    reach, spread = reach[order], spread[order]
    powers = np.stack([2 * a - 1, 2 * b - 1], axis=1)[order]
    scale = _log_scale(a, b)[order]
    num_points = max(2, math.ceil((high - low) / (BETA_STEP * spread[reach > low].min())))
    step = (high - low) / num_points
    phi = high - step * (np.arange(num_points) + 0.5)
    best, above = np.zeros(len(a)), np.zeros(len(a))
    width = max(1, CHUNK // len(a))
    for part in (phi[i : i + width] for i in range(0, num_points, width)):
        k = int(np.count_nonzero(reach > part[-1]))
        sin, cos = np.sin(part), np.cos(part)
        mass = step * np.exp(powers[:k] @ np.log(np.stack([sin, cos])) + scale[:k, None])
        slope = mass * (powers[:k] @ np.stack([cos / sin, -sin / cos]))
        summed = above[:k, None] + np.cumsum(mass, axis=1)
        cdf = np.maximum(1 - summed + mass / 2 - step / 12 * slope, 1e-16)
        best[:k] += (mass / cdf) @ cdf.prod(axis=0)
        above[:k] = summed[:, -1]
    back = np.empty_like(best)
    back[order] = best
    return normalised(back)


def _log_scale(a: Floats, b: Floats) -> Floats:
    """ln (2 / B(a, b)), [K]."""
    pairs = zip(a.tolist(), b.tolist(), strict=True)
    return np.array([math.lgamma(p + q) - math.lgamma(p) - math.lgamma(q) for p, q in pairs]) + math.log(2)
