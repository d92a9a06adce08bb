"""Choice in proportion to what things are worth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestrator.bandits.contracts import Floats


def proportional(worth: Floats, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw n positions [n], each with a chance in proportion to its worth [K] >= 0; evenly where all are worth 0."""
    edges = np.cumsum(worth if worth.sum() > 0 else np.ones_like(worth))
    places = np.searchsorted(edges, rng.random(n) * edges[-1], side="right")
    drawn: NDArray[np.intp] = np.minimum(places, len(edges) - 1)
    return drawn
