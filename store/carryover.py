"""Carry-over: how a run's accuracy and entropy at a boundary compare with before; every number, its names and formula.

MLflow, the report, `show`, `compare` and `export` take names and values from here, so that a name means the same
wherever it stands. `OUTCOMES` are of a run: over all stages up to a boundary, so the last boundary's are the finished
run's. `SWITCHES` are of one stage alone.

A matrix maps (after stage i, environment j) to a value; stage 0 is the base. Definitions follow `plasticity.md` 1.6 for
ratios and 5.3 for differences, which reduce to GEM's (1706.08840) when every environment has one stage. Environments
may come back or never have a stage. In flat mode every stage trains all environments that can be trained.

A boundary may leave environments out (`evaluate.share`): a hole, which no value of another boundary fills. What a hole
makes unknown is no term of a mean, and neither is a ratio to a base below the floor; `Mean.num` of `Mean.of` terms says
how many are behind it. A value that was measured and is undefined makes a difference None, and a mean of differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
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
class Journey:
    """The entropy that a stage's environment had along the stage's training (plasticity.md 1.7)."""

    area: float  # nats x steps, by trapezoids
    num_steps: int  # between the first and the last step with a reading


@dataclass(frozen=True)
class Mean:
    """A mean, and how many of its terms are known."""

    value: float | None
    num: int
    of: int  # more than `num`: holes, or ratios to next to nothing

    @staticmethod
    def of_differences(terms: Sequence[float | None], of: int) -> Mean:
        """Average differences, the terms without a hole; one that is undefined all the same makes the mean so."""
        known = [term for term in terms if term is not None]
        return Mean(fmean(known) if known and len(known) == len(terms) else None, len(known), of)

    @staticmethod
    def of_ratios(terms: Sequence[float | None]) -> Mean:
        """Average ratios geometrically; those that are not defined are no terms."""
        return Mean(geometric_mean(terms), sum(term is not None for term in terms), len(terms))


@dataclass(frozen=True)
class Coverage:
    """When a matrix was measured."""

    firsts: Mapping[str, int]  # by environment: the first boundary that measured it
    boundaries: Sequence[int]  # in order

    @staticmethod
    def of(places: Collection[tuple[int, str]]) -> Coverage:
        """Read it off a matrix, or its places."""
        firsts: dict[str, int] = {}
        for i, name in places:
            if i < firsts.get(name, i + 1):
                firsts[name] = i
        return Coverage(firsts, sorted({i for i, _ in places}))

    def start(self, name: str) -> int | None:
        """The boundary at which an environment starts: the first that measured it, also of one that joined at a fork.

        None: not known. Boundary 0 measures all environments; where it was lost with a ledger, the first that is
        there may be any.
        """
        return self.firsts.get(name) if self.boundaries[:1] == [0] else None

    def up_to(self, stage: int) -> Coverage:
        """The same as it was after a stage."""
        firsts = {name: i for name, i in self.firsts.items() if i <= stage}
        return Coverage(firsts, [i for i in self.boundaries if i <= stage])


@dataclass(frozen=True)
class Matrices:
    """What a run's boundaries measured, on environments as wholes, and what was trained between them.

    Everything is computed once and shared with what `up_to` gives, so a run's whole course costs little more than its
    end.
    """

    accuracy: Matrix
    entropy: Matrix
    errors: Matrix  # standard errors of the accuracies; one that is not known counts as 0
    stages: Sequence[str | None]  # the environment of each measured one; None in flat mode, and with gaps
    everywhere: Sequence[str] = ()  # in flat mode: the environments that every stage trains
    cumulative: Mapping[int, Journey] = field(default_factory=dict)  # by stage: entropy along its steps
    until: int | None = None  # the boundary from `up_to`: the maps have later ones, which count for nothing
    whole: Matrices | None = field(default=None, repr=False, compare=False)  # what this is the beginning of

    @cached_property
    def trained(self) -> Sequence[str]:
        """Each measured stage's environment; nothing in flat mode."""
        named = [name for name in self.stages if name is not None]
        return named if len(named) == len(self.stages) else []

    @property
    def last(self) -> int:
        """The last stage that was measured, where it is known what was trained; else 0."""
        return len(self.stages) if self.everywhere else len(self.trained)

    @cached_property
    def first(self) -> dict[str, int]:
        """By environment: the first stage that trained it."""
        flat = dict.fromkeys(self.everywhere, 1) if self.stages else {}
        return flat or _first_places(self.trained)

    @cached_property
    def final(self) -> dict[str, int]:
        """By environment: the last stage that trained it."""
        flat = dict.fromkeys(self.everywhere, self.last)
        return flat or {name: i for i, name in enumerate(self.trained, start=1)}

    @cached_property
    def accuracy_coverage(self) -> Coverage:
        """When accuracy was measured."""
        return Coverage.of(self.accuracy) if self.whole is None else self.whole.accuracy_coverage.up_to(self.until or 0)

    @cached_property
    def entropy_coverage(self) -> Coverage:
        """When entropy was measured."""
        return Coverage.of(self.entropy) if self.whole is None else self.whole.entropy_coverage.up_to(self.until or 0)

    @cached_property
    def bests(self) -> Mapping[str, Sequence[int | None]]:
        """By environment: its best boundary so far, at each from its first stage on, as far as there is no hole.

        None: a value is undefined there or before. Of values that are alike the earliest is the best.
        """
        if self.whole is not None:
            return self.whole.bests
        firsts = dict.fromkeys(self.everywhere, 1) or _first_places(self.stages)
        return {name: self._bests_from(first, name) for name, first in firsts.items()}

    def _bests_from(self, first: int, name: str) -> list[int | None]:
        found: list[int | None] = []
        best: int | None = first
        for i in range(first, len(self.stages) + 1):
            if (i, name) not in self.accuracy:
                break
            value = self.accuracy[i, name]
            top = None if best is None else self.accuracy[best, name]
            best = None if value is None or top is None else i if value > top else best
            found.append(best)
        return found

    def up_to(self, stage: int) -> Matrices:
        """The same as it was after a stage: later boundaries stay in the maps, which are shared, and are not read."""
        until = stage if self.until is None else min(stage, self.until)
        return replace(self, stages=self.stages[:until], until=until, whole=self.whole or self)

    def has(self, name: str, *boundaries: int) -> bool:
        """Whether these boundaries measured an environment; where one did not there is a hole."""
        return all((i, name) in self.accuracy for i in boundaries)

    def changes(self, spans: Mapping[str, tuple[int, int]]) -> Mean:
        """Average the changes of environments, each from one boundary to another, where both measured it."""
        terms = [self.change(name, *span) for name, span in spans.items() if self.has(name, *span)]
        return Mean.of_differences(terms, len(spans))

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
    """Average ratios; those that are None are left out.

    One of 0 or less, as of a probe that a copy gets worse at, makes it 0, the least it can be, also where it is alone.
    """
    known = [r for r in ratios if r is not None]
    if not known:
        return None
    return math.exp(fmean(map(math.log, known))) if min(known) > 0 else 0.0


