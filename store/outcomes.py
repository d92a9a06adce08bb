"""What a run's matrices come to: every number of carry-over, its names and its one definition.

MLflow, the report, `show`, `compare` and `export` take names and values from here, so that a name means the same
wherever it stands. `OUTCOMES` are of a run: over all stages up to a boundary, so the last boundary's are the finished
run's. `SWITCHES` are of one stage alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from store import carryover
from store.carryover import Matrix
from store.ledger.queries import Reading
from store.ledger.query_rows import CellRow, StageRow
from store.metrics import metric
from store.sentences import number, signed

NOTHING_LEARNT = "nothing learnt"

Numbers = dict[str, float | None]


@dataclass(frozen=True)
class Matrices:
    """What a run's boundaries measured, on environments as wholes, and what was trained between them."""

    accuracy: Matrix
    entropy: Matrix
    errors: Matrix  # standard errors of the accuracies
    stages: Sequence[
        str | None
    ]  # each measured stage's environment; None in flat mode and in a record with gaps

    @property
    def trained(self) -> Sequence[str]:
        """Each measured stage's environment; nothing in flat mode."""
        named = [name for name in self.stages if name is not None]
        return named if len(named) == len(self.stages) else []

    def up_to(self, stage: int) -> Matrices:
        """The same as it was after a stage."""

        def cut(matrix: Matrix) -> Matrix:
            return {key: value for key, value in matrix.items() if key[0] <= stage}

        return Matrices(cut(self.accuracy), cut(self.entropy), cut(self.errors), self.stages[:stage])


@dataclass(frozen=True)
class CarryOverMetric:
    """A number that sums a run up, and what it is called where."""

    name: str  # of the story, of `show --json` and of exported tables
    measure: str  # of `compare`
    mlflow: str
    abbreviation: str
    title: str
    meaning: str
    kind: Literal["level", "change", "ratio"]
    direction: Literal[-1, 0, 1]  # lower is better, no good direction, higher is better
    metric: str  # of the ledger
    of: Callable[[Matrices], float | None]


@dataclass(frozen=True)
class EnvironmentSwitch:
    """A number of one stage: what it did, or what it found."""

    name: str  # everywhere
    meaning: str
    of: Callable[[Matrices], float | None]  # of the last stage


def _floor() -> float:
    return metric("entropy_token").ratio_floor or 0.0


def _retained(m: Matrices) -> list[float | None]:
    return carryover.retained(m.entropy, m.trained, _floor())


def _carried(m: Matrices) -> list[float | None]:
    return carryover.carried(m.entropy, m.trained, _floor())


def _left(m: Matrices) -> dict[str, float | None]:
    return carryover.left(m.entropy, _floor())


# fmt: off
OUTCOMES = (
    CarryOverMetric("average", "average", "cl/acc", "ACC", "Average accuracy",
            "at the end, over the environments that had a stage",
            "level", 1, "pass_1", lambda m: carryover.average(m.accuracy, m.trained)),
    CarryOverMetric("backward_transfer", "backward_transfer", "cl/bwt", "BWT", "Backward transfer",
            "mean change of accuracy since an environment's last own stage: below 0, later stages cost it",
            "change", 1, "pass_1", lambda m: carryover.backward_transfer(m.accuracy, m.trained)),
    CarryOverMetric("forward_transfer", "forward_transfer", "cl/fwt", "FWT", "Forward transfer",
            "mean gain of accuracy before an environment's first own stage: what other stages did for it",
            "change", 1, "pass_1", lambda m: carryover.forward_transfer(m.accuracy, m.trained)),
    CarryOverMetric("forgetting", "forgetting", "cl/forgetting", "F", "Forgetting",
            "mean fall of accuracy from its best since the first own stage: below 0, the end is the best",
            "change", -1, "pass_1", lambda m: carryover.forgetting(m.accuracy, m.trained)),
    CarryOverMetric("relative_forgetting", "relative_forgetting", "cl/relative_forgetting", "F/L",
            "Relative forgetting",
            "the same fall as a share of what had been learnt, over the environments that had learnt: 1, all is gone",
            "change", -1, "pass_1", lambda m: carryover.relative_forgetting(m.accuracy, m.trained, m.errors)),
    CarryOverMetric("zero_shot_gain", "zero_shot_gain", "cl/zero_shot_gain", "ZSG", "Zero-shot gain",
            "mean gain of accuracy on the environments that never had a stage",
            "change", 1, "pass_1", lambda m: carryover.zero_shot_gain(m.accuracy, m.trained) if m.trained else None),
    CarryOverMetric("entropy_retained", "retained", "cl/entropy_retained", "retained", "Entropy retained",
            "share of an environment's entropy that a stage on it leaves, geometric mean of the stages: 1, all of it",
            "ratio", 0, "entropy_token", lambda m: carryover.geometric_mean(_retained(m))),
    CarryOverMetric("entropy_carried", "carried", "cl/entropy_carried", "carried", "Entropy carried",
            "share of its entropy at the start that an environment still has when its stage begins, geometric mean of "
            "the stages after the first",
            "ratio", 0, "entropy_token", lambda m: carryover.geometric_mean(_carried(m))),
    CarryOverMetric("entropy_left", "left", "final/entropy_ratio", "left", "Entropy left",
            "entropy over that at the start, geometric mean of all environments",
            "ratio", 0, "entropy_token", lambda m: carryover.geometric_mean(_left(m).values())),
)

