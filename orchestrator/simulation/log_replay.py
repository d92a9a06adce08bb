"""A bandit led through another's history: asked at every step what it would pick, then taught what was picked.

Nothing is drawn from it. It takes over the logged picks with their logged probabilities (`Bandit.witness`), so that a
rule that weighs by importance weighs by those, and learns the logged signals and scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from orchestrator.bandits.contracts import ArmInfo, Bandit, Feedback, Floats
from orchestrator.simulation.estimates import Slots
from orchestrator.simulation.logs import SAME, BanditLog, LoggedPick, LoggedStep, Probabilities

NUM_BATCHES = 16  # drawn on copies of a rule that fills the slots of a batch in turn

Taught = Callable[[LoggedPick], tuple[float | None, float | None]]  # signal and score to learn from


@dataclass(frozen=True)
class ReplayedStep:
    """A logged step, and the share of its slots that the other bandit would have given to each arm."""

    logged: LoggedStep
    shares: Probabilities
    weights: Floats  # [n]: share of the arm that was picked / probability of the pick


@dataclass(frozen=True)
class ReplayedLog:
    """A bandit's way through a log."""

    log: BanditLog
    steps: Sequence[ReplayedStep]
    fills_in_turn: bool  # its shares are means over batches drawn on copies

    def slots(self) -> Slots:
        """Gather the slots whose signal was observed; the others count nowhere."""
        rows = [
            (step.logged.step, pick.signal, weight)
            for step in self.steps
            for pick, weight in zip(step.logged.picks, step.weights.tolist(), strict=True)
            if pick.signal is not None
        ]
        table = np.array(rows, np.float64).reshape(-1, 3)
        return Slots(table[:, 0].astype(np.int64), table[:, 1], table[:, 2])


def follow(
    log: BanditLog,
    bandit: Bandit,
    about: Callable[[str], ArmInfo],
    taught: Taught,
    rng: np.random.Generator,
) -> ReplayedLog:
    """Lead a fresh bandit through a log; `about` tells of arms that join, `rng` draws on copies only."""
    steps, in_turn = [], False
    for logged in log.steps:
        _match_arms(bandit, logged.arms, about)
        shares, is_mean = batch_shares(bandit, len(logged.picks), rng)
        in_turn |= is_mean
        weights = np.array([shares[pick.arm] / pick.probability for pick in logged.picks])
        steps.append(ReplayedStep(logged, shares, weights))
        _teach(bandit, logged.picks, taught)
    return ReplayedLog(log, steps, in_turn)


def batch_shares(bandit: Bandit, n: int, rng: np.random.Generator) -> tuple[Mapping[str, float], bool]:
    """Find the share of each arm in a batch of n, and whether it had to be drawn.

    Where slots are drawn independently these are the bandit's probabilities. A rule that fills the slots in turn (UCB
    with virtual counts) moves on within the batch: its shares are means over batches drawn on copies of it.
    """
    probabilities = bandit.probabilities()
    if type(bandit).draw is Bandit.draw:
        return probabilities, False
    table = np.array([probabilities[arm] for arm in bandit.arms])
    places, chances = _draw_aside(bandit, n, rng)
    if np.abs(chances - table[places]).max() <= SAME:
        return probabilities, False
    drawn = [places, *(_draw_aside(bandit, n, rng)[0] for _ in range(NUM_BATCHES - 1))]
    counts = np.bincount(np.concatenate(drawn), minlength=len(table))
    return bandit.by_arm(counts / counts.sum()), True


def _draw_aside(bandit: Bandit, n: int, rng: np.random.Generator) -> tuple[np.ndarray, Floats]:
    aside = deepcopy(bandit)
    aside.rng = rng
    return aside.draw(n)


def _match_arms(bandit: Bandit, arms: Sequence[str], about: Callable[[str], ArmInfo]) -> None:
    for arm in set(arms) - set(bandit.arms):
        bandit.add(arm, about(arm))
    for arm in set(bandit.arms) - set(arms):
        bandit.retire(arm)


def _teach(bandit: Bandit, logged: Sequence[LoggedPick], taught: Taught) -> None:
    picks = bandit.witness([pick.arm for pick in logged], [pick.probability for pick in logged])
    feedback = []
    for pick, was in zip(picks, logged, strict=True):
        signal, score = taught(was)
        feedback.append(Feedback(pick, signal or 0.0, int(signal is not None), score))
    bandit.learn(feedback)
