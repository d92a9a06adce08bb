"""Carry-over: how a run's accuracy and entropy at a boundary compare with before; every number, its names and formula.

MLflow, the report, `show`, `compare` and `export` take names and values from here, so that a name means the same
wherever it stands. `OUTCOMES` are of a run: over all stages up to a boundary, so the last boundary's are the finished
run's. `SWITCHES` are of one stage alone.

A matrix maps (after stage i, environment j) to a value; stage 0 is the base. `trained` lists the environment of
each stage, in order. Definitions follow `plasticity.md` 1.6 for ratios and 5.3 for differences, which
reduce to GEM's (1706.08840) when every environment has one stage. Environments may come back or never have a stage.
A missing value makes a difference None, and a mean of differences too; ratios that are None are left out of
geometric means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Literal, Protocol

from store.metrics import metric

if TYPE_CHECKING:
    from store.ledger.query_rows import CellRow, StageRow

LEAST_GAIN = 0.05  # of accuracy: less has not been learnt
NUM_ERRORS = 2  # standard errors of a difference: what is within them may be chance
ENTROPY_FLOOR = metric("entropy_token").ratio_floor or 0.0  # nats a token: a ratio to less says nothing
NOTHING_LEARNT = "nothing learnt"

Matrix = Mapping[tuple[int, str], float | None]
Numbers = dict[str, float | None]


def ratio(value: float | None, base: float | None, floor: float) -> float | None:
    """Return value / base, or None when the base is below the floor: a ratio to nothing says nothing."""
    return None if value is None or base is None or base < floor else value / base


def geometric_mean(ratios: Iterable[float | None]) -> float | None:
    """Average ratios; those that are None are left out."""
    known = [r for r in ratios if r is not None]
    if not known:
        return None
    return math.exp(fmean(map(math.log, known))) if min(known) > 0 else 0.0


def retained(matrix: Matrix, trained: Sequence[str], floor: float) -> list[float | None]:
    """Each stage's share of its environment's value that was left after it; 1 = nothing spent."""
    return [
        ratio(matrix.get((i, name)), matrix.get((i - 1, name)), floor)
        for i, name in enumerate(trained, start=1)
    ]


def carried(matrix: Matrix, trained: Sequence[str], floor: float) -> list[float | None]:
    """From stage 2 on: what earlier stages left of the environment about to be trained, against the base."""
    return [
        ratio(matrix.get((i - 1, name)), matrix.get((0, name)), floor)
        for i, name in enumerate(trained[1:], start=2)
    ]


def unseen(matrix: Matrix, trained: Sequence[str], after_stage: int, floor: float) -> float | None:
    """Geometric mean, over environments without a stage so far, of their value against the base."""
    others = [name for name in _environments(matrix) if name not in trained[:after_stage]]
    return geometric_mean(ratio(matrix.get((after_stage, e)), matrix.get((0, e)), floor) for e in others)


def collateral(matrix: Matrix, trained: Sequence[str], stage: int, floor: float) -> float | None:
    """What a stage did to the other environments: geometric mean of after against before."""
    others = [name for name in _environments(matrix) if name != trained[stage - 1]]
    return geometric_mean(ratio(matrix.get((stage, e)), matrix.get((stage - 1, e)), floor) for e in others)


def average(matrix: Matrix, trained: Sequence[str]) -> float | None:
    """ACC: mean over the trained environments at the end."""
    return _mean(matrix.get((len(trained), name)) for name in dict.fromkeys(trained))


def backward_transfer(matrix: Matrix, trained: Sequence[str]) -> float | None:
    """BWT: mean change since an environment's last stage, over those with later stages; below 0: forgetting."""
    end, last = len(trained), {name: i for i, name in enumerate(trained, start=1)}
    return _mean(_minus(matrix, (end, name), (i, name)) for name, i in last.items() if i < end)


def forward_transfer(matrix: Matrix, trained: Sequence[str]) -> float | None:
    """FWT: mean gain over the base on arrival at an environment's first stage, over those that came later."""
    first = _first(trained)
    return _mean(_minus(matrix, (i - 1, name), (0, name)) for name, i in first.items() if i > 1)


