"""The softmax that every Boltzmann rule uses: no overflow, infinities defined."""

from __future__ import annotations

import numpy as np


def softmax(z: np.ndarray) -> np.ndarray:
    """Softmax of z [K] in float64.

    +inf entries share all mass equally, all -inf gives the uniform distribution, NaN is refused.
    """
    z = np.asarray(z, dtype=np.float64)
    if np.isnan(z).any():
        raise ValueError(f"softmax of a vector with NaN: {z}")
    top = z.max()
    if np.isinf(top):
        return normalised((z == top).astype(np.float64))
    return normalised(np.exp(np.maximum(z - top, -745.0)))


def normalised(weights: np.ndarray) -> np.ndarray:
    """Scale non-negative weights [K], not all zero, to sum to 1."""
    return np.asarray(weights / weights.sum())