# --- of a run: over all stages ---


def average(m: Matrices) -> Mean:
    """ACC: mean over the trained environments at the end."""
    there = [name for name in m.first if m.has(name, m.last)]
    return Mean.of_differences([m.accuracy[m.last, name] for name in there], len(m.first))


def backward_transfer(m: Matrices) -> Mean:
    """BWT: mean change since an environment's last stage, over those with later stages; below 0: forgetting."""
    return m.changes({name: (i, m.last) for name, i in m.final.items() if i < m.last})


def forward_transfer(m: Matrices) -> Mean:
    """FWT: mean gain over the base on arrival at an environment's first stage, over those that came later."""
    return m.changes({name: (0, i - 1) for name, i in m.first.items() if i > 1})


def forgetting(m: Matrices) -> Mean:
    """F: mean fall from the best value since the first stage (1801.10112); below 0: best at the end."""
    bests = {name: best for name, best in _bests(m).items() if m.has(name, m.last)}
    terms = [None if best is None else m.change(name, m.last, best) for name, best in bests.items()]
    return Mean.of_differences(terms, len(_later(m)))


def relative_forgetting(m: Matrices) -> Mean:
    """F as a share of what had been learnt: mean of (best - end) / (best - start).

    Over the environments of F where best - start is at least `LEAST_GAIN` and `NUM_ERRORS` standard errors (one that
    is not known, of a category of one task, counts as 0: `LEAST_GAIN` alone decides); the others had learnt nothing
    that could be forgotten. None where that is all of them, or a value is undefined, as is that of a start that is not
    known.
    """
    shares: list[float | None] = []
    bests = {name: best for name, best in _bests(m).items() if m.has(name, m.last)}
    unlearnt = 0
    for name, best in bests.items():
        start = m.accuracy_coverage.start(name)
        fall, gain = (None if best is None or i is None else m.change(name, i, best) for i in (m.last, start))
        if best is None or start is None or fall is None or gain is None:
            shares.append(None)
            continue
        noise = math.hypot(*(m.errors.get((i, name)) or 0.0 for i in (best, start)))
        is_learnt = gain >= max(LEAST_GAIN, NUM_ERRORS * noise)
        shares += [fall / gain] if is_learnt else []
        unlearnt += not is_learnt
    return Mean.of_differences(shares, len(_later(m)) - unlearnt)


