"""What runs can be compared on: one number a run and stratum, from the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal

from store import carryover
from store.errors import ComparisonError
from store.ledger.answers import Stage
from store.ledger.reading import Reading
from store.metrics import metric as known_metric
from store.words import num

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

    @property
    def is_held_out(self) -> bool:
        """Whether it was measured on tasks that are never trained on."""
        return self.last is None


def _at_the_end(name: str, title: str, metric: str) -> Measure:
    return Measure(
        name, f"{title} after the last stage", metric, "environment", known_metric(metric).direction
    )


_ALL = (
    _at_the_end("accuracy", "held-out accuracy", "pass_1"),
    _at_the_end("pass_4", "held-out pass@4", "pass_4"),
    _at_the_end("value", "held-out value", "value"),
    _at_the_end("entropy", "held-out token entropy, nats,", "entropy_token"),
    Measure("train_accuracy", "training accuracy", "accuracy", "stage", 1, LAST),
    Measure("train_entropy", "token entropy in training, nats,", "entropy_token", "stage", 0, LAST),
    Measure("retained", "entropy retained by a stage on its environment", "entropy_token", "run", 0),
    Measure("carried", "entropy carried to the next environment", "entropy_token", "run", 0),
    Measure("forgetting", "forgetting", "pass_1", "run", -1),
    Measure("forward_transfer", "forward transfer", "pass_1", "run", 1),
)
MEASURES: Mapping[str, Measure] = {measure.name: measure for measure in _ALL}


def measure(name: str, last: int = LAST) -> Measure:
    """Look a measure up. Raises `ComparisonError` with the nearest name."""
    if name not in MEASURES:
        near = get_close_matches(name, MEASURES, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
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
    found = _IN[of.stratum](reading, run, of)
    return {stratum: value for stratum, value in found.items() if value is not None}


def _by_environment(reading: Reading, run: str, of: Measure) -> dict[str, float | None]:
    """The last boundary's cells of environments as wholes."""
    cells = [cell for cell in reading.matrix(run, of.metric) if cell.category is None]
    last = max((cell.after_stage for cell in cells), default=0)
    return {cell.environment: cell.value for cell in cells if cell.environment and cell.after_stage == last}


def _by_stage(reading: Reading, run: str, of: Measure) -> dict[str, float | None]:
    means = reading.stage_means(run, of.metric, of.last or LAST)
    return {f"stage {mean.stage}": mean.value for mean in means}


def _of_run(reading: Reading, run: str, of: Measure) -> dict[str, float | None]:
    cells = [cell for cell in reading.matrix(run, of.metric) if cell.category is None]
    matrix = {(cell.after_stage, cell.environment or ""): cell.value for cell in cells}
    trained = _trained(reading.stages(run))
    return {WHOLE: _SUMMED[of.name](matrix, trained) if trained else None}


def _trained(stages: Sequence[Stage]) -> list[str]:
    """Each stage's environment; none in flat mode, which has no such, nor where a lost ledger took stages along."""
    if [stage.stage for stage in stages] != list(range(1, len(stages) + 1)):
        return []
    return [stage.environment for stage in stages if stage.environment is not None]


def _floor() -> float:
    return known_metric("entropy_token").ratio_floor or 0.0


_IN: Mapping[str, Callable[[Reading, str, Measure], dict[str, float | None]]] = {
    "environment": _by_environment,
    "stage": _by_stage,
    "run": _of_run,
}
_SUMMED: Mapping[str, Callable[[carryover.Matrix, Sequence[str]], float | None]] = {
    "retained": lambda m, trained: carryover.geometric_mean(carryover.retained(m, trained, _floor())),
    "carried": lambda m, trained: carryover.geometric_mean(carryover.carried(m, trained, _floor())),
    "forgetting": carryover.forgetting,
    "forward_transfer": carryover.forward_transfer,
}