def forgetting(matrix: Matrix, trained: Sequence[str]) -> float | None:
    """F: mean fall from the best value since the first stage (1801.10112); below 0: best at the end."""
    return _mean(
        None if best is None else _minus(matrix, (best, name), (len(trained), name))
        for name, best in _bests(matrix, trained).items()
    )


def relative_forgetting(matrix: Matrix, trained: Sequence[str], errors: Matrix) -> float | None:
    """F as a share of what had been learnt: mean of (best - end) / (best - start).

    Over the environments of F where best - start is at least `LEAST_GAIN` and `NUM_ERRORS` standard errors; the
    others had learnt nothing that could be forgotten. None where that is all of them, or a value is missing.

    Args:
        matrix: accuracies; an environment starts at the first boundary that measured it.
        errors: standard errors of the same cells; one that is not known counts as 0.
    """
    shares, end = [], len(trained)
    for name, best in _bests(matrix, trained).items():
        if best is None:
            return None
        start = min(i for i, other in matrix if other == name)
        fall, gain = (_minus(matrix, (best, name), (i, name)) for i in (end, start))
        if fall is None or gain is None:
            return None
        noise = math.hypot(*(errors.get((i, name)) or 0.0 for i in (best, start)))
        if gain >= max(LEAST_GAIN, NUM_ERRORS * noise):
            shares.append(fall / gain)
    return fmean(shares) if shares else None


def left(matrix: Matrix, floor: float) -> dict[str, float | None]:
    """By environment: its last value against its first."""
    found = {}
    for name in _environments(matrix):
        rows = sorted(i for i, other in matrix if other == name)
        found[name] = ratio(matrix[rows[-1], name], matrix[rows[0], name], floor)
    return found


def zero_shot_gain(matrix: Matrix, trained: Sequence[str]) -> float | None:
    """Mean gain over the base at the end, over environments that never had a stage."""
    others = [name for name in _environments(matrix) if name not in trained]
    return _mean(_minus(matrix, (len(trained), name), (0, name)) for name in others)


def gains(matrix: Matrix, trained: Sequence[str]) -> list[float | None]:
    """Each stage's change on its own environment."""
    return [_minus(matrix, (i, name), (i - 1, name)) for i, name in enumerate(trained, start=1)]


def interference(matrix: Matrix, trained: Sequence[str]) -> list[float | None]:
    """Each stage's mean change on the other environments."""
    return [
        _mean(_minus(matrix, (i, e), (i - 1, e)) for e in _environments(matrix) if e != name)
        for i, name in enumerate(trained, start=1)
    ]


def _environments(matrix: Matrix) -> list[str]:
    return list(dict.fromkeys(name for _, name in matrix))


def _first(trained: Sequence[str]) -> dict[str, int]:
    return {name: i for i, name in reversed(list(enumerate(trained, start=1)))}


def _bests(matrix: Matrix, trained: Sequence[str]) -> dict[str, int | None]:
    """When each environment that others were trained after was best, from its first stage to before the end.

    None: a value is missing there.
    """
    bests: dict[str, int | None] = {}
    for name, first in _first(trained).items():
        seen = [(matrix.get((i, name)), i) for i in range(first, len(trained))]
        known = [(value, -i) for value, i in seen if value is not None]
        if seen:
            bests[name] = -max(known)[1] if len(known) == len(seen) else None
    return bests


def _minus(matrix: Matrix, later: tuple[int, str], earlier: tuple[int, str]) -> float | None:
    a, b = matrix.get(later), matrix.get(earlier)
    return None if a is None or b is None else a - b


def _mean(values: Iterable[float | None]) -> float | None:
    listed = list(values)
    known = [value for value in listed if value is not None]
    return fmean(known) if listed and len(known) == len(listed) else None


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


class BoundaryReader(Protocol):
    """What knows a run's boundaries and stages: a ledger's reading."""

    def matrix(self, name: str, metric: str) -> list[CellRow]:
        """Cells of a metric at all boundaries."""

    def stages(self, name: str) -> list[StageRow]:
        """Stages in order."""


@dataclass(frozen=True)
class CarryOverMetric:
    """A number that sums a run up, and what it is called where."""

    name: str  # of `show --json` and of exported tables
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


