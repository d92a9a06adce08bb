"""What a comparison says: means over seeds with intervals, and paired differences to one policy.

Policies meet the same worlds: seed by seed their differences are paired. Intervals are 95 % t-intervals over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.simulation.trials import Candidate, Trial, TrialMetric, TrialSetting, World
from store.comparison.statistics import t_interval

SAYS = "Numbers of a simulated world, by which choosers compare; they do not predict what a language model will do."


@dataclass(frozen=True)
class RankedValue:
    """A mean over seeds; no interval with one seed."""

    mean: float
    half: float | None  # half the width of its 95 % interval

    @property
    def is_off_zero(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.half is not None and abs(self.mean) > self.half

    def facts(self) -> dict[str, float | None]:
        """Tell it to a program."""
        return {"mean": self.mean, "half_95": self.half}


@dataclass(frozen=True)
class Row:
    """One policy: each metric, and its paired difference to the policy that all are compared with."""

    entrant: Candidate
    values: Mapping[str, RankedValue]
    differences: Mapping[str, RankedValue] | None  # None: it is that policy


@dataclass(frozen=True)
class Ranking:
    """A comparison in one world, policies in the order they were given."""

    world: World
    setting: TrialSetting
    seeds: Sequence[int]
    against: str
    rows: Sequence[Row]
    trials: Mapping[str, Sequence[Trial]]  # by policy, then seed

    def facts(self) -> dict[str, Any]:
        """Tell it to a program."""
        return {
            "world": self.world.name,
            "about": self.world.about,
            "num_steps": self.setting.num_steps,
            **({"replay_share": self.setting.replay_share} if self.world.has_stages else {}),
            "seeds": list(self.seeds),
            "against": self.against,
            "policies": [self._row(row) for row in self.rows],
            "note": SAYS,
        }

    def _row(self, row: Row) -> dict[str, Any]:
        trials = self.trials[row.entrant.label]
        metrics = {
            metric.name: {
                **row.values[metric.name].facts(),
                "difference": row.differences and row.differences[metric.name].facts(),
                "by_seed": [trial.numbers[metric.name] for trial in trials],
            }
            for metric in self.world.metrics
        }
        shares = np.mean([trial.shares.mean(axis=0) for trial in trials], axis=0).tolist()
        about = {"name": row.entrant.label, **row.entrant.options(), "metrics": metrics}
        return about | {"shares": dict(zip(self.world.arm_groups, shares, strict=True))}


def rank(
    world: World,
    setting: TrialSetting,
    seeds: Sequence[int],
    entrants: Sequence[Candidate],
    trials: Mapping[str, Sequence[Trial]],
    against: str,
) -> Ranking:
    """Put the trials of all policies beside each other."""
    numbers = {one.label: _by_metric(world.metrics, trials[one.label]) for one in entrants}
    base = numbers[against]
    rows = [
        Row(
            one,
            {name: value_of(found) for name, found in numbers[one.label].items()},
            None
            if one.label == against
            else {name: value_of(found - base[name]) for name, found in numbers[one.label].items()},
        )
        for one in entrants
    ]
    return Ranking(world, setting, seeds, against, rows, trials)


def value_of(numbers: np.ndarray) -> RankedValue:
    """Mean over seeds [n], and half its 95 % t-interval."""
    mean = float(numbers.mean())
    return RankedValue(mean, t_interval(numbers).high - mean if len(numbers) > 1 else None)


def _by_metric(metrics: Sequence[TrialMetric], trials: Sequence[Trial]) -> dict[str, np.ndarray]:
    return {metric.name: np.array([trial.numbers[metric.name] for trial in trials]) for metric in metrics}
