"""The softmax of Boltzmann rules, and the temperature at which a given number of arms matters.

    exp(H(softmax(values / temperature))) = effective arms,  H the entropy in nats

The number of arms needs no unit: one value serves raw and standardised signals (curricula reference, section 3.9).
"""

from __future__ import annotations

import math

import numpy as np

from orchestrator.bandits.contracts import Floats


def softmax(z: np.ndarray) -> np.ndarray:
    """Softmax of z [K] in float64.

    +inf entries share all mass equally, all -inf gives the uniform distribution, NaN is refused.
    """
    z = np.asarray(z, dtype=np.float64)
    top = z.max()
    if np.isnan(top):
        raise ValueError(f"softmax of a vector with NaN: {z}")
    if np.isinf(top):
        return normalised((z == top).astype(np.float64))
    weights: Floats = z - top
    np.maximum(weights, -745.0, out=weights)
    np.exp(weights, out=weights)
    weights /= weights.sum()
    return weights


def normalised(weights: np.ndarray) -> np.ndarray:
    """Scale non-negative weights [K], not all zero, to sum to 1."""
    return np.asarray(weights / weights.sum())


LOWEST, HIGHEST = 1e-4, 1e3
HALVINGS = 40


def temperature_of(values: Floats, effective: float) -> float:
    """Temperature at which exp(entropy) of softmax(values / temperature) is `effective`, for values [K].

    Bisection of its logarithm in [1e-4, 1e3], to a relative 2e-11. Where no temperature gives so few arms (values that
    tie for the highest) it is the lowest, where none gives so many the highest; values all equal: any, all are uniform.
    """
    z = values - values.max()
    wanted = math.log(max(effective, 1.0))
    low, high = math.log(LOWEST), math.log(HIGHEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _entropy(z, math.exp(-middle)) < wanted:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


def _entropy(z: Floats, sharpness: float) -> float:
    """Entropy of softmax(z * sharpness), in nats; the highest z is 0."""
    scaled = z * sharpness
    weights = np.exp(scaled)
    total = float(np.add.reduce(weights))
    return math.log(total) - float(weights @ scaled) / total
