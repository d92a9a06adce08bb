"""Steps written down by hand: what a bandit is told in the worked numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from orchestrator.bandits.contracts import Floats, StepFeedback


def seen(
    rewards: Mapping[int, float],
    step: int = 0,
    num_groups: float = 1.0,
    probability: float = 1.0,
    score: Mapping[int, float] | None = None,
) -> StepFeedback:
    """One step: the mean reward of each arm by its position, of so many picks (a group each) with this probability."""
    at = np.array(sorted(rewards), np.intp)
    reward = np.array([rewards[k] for k in at.tolist()], np.float64)
    scores = np.array([np.nan if score is None else score[k] for k in at.tolist()], np.float64)
    count = np.full(len(at), num_groups)
    return StepFeedback(
        step,
        at,
        reward,
        num_groups=count,
        score=scores,
        importance=count * reward / probability,
        num_picks=count,
        scatter=np.zeros(len(at)),
    )


def played(scores: Floats, step: int = 0, reward: float = 0.4) -> StepFeedback:
    """One step in which arms 0 to S - 1 had n groups each, a pick each, with these scores [S, n] and one reward."""
    num_arms, n = scores.shape
    mean, count = scores.mean(axis=1), np.full(num_arms, float(n))
    return StepFeedback(
        step,
        np.arange(num_arms),
        reward=np.full(num_arms, reward),
        num_groups=count,
        score=mean,
        importance=count * reward,
        num_picks=count,
        scatter=((scores - mean[:, None]) ** 2).sum(axis=1),
    )
