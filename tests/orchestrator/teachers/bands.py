"""The one-dimensional box of the reference's behavioural tests: something happens in [.4, .6] alone."""

from __future__ import annotations

import numpy as np

from orchestrator.teachers.contracts import Teacher

NUM_GROUPS = 2000  # the shares are those of the last half


def share(teacher: Teacher, scores, seed: int) -> float:
    """Play groups one by one, and tell which share of the last half lay in the band."""
    rng, played = np.random.default_rng(seed + 10**6), []
    for done in range(NUM_GROUPS):
        points = teacher.choose(1)
        x = float(points[0, 0])
        teacher.learn(points, np.array([scores(x, done / NUM_GROUPS, rng)]))
        played.append(0.4 <= x <= 0.6)
    teacher.close()
    return float(np.mean(played[NUM_GROUPS // 2 :]))


def noisy(x: float, when: float, rng: np.random.Generator) -> float:
    """Section 5.1: 1 below the band, 0 above, a fair coin inside."""
    return float(rng.integers(2)) if 0.4 <= x <= 0.6 else float(x < 0.4)


def rising(x: float, when: float, rng: np.random.Generator) -> float:
    """Scores rise from .1 to .9 inside the band, and are .5 outside, with a little noise everywhere."""
    mean = 0.1 + 0.8 * when if 0.4 <= x <= 0.6 else 0.5
    return float(np.clip(mean + 0.03 * rng.standard_normal(), 0.0, 1.0))
