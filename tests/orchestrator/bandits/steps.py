"""Steps written down by hand: what a bandit is told in the worked numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from orchestrator.bandits.contracts import Seen


def seen(
    rewards: Mapping[int, float],
    step: int = 0,
    num_groups: float = 1.0,
    probability: float = 1.0,
    score: Mapping[int, float] | None = None,
) -> Seen:
    """One step: the mean reward of each arm by its position, of so many groups drawn with this probability each."""
    at = np.array(sorted(rewards), np.intp)
    reward = np.array([rewards[k] for k in at.tolist()], np.float64)
    scores = [np.nan if score is None else score[k] for k in at.tolist()]
    count = np.full(len(at), num_groups)
    return Seen(step, at, reward, count, np.array(scores, np.float64), count * reward / probability)
