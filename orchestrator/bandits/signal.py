"""The bandit's reward: the mean absolute advantage of a group, before any filter, shaper or entropy transform.

For 0/1 rewards with pass rate p the raw form is 2 p (1 - p): largest where the policy succeeds half of the time,
zero where it always or never does. Self-Evolving Curriculum, arXiv 2505.14970.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.bandits.contracts import Signal

STD_FLOOR = (
    0.01  # of the reward range [0, 1]: below it a spread is noise, and dividing by it makes it a signal
)


def mean_absolute_advantage(rewards: Sequence[float], form: Signal = "raw") -> float | None:
    """Mean |A| over a group's rewards [G]; None for fewer than two: a lone sample carries no comparison.

    raw: r - mean. leave_one_out: r - mean of the others (unbiased for 2 p (1 - p) at every G).
    standardised: (r - mean) / max(sample std, .01), as the published code does but with the floor.
    """
    r = np.asarray(rewards, dtype=np.float64)
    if r.size < 2:
        return None
    centred = r - r.mean()
    raw = float(np.abs(centred).mean())
    if form == "raw":
        return raw
    if form == "leave_one_out":
        return raw * r.size / (r.size - 1)
    return raw / max(float(r.std(ddof=1)), STD_FLOOR)
