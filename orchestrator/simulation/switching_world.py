"""Scenario C: ten Bernoulli arms whose means change four times; one pull a round (curricula reference, section 8.4).

means PCG64(seed).random((5, 10)), a row for each fifth of the rounds;  reward [u_t < mean], u PCG64(seed + 500000)
dynamic regret = sum over rounds of (best mean - mean of the arm pulled)
"""

from __future__ import annotations

import numpy as np

from orchestrator.bandits.contracts import ArmInfo, Feedback
from orchestrator.errors import UserError
from orchestrator.simulation import oracle
from orchestrator.simulation.bandit_in_world import make_bandit
from orchestrator.simulation.skill_worlds import POLICY
from orchestrator.simulation.skills import generator
from orchestrator.simulation.trials import Candidate, Trial, TrialSetting, thinned

NUM_ARMS, NUM_SEGMENTS = 10, 5
REWARDS = 500_000  # added to the seed
GROUPS = ("the best arm", "the others")


def run_switching(entrant: Candidate, seed: int, setting: TrialSetting) -> Trial:
    """Scenario C."""
    if isinstance(entrant.bandit, oracle.Config):
        raise UserError(
            "the oracle knows the skills of worlds a, b and d; in world c its regret is 0: leave it out"
        )
    num_rounds = setting.num_steps
    segments = generator(seed).random((NUM_SEGMENTS, NUM_ARMS))
    means = segments[np.arange(num_rounds) * NUM_SEGMENTS // num_rounds]
    wins = generator(seed + REWARDS).random(num_rounds)[:, None] < means
    pulled = _pull(entrant, seed, wins)
    regret = means.max(axis=1) - means[np.arange(num_rounds), pulled]
    is_best = regret == 0
    numbers = {"regret": float(regret.sum()), "best": float(is_best.mean())}
    shares = np.stack([is_best, ~is_best], axis=1).astype(np.float64)
    return Trial(numbers, thinned(np.cumsum(regret)), thinned(shares))


def _pull(entrant: Candidate, seed: int, wins: np.ndarray) -> np.ndarray:
    """Let a bandit pull an arm a round; [T] of which it pulled."""
    num_rounds = len(wins)
    place_of = {f"arm{k}": k for k in range(NUM_ARMS)}
    bandit = make_bandit(
        entrant.bandit, {name: ArmInfo() for name in place_of}, generator(seed + POLICY), num_rounds
    )
    pulled = np.empty(num_rounds, np.intp)
    rewards = wins.astype(np.float64).tolist()
    for t in range(num_rounds):
        pick = bandit.pick(1)[0]
        pulled[t] = place_of[pick.arm]
        reward = rewards[t][pulled[t]]
        bandit.learn([Feedback(pick, reward, 1, reward)])
    return pulled