# fmt: off
OUTCOMES = (
    CarryOverMetric("average", "average", "cl/acc", "ACC", "Average accuracy",
            "at the end, over the environments that had a stage",
            "level", 1, "pass_1", lambda m: average(m.accuracy, m.trained)),
    CarryOverMetric("backward_transfer", "backward_transfer", "cl/bwt", "BWT", "Backward transfer",
            "mean change of accuracy since an environment's last own stage: below 0, later stages cost it",
            "change", 1, "pass_1", lambda m: backward_transfer(m.accuracy, m.trained)),
    CarryOverMetric("forward_transfer", "forward_transfer", "cl/fwt", "FWT", "Forward transfer",
            "mean gain of accuracy before an environment's first own stage: what other stages did for it",
            "change", 1, "pass_1", lambda m: forward_transfer(m.accuracy, m.trained)),
    CarryOverMetric("forgetting", "forgetting", "cl/forgetting", "F", "Forgetting",
            "mean fall of accuracy from its best since the first own stage: below 0, the end is the best",
            "change", -1, "pass_1", lambda m: forgetting(m.accuracy, m.trained)),
    CarryOverMetric("relative_forgetting", "relative_forgetting", "cl/relative_forgetting", "F/L",
            "Relative forgetting",
            "the same fall as a share of what had been learnt, over the environments that had learnt: 1, all is gone",
            "change", -1, "pass_1", lambda m: relative_forgetting(m.accuracy, m.trained, m.errors)),
    CarryOverMetric("zero_shot_gain", "zero_shot_gain", "cl/zero_shot_gain", "ZSG", "Zero-shot gain",
            "mean gain of accuracy on the environments that never had a stage",
            "change", 1, "pass_1", lambda m: zero_shot_gain(m.accuracy, m.trained) if m.trained else None),
    CarryOverMetric("entropy_retained", "retained", "cl/entropy_retained", "retained", "Entropy retained",
            "share of an environment's entropy that a stage on it leaves, geometric mean of the stages: 1, all of it",
            "ratio", 0, "entropy_token", lambda m: geometric_mean(retained(m.entropy, m.trained, ENTROPY_FLOOR))),
    CarryOverMetric("entropy_carried", "carried", "cl/entropy_carried", "carried", "Entropy carried",
            "share of its entropy at the start that an environment still has when its stage begins, geometric mean of "
            "the stages after the first",
            "ratio", 0, "entropy_token", lambda m: geometric_mean(carried(m.entropy, m.trained, ENTROPY_FLOOR))),
    CarryOverMetric("entropy_left", "left", "final/entropy_ratio", "left", "Entropy left",
            "entropy over that at the start, geometric mean of all environments",
            "ratio", 0, "entropy_token", lambda m: geometric_mean(left(m.entropy, ENTROPY_FLOOR).values())),
)

SWITCHES = (
    EnvironmentSwitch("switch/entropy_retained", "of this stage alone: share of its environment's entropy that it left",
           lambda m: retained(m.entropy, m.trained, ENTROPY_FLOOR)[-1]),
    EnvironmentSwitch("switch/entropy_carry",
           "of this stage alone: entropy on arrival at its environment, over the base's; from stage 2 on",
           lambda m: next(iter(carried(m.entropy, m.trained, ENTROPY_FLOOR)[-1:]), None)),
    EnvironmentSwitch("switch/entropy_unseen", "entropy of environments without a stage so far, over the base's",
           lambda m: unseen(m.entropy, m.trained, len(m.trained), ENTROPY_FLOOR)),
    EnvironmentSwitch("switch/entropy_collateral",
           "of this stage alone: entropy of the other environments, after over before",
           lambda m: collateral(m.entropy, m.trained, len(m.trained), ENTROPY_FLOOR)),
    EnvironmentSwitch("switch/gain", "of this stage alone: change of pass_1 on its environment",
           lambda m: gains(m.accuracy, m.trained)[-1]),
    EnvironmentSwitch("switch/interference", "of this stage alone: mean change of pass_1 on the others",
           lambda m: interference(m.accuracy, m.trained)[-1]),
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


def read(reading: BoundaryReader, run: str) -> Matrices:
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
