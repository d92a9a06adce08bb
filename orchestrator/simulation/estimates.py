"""Off-policy estimates: what other probabilities would have earned, from picks drawn with the logged ones.

With r the reward of a slot, mu the probability that its arm was drawn with, p the other bandit's of the same arm at the
same step, and w = p / mu, over the n slots whose reward was observed:

    own    = sum r / n                   what the logged picks earned
    IPS    = sum w r / n                 unbiased given the history, where mu > 0 wherever p > 0
    SNIPS  = sum w r / sum w             biased by O(1 / n), steadier: rewards may be shifted, weights need not sum to n
    effective sample size = (sum w)^2 / sum w^2     slots drawn from p that would tell as much

Intervals are over steps, not slots: the slots of a step share a policy, and often tasks. With a value of step t taken
as est + T psi_t, psi_t the step's influence on the estimate (the delta method for ratios), they are Student's over the
T steps. The errors of steps around their conditional means are uncorrelated given the past, however the arms drift;
a drift of the level itself only widens the interval.

Sources: IPS after Horvitz and Thompson 1952 as used for bandits in arXiv 1003.5956; SNIPS: Swaminathan and Joachims,
"The Self-Normalized Estimator for Counterfactual Learning", NIPS 2015; effective sample size: Kish 1965.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.bandits.contracts import Floats
from store.comparison.statistics import cluster_error
from store.intervals import t_interval

RELIABLE = 0.1  # least effective share of the slots: below it an estimate hangs on few of them
FEWEST_STEPS = 5  # with fewer there is no interval


@dataclass(frozen=True)
class Estimate:
    """A number, its standard error over steps and its 95 % interval; None where steps are too few."""

    value: float
    stderr: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def half(self) -> float | None:
        """Half the width of the interval."""
        return None if self.high is None else self.high - self.value


@dataclass(frozen=True)
class Estimates:
    """All there is to say about some slots."""

    num_slots: int  # whose reward was observed
    num_steps: int  # that these lie in
    own: Estimate
    ips: Estimate
    snips: Estimate | None  # None: the other bandit would have picked nothing of what was picked
    ips_difference: Estimate  # IPS minus own, paired by slot
    snips_difference: Estimate | None
    effective_slots: float
    effective_share: float  # of the slots, in [0, 1]
    mean_weight: float  # 1 in expectation: far from it, the two have little in common
    largest_weight: float
    is_reliable: bool  # the effective share is at least RELIABLE


SLOT = np.dtype([("step", np.int64), ("reward", np.float64), ("weight", np.float64)])
Slots = NDArray[np.void]  # [S] of SLOT: those whose reward was observed


def within(slots: Slots, first: int, last: int) -> Slots:
    """Only those of some steps, the last one included."""
    return slots[(slots["step"] >= first) & (slots["step"] <= last)]


def estimate(slots: Slots) -> Estimates | None:
    """Estimate everything; None without a slot."""
    reward, weight, n = slots["reward"], slots["weight"], len(slots)
    if not n:
        return None
    steps, cluster = np.unique(slots["step"], return_inverse=True)
    total = float(weight.sum())
    own, ips = float(reward.sum() / n), float((weight * reward).sum() / n)
    of_own, of_ips = (reward - own) / n, (weight * reward - ips) / n

    def over_steps(value: float, influence: Floats) -> Estimate:
        """Give an estimate its error from the influence of every slot, summed by step."""
        by_step = np.bincount(cluster, weights=influence).astype(np.float64)
        if len(by_step) < FEWEST_STEPS:
            return Estimate(value)
        values = value + len(by_step) * by_step
        interval = t_interval(values)
        return Estimate(value, cluster_error(values), interval.low, interval.high)

    snips = snips_difference = None
    if total > 0:
        ratio = float((weight * reward).sum() / total)
        of_ratio = weight * (reward - ratio) / total
        snips = over_steps(ratio, of_ratio)
        snips_difference = over_steps(ratio - own, of_ratio - of_own)
    effective = total**2 / float((weight**2).sum()) if total > 0 else 0.0
    return Estimates(
        num_slots=n,
        num_steps=len(steps),
        own=over_steps(own, of_own),
        ips=over_steps(ips, of_ips),
        snips=snips,
        ips_difference=over_steps(ips - own, of_ips - of_own),
        snips_difference=snips_difference,
        effective_slots=effective,
        effective_share=effective / n,
        mean_weight=total / n,
        largest_weight=float(weight.max()),
        is_reliable=effective / n >= RELIABLE,
    )
