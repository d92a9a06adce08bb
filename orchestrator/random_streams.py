"""Named random streams: one run seed, and every consumer has a stream of its own.

A stream is found by its name, so a new consumer never moves the numbers of an old one, and a resumed run needs
no generator state except where a consumer keeps its generator (the bandits do).
"""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, *name: str) -> np.random.Generator:
    """Make the generator of the stream called `name` for a run seed; the same arguments, the same numbers."""
    digest = hashlib.sha256("/".join(name).encode()).digest()
    key = tuple(int.from_bytes(digest[i : i + 4], "big") for i in range(0, 16, 4))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy=seed, spawn_key=key)))


def integer(seed: int, *name: str, below: int = 2**31) -> int:
    """Draw the one integer in [0, below) that belongs to a named stream."""
    return int(generator(seed, *name).integers(below))