def zero_shot_gain(m: Matrices) -> Mean:
    """Mean gain over the base at the end, over environments that never had a stage."""
    others = [name for name in m.accuracy_coverage.firsts if m.last and name not in m.first]
    return m.changes(dict.fromkeys(others, (0, m.last)))


def retained(m: Matrices) -> list[float | None]:
    """Each stage's share of its environment's entropy that was left after it; 1 = nothing spent."""
    return [m.share(name, i - 1, i) for i, name in enumerate(m.trained, start=1)]


def carried(m: Matrices) -> list[float | None]:
    """From stage 2 on: what earlier stages left of the environment about to be trained, against the base."""
    return [m.share(name, 0, i - 1) for i, name in enumerate(m.trained[1:], start=2)]


def left(m: Matrices) -> Numbers:
    """By environment: its entropy at the last boundary against its start; None where that boundary left it out."""
    of = m.entropy_coverage
    end = max(of.boundaries, default=0)
    return {name: None if (start := of.start(name)) is None else m.share(name, start, end) for name in of.firsts}


def cumulative_entropy(m: Matrices) -> Mean:
    """Entropy along the training of all stages, each over its environment's base: 1 = it stayed at that.

    Step-weighted mean of C_i / (steps_i H_0); stages whose base is below the floor are no terms. None is where the run
    or its past was sampled at another temperature or from a part of the tokens.
    """
    terms = [(journey_of(m, i), m.cumulative[i].num_steps) for i in range(1, len(m.trained) + 1) if i in m.cumulative]
    known = [(value, steps) for value, steps in terms if value is not None]
    total = sum(steps for _, steps in known)
    value = sum(value * steps for value, steps in known) / total if total else None
    return Mean(value, len(known), len(m.trained))


def journey_of(m: Matrices, stage: int) -> float | None:
    """Entropy along a stage's training: C_i / (steps_i H_0), over the base's entropy on the stage's environment."""
    journey, name = m.cumulative.get(stage), m.trained[stage - 1]
    start = m.entropy_coverage.start(name)
    if journey is None or start is None or not journey.num_steps:
        return None
    return ratio(journey.area / journey.num_steps, m.entropy.get((start, name)), ENTROPY_FLOOR)


# --- of the last stage alone ---


def unseen(m: Matrices) -> Mean:
    """Geometric mean, over environments without a stage so far, of their entropy against the base."""
    others = [name for name in m.entropy_coverage.firsts if name not in m.first]
    return Mean.of_ratios([m.share(name, 0, len(m.trained)) for name in others])


def collateral(m: Matrices) -> Mean:
    """What the stage did to the entropy of the other environments: geometric mean of after against before."""
    others = [name for name in m.entropy_coverage.firsts if name != m.trained[-1]]
    return Mean.of_ratios([m.share(name, len(m.trained) - 1, len(m.trained)) for name in others])


def gain(m: Matrices) -> Mean:
    """The stage's change on its own environment."""
    return m.changes({m.trained[-1]: (len(m.trained) - 1, len(m.trained))})


def interference(m: Matrices) -> Mean:
    """The stage's mean change on the other environments."""
    others = [name for name in m.accuracy_coverage.firsts if name != m.trained[-1]]
    return m.changes({name: (len(m.trained) - 1, len(m.trained)) for name in others})


def _first_places(names: Sequence[str | None]) -> dict[str, int]:
    """Where each name stands first, counted from 1."""
    return {name: i for i, name in reversed(list(enumerate(names, start=1))) if name is not None}


def _later(m: Matrices) -> list[str]:
    """Environments with boundaries between their first stage and the end."""
    return [name for name, first in m.first.items() if first < m.last]


def _bests(m: Matrices) -> dict[str, int | None]:
    """When each environment with later stages was best, from its first stage on; None: a value is undefined there.

    One that a boundary in between left out may have been better there: it has no best that is known.
    """
    spans = {name: m.last - m.first[name] for name in _later(m)}
    return {name: m.bests[name][span - 1] for name, span in spans.items() if span <= len(m.bests[name])}


