"""What benchmarks of paired seeds share: seeds from the command line, and a mean with its interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from store.intervals import t_interval


def seed_range(text: str) -> range:
    """Read `0-7`, both ends taken, or a single seed."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def with_interval(numbers: ArrayLike, form: str = "+.3f") -> str:
    """Write the mean of numbers, one a seed, with its 95 % t-interval."""
    found = t_interval(numbers)
    return f"{np.mean(np.asarray(numbers)):{form}} ({found.low:{form}} to {found.high:{form}})"
