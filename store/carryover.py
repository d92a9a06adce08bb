"""Carry-over: how a run's accuracy and entropy at a boundary compare with before; every number, its names and formula.

MLflow, the report, `show`, `compare` and `export` take names and values from here, so that a name means the same
wherever it stands. `OUTCOMES` are of a run: over all stages up to a boundary, so the last boundary's are the finished
run's. `SWITCHES` are of one stage alone.

A matrix maps (after stage i, environment j) to a value; stage 0 is the base. Definitions follow `plasticity.md` 1.6 for
ratios and 5.3 for differences, which reduce to GEM's (1706.08840) when every environment has one stage. Environments
may come back or never have a stage. A missing value makes a difference None, and a mean of differences too; ratios that
are None are left out of geometric means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from store.metrics import metric

LEAST_GAIN = 0.05  # of accuracy: less has not been learnt
NUM_ERRORS = 2  # standard errors of a difference: what is within them may be chance
ENTROPY_FLOOR = metric("entropy_token").ratio_floor or 0.0  # nats a token: a ratio to less says nothing
NOTHING_LEARNT = "nothing learnt"

Matrix = Mapping[tuple[int, str], float | None]
Numbers = dict[str, float | None]


@dataclass(frozen=True)
class Matrices:
    """What a run's boundaries measured, on environments as wholes, and what was trained between them."""

    accuracy: Matrix
    entropy: Matrix
    errors: Matrix  # standard errors of the accuracies; one that is not known counts as 0
    stages: Sequence[str | None]  # the environment of each measured one; None in flat mode, and with gaps

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

    def change(self, name: str, earlier: int, later: int) -> float | None:
        """Change of accuracy on an environment from one boundary to another."""
        return difference(self.accuracy.get((earlier, name)), self.accuracy.get((later, name)))

    def share(self, name: str, earlier: int, later: int) -> float | None:
        """Entropy on an environment at a boundary, over that at an earlier one."""
        return ratio(self.entropy.get((later, name)), self.entropy.get((earlier, name)), ENTROPY_FLOOR)


def difference(before: float | None, after: float | None) -> float | None:
    """Return after - before, or None when either is missing."""
    return None if before is None or after is None else after - before


def ratio(value: float | None, base: float | None, floor: float) -> float | None:
    """Return value / base, or None when the base is below the floor: a ratio to nothing says nothing."""
    return None if value is None or base is None or base < floor else value / base


def geometric_mean(ratios: Iterable[float | None]) -> float | None:
    """Average ratios; those that are None are left out."""
    known = [r for r in ratios if r is not None]
    if not known:
        return None
    return math.exp(fmean(map(math.log, known))) if min(known) > 0 else 0.0


# --- of a run: over all stages ---


def average(m: Matrices) -> float | None:
    """ACC: mean over the trained environments at the end."""
    return _mean(m.accuracy.get((len(m.trained), name)) for name in dict.fromkeys(m.trained))


def backward_transfer(m: Matrices) -> float | None:
    """BWT: mean change since an environment's last stage, over those with later stages; below 0: forgetting."""
    end, last = len(m.trained), {name: i for i, name in enumerate(m.trained, start=1)}
    return _mean(m.change(name, i, end) for name, i in last.items() if i < end)


def forward_transfer(m: Matrices) -> float | None:
    """FWT: mean gain over the base on arrival at an environment's first stage, over those that came later."""
    return _mean(m.change(name, 0, i - 1) for name, i in _first(m.trained).items() if i > 1)


def forgetting(m: Matrices) -> float | None:
    """F: mean fall from the best value since the first stage (1801.10112); below 0: best at the end."""
    end = len(m.trained)
    return _mean(None if best is None else m.change(name, end, best) for name, best in _bests(m).items())


