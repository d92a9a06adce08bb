"""What runs can be compared on: one number a run and stratum, from the ledger."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from store import carryover
from store.carryover import NOTHING_LEARNT, OUTCOMES
from store.errors import ComparisonError, did_you_mean
from store.ledger.queries import Reading
from store.metrics import metric as known_metric
from store.sentences import num

LAST = 20  # steps of a stage, unless said otherwise
WHOLE = "whole run"  # the only stratum of what sums a run up

Scores = dict[str, float]  # by stratum


@dataclass(frozen=True)
class Measure:
    """One number a run and stratum."""

    name: str
    title: str
    metric: str  # of the ledger
    stratum: Literal["environment", "stage", "run"]
    direction: Literal[-1, 0, 1]  # lower is better, no good direction, higher is better
    last: int | None = None  # steps at a stage's end that are averaged; None: measured at boundaries
    is_ratio: bool = False  # compared as logarithms, shown as ratios

    @property
    def is_held_out(self) -> bool:
        """Whether it was measured on tasks that are never trained on."""
        return self.last is None

    def scaled(self, value: float) -> float:
        """Put a score on the scale on which scores are averaged and differ: a ratio's is its logarithm."""
        return math.log(value) if self.is_ratio else value

    def unscaled(self, value: float) -> float:
        """Bring an average or a difference back from that scale."""
        return math.exp(value) if self.is_ratio else value


_ALL = (
    *(
        Measure(name, f"{title} after the last stage", metric, "environment", known_metric(metric).direction)
        for name, title, metric in (
            ("accuracy", "held-out accuracy", "pass_1"),
            ("pass_4", "held-out pass@4", "pass_4"),
            ("value", "held-out value", "value"),
            ("entropy", "held-out token entropy, nats,", "entropy_token"),
        )
    ),
    Measure("train_accuracy", "training accuracy", "accuracy", "stage", 1, LAST),
    Measure("train_entropy", "token entropy in training, nats,", "entropy_token", "stage", 0, LAST),
    *(
        Measure(
            one.measure, one.title.lower(), one.metric, "run", one.direction, is_ratio=one.kind == "ratio"
        )
        for one in OUTCOMES
    ),
)
MEASURES: Mapping[str, Measure] = {measure.name: measure for measure in _ALL}


def measure(name: str, last: int = LAST) -> Measure:
    """Look a measure up. Raises `ComparisonError` with the nearest name."""
    if name not in MEASURES:
        hint = did_you_mean(name, MEASURES)
        raise ComparisonError(
            f"Runs cannot be compared on {name!r}.{hint} They can on: {', '.join(MEASURES)}."
        )
    found = MEASURES[name]
    if found.last is None:
        return found
    title = f"{found.title} over the last {num(last, 'step')} of each stage"
    return replace(found, last=last, title=title)


def scores(reading: Reading, run: str, of: Measure) -> Scores:
    """Every stratum's score of a finished run; one that is not defined is left out."""
    found: dict[str, float | None]
    if of.stratum == "environment":  # the last boundary's cells of environments as wholes
        cells = [cell for cell in reading.matrix(run, of.metric) if cell.category is None]
        last = max((cell.after_stage for cell in cells), default=0)
        found = {
            cell.environment: cell.value for cell in cells if cell.environment and cell.after_stage == last
        }
    elif of.stratum == "stage":
        means = reading.stage_means(run, of.metric, of.last or LAST)
        found = {f"stage {mean.stage}": mean.value for mean in means}
    else:
        numbers = carryover.of_run(carryover.read(reading, run))
        found = {WHOLE: next(numbers[one.name] for one in OUTCOMES if one.measure == of.name)}
    return {stratum: value for stratum, value in found.items() if value is not None}


def why_undefined(reading: Reading, run: str, of: Measure) -> str:
    """Say why a run has no score of what sums a run up."""
    numbers = carryover.of_run(carryover.read(reading, run))
    is_bare = of.name == "relative_forgetting" and numbers["forgetting"] is not None
    return f"no {of.name}: {NOTHING_LEARNT if is_bare else 'not defined for its stages'}"