def since_best(m: Matrices) -> dict[str, tuple[float | None, float | None]]:
    """By environment of F: its change of accuracy since its best before the end, and the standard error of that."""
    found = {}
    for name, best in _bests(m).items():
        if best is not None and m.has(name, m.last):
            errors = [error for i in (best, m.last) if (error := m.errors.get((i, name))) is not None]
            found[name] = m.change(name, best, m.last), math.hypot(*errors) if len(errors) == 2 else None
    return found


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
    of: Callable[[Matrices], Mean]

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
    of: Callable[[Matrices], Mean]  # of the last stage


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
            "ratio", 0, lambda m: Mean.of_ratios(retained(m))),
    CarryOverMetric("entropy_carried", "cl/entropy_carried", "carried", "Entropy carried",
            "share of its entropy at the start that an environment still has when its stage begins, geometric mean of "
            "the stages after the first",
            "ratio", 0, lambda m: Mean.of_ratios(carried(m))),
    CarryOverMetric("entropy_left", "final/entropy_ratio", "left", "Entropy left",
            "entropy over that at the start, geometric mean of all environments",
            "ratio", 0, lambda m: Mean.of_ratios(list(left(m).values()))),
    CarryOverMetric("entropy_cumulative", "cl/entropy_cumulative", "journey", "Cumulative entropy",
            "entropy along the training of the stages over that of their environments at the start, mean of the steps: "
            "1, it stayed there; of runs sampled at temperature 1, with nothing cut off",
            "ratio", 0, cumulative_entropy),
)

SWITCHES = (
    EnvironmentSwitch("switch/entropy_retained", "of this stage alone: share of its environment's entropy that it left",
           lambda m: Mean.of_ratios(retained(m)[-1:])),
    EnvironmentSwitch("switch/entropy_carry",
           "of this stage alone: entropy on arrival at its environment, over the base's; from stage 2 on",
           lambda m: Mean.of_ratios(carried(m)[-1:])),
    EnvironmentSwitch("switch/entropy_unseen", "entropy of environments without a stage so far, over the base's",
           unseen),
    EnvironmentSwitch("switch/entropy_collateral",
           "of this stage alone: entropy of the other environments, after over before", collateral),
    EnvironmentSwitch("switch/entropy_cumulative",
           "of this stage alone: entropy along its training, over that of its environment at the start",
           lambda m: Mean.of_ratios([journey_of(m, len(m.trained))])),
    EnvironmentSwitch("switch/gain", "of this stage alone: change of pass_1 on its environment", gain),
    EnvironmentSwitch("switch/interference", "of this stage alone: mean change of pass_1 on the others", interference),
)
# fmt: on


def means_of_run(found: Matrices) -> dict[str, Mean]:
    """Every outcome with how many terms are behind it, by name; nothing before a stage is measured."""
    return {one.name: one.of(found) for one in OUTCOMES} if any(found.accuracy_coverage.boundaries) else {}


def of_run(found: Matrices) -> Numbers:
    """Every outcome, by name; None: not defined, as most are before a stage is measured, and some in flat mode."""
    means = means_of_run(found)
    return {one.name: means[one.name].value if means else None for one in OUTCOMES}


def partly(found: Matrices) -> dict[str, tuple[int, int]]:
    """Name the outcomes that not all of their terms are behind: how many, of how many."""
    means = means_of_run(found)
    return {name: (one.num, one.of) for name, one in means.items() if one.value is not None and one.num < one.of}


def means_of_switch(found: Matrices, stage: int) -> dict[str, Mean]:
    """Every number of one stage with how many terms are behind it, by name; none in flat mode."""
    if not 0 < stage <= len(found.trained):
        return {}
    so_far = found.up_to(stage)
    return {one.name: one.of(so_far) for one in SWITCHES}


def of_switch(found: Matrices, stage: int) -> Numbers:
    """Every number of one stage, by name; none in flat mode."""
    return {name: mean.value for name, mean in means_of_switch(found, stage).items()}


def of_course(found: Matrices) -> Iterator[tuple[int, str, float | None, int, int]]:
    """Every number at every boundary after a stage: stage, name, value, how many terms are behind it, of how many."""
    for stage in filter(None, found.accuracy_coverage.boundaries):
        for means in (means_of_run(found.up_to(stage)), means_of_switch(found, stage)):
            yield from ((stage, name, mean.value, mean.num, mean.of) for name, mean in means.items())