SWITCHES = (
    EnvironmentSwitch("switch/entropy_retained", "of this stage alone: share of its environment's entropy that it left",
           lambda m: _retained(m)[-1]),
    EnvironmentSwitch("switch/entropy_carry",
           "of this stage alone: entropy on arrival at its environment, over the base's; from stage 2 on",
           lambda m: next(iter(_carried(m)[-1:]), None)),
    EnvironmentSwitch("switch/entropy_unseen", "entropy of environments without a stage so far, over the base's",
           lambda m: carryover.unseen(m.entropy, m.trained, len(m.trained), _floor())),
    EnvironmentSwitch("switch/entropy_collateral",
           "of this stage alone: entropy of the other environments, after over before",
           lambda m: carryover.collateral(m.entropy, m.trained, len(m.trained), _floor())),
    EnvironmentSwitch("switch/gain", "of this stage alone: change of pass_1 on its environment",
           lambda m: carryover.gains(m.accuracy, m.trained)[-1]),
    EnvironmentSwitch("switch/interference", "of this stage alone: mean change of pass_1 on the others",
           lambda m: carryover.interference(m.accuracy, m.trained)[-1]),
)
# fmt: on


def matrices(accuracy: Iterable[CellRow], entropy: Iterable[CellRow], stages: Sequence[StageRow]) -> Matrices:
    """Arrange cells of `pass_1` and `entropy_token`; a stage that no boundary has measured yet does not count."""
    wholes = [cell for cell in accuracy if cell.category is None and cell.environment is not None]
    last = max((cell.after_stage for cell in wholes), default=0)
    measured = [stage for stage in stages if stage.stage <= last]
    is_whole = [stage.stage for stage in measured] == list(range(1, len(measured) + 1))
    return Matrices(
        {(cell.after_stage, cell.environment or ""): cell.value for cell in wholes},
        {(c.after_stage, c.environment): c.value for c in entropy if c.category is None and c.environment},
        {(cell.after_stage, cell.environment or ""): cell.stderr for cell in wholes},
        # where a lost ledger took stages along, as in flat mode: nobody knows what was trained when
        [stage.environment if is_whole else None for stage in measured],
    )


def read(reading: Reading, run: str) -> Matrices:
    """Ask the ledger for a run's matrices."""
    return matrices(reading.matrix(run, "pass_1"), reading.matrix(run, "entropy_token"), reading.stages(run))


def of_run(found: Matrices) -> Numbers:
    """Every outcome, by name; None: not defined, as most are before a stage is measured, and in flat mode."""
    if not any(stage for stage, _ in found.accuracy):
        return {outcome.name: None for outcome in OUTCOMES}
    return {outcome.name: outcome.of(found) for outcome in OUTCOMES}


def of_switch(found: Matrices, stage: int) -> Numbers:
    """Every number of one stage, by name; none in flat mode."""
    return (
        {one.name: one.of(found.up_to(stage)) for one in SWITCHES} if 0 < stage <= len(found.trained) else {}
    )


def told(numbers: Mapping[str, float | None], digits: int = 2) -> dict[str, str]:
    """Write the outcomes that are defined, and where forgetting has nothing to be a share of."""
    written = {
        one.name: signed(value, digits) if one.kind == "change" else number(value, digits)
        for one in OUTCOMES
        if (value := numbers[one.name]) is not None
    }
    if "forgetting" in written:
        written.setdefault("relative_forgetting", NOTHING_LEARNT)
    return {one.name: written[one.name] for one in OUTCOMES if one.name in written}
