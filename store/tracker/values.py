"""The numbers of a step, of a scheduler's pick and of a boundary, under MLflow's names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from store.ledger.query_rows import ArmRow, MetricRow, StagePick
from store.metrics import metric as known_metric
from store.records import EVERYTHING
from store.tracker.names import PER_CATEGORY, PER_ENVIRONMENT, of_category, of_environment

Numbers = Mapping[str, float | None]


@dataclass(frozen=True)
class MlflowValue:
    """A point of a series."""

    name: str
    value: float
    step: int
    at_ms: int  # since 1970


def values(numbers: Numbers, step: int, at: str) -> list[MlflowValue]:
    """Make points; what is missing or not finite is left out, for it would ruin a chart."""
    at_ms = milliseconds(at)
    return [
        MlflowValue(name, float(value), step, at_ms)
        for name, value in numbers.items()
        if value is not None and math.isfinite(value)
    ]


def milliseconds(at: str) -> int:
    """Turn the ledger's times into MLflow's."""
    return round(datetime.fromisoformat(at).timestamp() * 1000)


def of_step(numbers: Iterable[MetricRow]) -> Iterator[tuple[str, float | None]]:
    """Name a step's training metrics; those that no name is for stay in the ledger."""
    for number in numbers:
        metric, environment, category = number.metric, number.environment, number.category
        if environment is None:
            group = "time" if known_metric(metric).group == "time" else "train"
            yield f"{group}/{metric}", number.value
        elif category is None:
            if metric in PER_ENVIRONMENT:
                yield of_environment(PER_ENVIRONMENT[metric], environment), number.value
        elif metric in PER_CATEGORY:
            yield of_category(metric, environment, category), number.value


def of_bandits(arms: Iterable[ArmRow], is_flat: bool) -> Iterator[tuple[str, float]]:
    """Name the probabilities of categories; the flat bandit's arms are called environment/category."""
    for arm in arms:
        if arm.bandit != EVERYTHING:
            yield of_category("bandit_prob", arm.bandit, arm.arm), arm.probability
        elif is_flat:
            environment, _, category = arm.arm.partition("/")
            yield of_category("bandit_prob", environment, category), arm.probability


def of_pick(
    pick: StagePick, drawn_from: Mapping[str, float], arms: Sequence[ArmRow]
) -> Iterator[tuple[str, float | None]]:
    """Tell what a scheduler knew when it picked a stage.

    `drawn_from` are the probabilities at the pick. Estimates and counts stand in its arms as they were after the
    stage's first step: nothing has moved them since.
    """
    for arm in arms:
        chance = pick.probability if arm.arm == pick.arm else drawn_from.get(arm.arm)
        yield of_environment("bandit_prob", arm.arm), chance
        yield of_environment("bandit_index", arm.arm), arm.value
        yield of_environment("bandit_pulls", arm.arm), arm.num_picks
