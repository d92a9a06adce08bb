"""What the objective's controllers read of a step: its entropy by category, and the numbers of its update."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

import numpy as np

from orchestrator.recording import metrics
from orchestrator.rollout.player import Group
from policies.learner import UpdateReport

Sums = Mapping[str, tuple[float, float]]  # "environment/category" -> (sum over tokens in nats, tokens)


def entropies(groups: Sequence[Group], report: UpdateReport | None, source: str) -> Sums:
    """The entropies of a step's tokens, from the objective's source (`entropy` in its section).

    The sampler's and the surprisal are those of all tokens that the batch holds. The surprisal that is weighed by the
    learner is that of the rows which it was given: without what could not be scored, or what a plan left out.
    """
    if source == "surprisal_iw":
        return {} if report is None else report.surprisal
    return _summed(groups, _surprisal if source == "surprisal" else attrgetter("entropy_sum"))


def measured(report: UpdateReport | None) -> dict[str, float]:
    """The numbers of an update by the names that the ledger has for them; those that are not finite are left out."""
    if report is None:
        return {}
    found = dict(report.metrics)
    for total, count in report.covariance.values():  # of the last category that wrote anything
        if count:
            found["covariance"] = total / count
    return {metrics.known(name): value for name, value in found.items() if math.isfinite(value)}


def _summed(groups: Sequence[Group], of_group: Callable[[Group], float]) -> Sums:
    totals: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for group in groups:
        totals[group.arm] += of_group(group)
        counts[group.arm] += group.num_tokens
    return {arm: (totals[arm], counts[arm]) for arm in totals}


def _surprisal(group: Group) -> float:
    return -sum(float(sample.logprobs[sample.mask].sum(dtype=np.float64)) for sample in group.samples)