def relative_forgetting(m: Matrices) -> float | None:
    """F as a share of what had been learnt: mean of (best - end) / (best - start).

    Over the environments of F where best - start is at least `LEAST_GAIN` and `NUM_ERRORS` standard errors; the
    others had learnt nothing that could be forgotten. None where that is all of them, or a value is missing. An
    environment starts at the first boundary that measured it.
    """
    shares = []
    for name, best in _bests(m).items():
        if best is None:
            return None
        start = min(i for i, other in m.accuracy if other == name)
        fall, gain = m.change(name, len(m.trained), best), m.change(name, start, best)
        if fall is None or gain is None:
            return None
        noise = math.hypot(*(m.errors.get((i, name)) or 0.0 for i in (best, start)))
        if gain >= max(LEAST_GAIN, NUM_ERRORS * noise):
            shares.append(fall / gain)
    return fmean(shares) if shares else None


def zero_shot_gain(m: Matrices) -> float | None:
    """Mean gain over the base at the end, over environments that never had a stage; None in flat mode."""
    others = [name for name in _environments(m.accuracy) if m.trained and name not in m.trained]
    return _mean(m.change(name, 0, len(m.trained)) for name in others)


def retained(m: Matrices) -> list[float | None]:
    """Each stage's share of its environment's entropy that was left after it; 1 = nothing spent."""
    return [m.share(name, i - 1, i) for i, name in enumerate(m.trained, start=1)]


def carried(m: Matrices) -> list[float | None]:
    """From stage 2 on: what earlier stages left of the environment about to be trained, against the base."""
    return [m.share(name, 0, i - 1) for i, name in enumerate(m.trained[1:], start=2)]


def left(m: Matrices) -> Numbers:
    """By environment: its last entropy against its first."""
    rows = {name: [i for i, other in m.entropy if other == name] for name in _environments(m.entropy)}
    return {name: m.share(name, min(own), max(own)) for name, own in rows.items()}


# --- of the last stage alone ---


def unseen(m: Matrices) -> float | None:
    """Geometric mean, over environments without a stage so far, of their entropy against the base."""
    others = [name for name in _environments(m.entropy) if name not in m.trained]
    return geometric_mean(m.share(name, 0, len(m.trained)) for name in others)


def collateral(m: Matrices) -> float | None:
    """What the stage did to the entropy of the other environments: geometric mean of after against before."""
    others = [name for name in _environments(m.entropy) if name != m.trained[-1]]
    return geometric_mean(m.share(name, len(m.trained) - 1, len(m.trained)) for name in others)


def gain(m: Matrices) -> float | None:
    """The stage's change on its own environment."""
    return m.change(m.trained[-1], len(m.trained) - 1, len(m.trained))


def interference(m: Matrices) -> float | None:
    """The stage's mean change on the other environments."""
    others = [name for name in _environments(m.accuracy) if name != m.trained[-1]]
    return _mean(m.change(name, len(m.trained) - 1, len(m.trained)) for name in others)


def _environments(matrix: Matrix) -> list[str]:
    return list(dict.fromkeys(name for _, name in matrix))


def _first(trained: Sequence[str]) -> dict[str, int]:
    return {name: i for i, name in reversed(list(enumerate(trained, start=1)))}


def _bests(m: Matrices) -> dict[str, int | None]:
    """When each environment with later stages was best, from its first stage on; None: a value is missing there."""
    bests: dict[str, int | None] = {}
    for name, first in _first(m.trained).items():
        seen = [(m.accuracy.get((i, name)), i) for i in range(first, len(m.trained))]
        known = [(value, -i) for value, i in seen if value is not None]
        if seen:
            bests[name] = -max(known)[1] if len(known) == len(seen) else None
    return bests


def _mean(values: Iterable[float | None]) -> float | None:
    listed = list(values)
    known = [value for value in listed if value is not None]
    return fmean(known) if listed and len(known) == len(listed) else None


@dataclass(frozen=True)
class CarryOverMetric:
    """A number that sums a run up, and what it is called where."""

    name: str  # of `show --json` and of exported tables
    mlflow: str
    abbreviation: str
    title: str
    meaning: str
    kind: Literal["level", "change", "ratio"]
    direction: Literal[-1, 0, 1]  # lower is better, no good direction, higher is better
    of: Callable[[Matrices], float | None]

    @property
    def measure(self) -> str:
        """Its name in `compare`."""
        return self.name.removeprefix("entropy_")

    @property
    def metric(self) -> str:
        """The ledger's metric that it sums up."""
        return "entropy_token" if self.kind == "ratio" else "pass_1"


@dataclass(frozen=True)
class EnvironmentSwitch:
    """A number of one stage: what it did, or what it found."""

    name: str  # everywhere
    meaning: str
    of: Callable[[Matrices], float | None]  # of the last stage


# fmt: off
OUTCOMES = (
    CarryOverMetric("average", "cl/acc", "ACC", "Average accuracy",
            "at the end, over the environments that had a stage", "level", 1, average),
    CarryOverMetric("backward_transfer", "cl/bwt", "BWT", "Backward transfer",
            "mean change of accuracy since an environment's last own stage: below 0, later stages cost it",
            "change", 1, backward_transfer),
    CarryOverMetric("forward_transfer", "cl/fwt", "FWT", "Forward transfer",
            "mean gain of accuracy before an environment's first own stage: what other stages did for it",
            "change", 1, forward_transfer),
    CarryOverMetric("forgetting", "cl/forgetting", "F", "Forgetting",
            "mean fall of accuracy from its best since the first own stage: below 0, the end is the best",
            "change", -1, forgetting),
    CarryOverMetric("relative_forgetting", "cl/relative_forgetting", "F/L", "Relative forgetting",
            "the same fall as a share of what had been learnt, over the environments that had learnt: 1, all is gone",
            "change", -1, relative_forgetting),
    CarryOverMetric("zero_shot_gain", "cl/zero_shot_gain", "ZSG", "Zero-shot gain",
            "mean gain of accuracy on the environments that never had a stage", "change", 1, zero_shot_gain),
    CarryOverMetric("entropy_retained", "cl/entropy_retained", "retained", "Entropy retained",
            "share of an environment's entropy that a stage on it leaves, geometric mean of the stages: 1, all of it",
            "ratio", 0, lambda m: geometric_mean(retained(m))),
    CarryOverMetric("entropy_carried", "cl/entropy_carried", "carried", "Entropy carried",
            "share of its entropy at the start that an environment still has when its stage begins, geometric mean of "
            "the stages after the first",
            "ratio", 0, lambda m: geometric_mean(carried(m))),
    CarryOverMetric("entropy_left", "final/entropy_ratio", "left", "Entropy left",
            "entropy over that at the start, geometric mean of all environments",
            "ratio", 0, lambda m: geometric_mean(left(m).values())),
)

SWITCHES = (
    EnvironmentSwitch("switch/entropy_retained", "of this stage alone: share of its environment's entropy that it left",
           lambda m: retained(m)[-1]),
    EnvironmentSwitch("switch/entropy_carry",
           "of this stage alone: entropy on arrival at its environment, over the base's; from stage 2 on",
           lambda m: carried(m)[-1] if len(m.trained) > 1 else None),
    EnvironmentSwitch("switch/entropy_unseen", "entropy of environments without a stage so far, over the base's",
           unseen),
    EnvironmentSwitch("switch/entropy_collateral",
           "of this stage alone: entropy of the other environments, after over before", collateral),
    EnvironmentSwitch("switch/gain", "of this stage alone: change of pass_1 on its environment", gain),
    EnvironmentSwitch("switch/interference", "of this stage alone: mean change of pass_1 on the others", interference),
)
# fmt: on


def of_run(found: Matrices) -> Numbers:
    """Every outcome, by name; None: not defined, as most are before a stage is measured, and in flat mode."""
    is_begun = any(stage for stage, _ in found.accuracy)
    return {outcome.name: outcome.of(found) if is_begun else None for outcome in OUTCOMES}


def of_switch(found: Matrices, stage: int) -> Numbers:
    """Every number of one stage, by name; none in flat mode."""
    if not 0 < stage <= len(found.trained):
        return {}
    so_far = found.up_to(stage)
    return {one.name: one.of(so_far) for one in SWITCHES}


def of_course(found: Matrices) -> Iterator[tuple[int, str, float | None]]:
    """Every number at every boundary after a stage: the stage, the number's name, its value."""
    for stage in sorted({stage for stage, _ in found.accuracy if stage}):
        for numbers in (of_run(found.up_to(stage)), of_switch(found, stage)):
            yield from ((stage, name, value) for name, value in numbers.items())
