"""Trainability: how much a copy of the policy gains in a few steps on something new, against that before training.

One definition for all that shows it. A curve y(0), y(s_1), ..., y(K) is what a probe recorded of its copy; the base is
the probe of the same kind, task and protocol at boundary 0, with the same seeds. Only equal protocols compare. Level
and gain are always told together: an own gain is the larger the lower one begins.

    AUC = (1/K) * trapezoid(y)      gain area G = AUC - y(0)      end gain = y(K) - y(0)

for scores. The gain of a loss is counted from chance, what knowing nothing of the task costs: chance - AUC, chance -
y(K). From the own start it would say the opposite of the truth: a policy that has become sure of other things begins
far above chance and gains most of that back in its first steps, whatever it learns after. Curves are averaged over the
seeds that both have before anything is made of them, and the least and the most of single seeds stand beside it. A copy
that diverged has fewer looks than the others: it is counted, and the seeds that have all looks are averaged. Means of
several tasks' ratios are geometric.

Source: plasticity.md 3.1 and 3.2; its worked numbers are tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import fmean

from store.carryover import geometric_mean, ratio
from store.ledger import Reading
from store.ledger.query_rows import ProbeRow
from store.metrics import metric

# What each kind is judged by.
CURVES = {"supervised": "probe_loss", "rl": "probe_score", "random_labels": "probe_loss", "linear": "probe_score"}
HEADLINE = {
    "supervised": "gain_ratio",
    "rl": "gain_ratio",
    "random_labels": "end_gain_ratio",
    "linear": "end_level",
}
AT_END = frozenset(kind for kind, ratio_of in HEADLINE.items() if ratio_of == "end_gain_ratio")
GAIN_RATIO = "probe_gain_ratio"  # as conditions call it
TRAINABILITY = ("rl", "supervised")  # kinds whose gain ratio may stand for the run, the first that there is
THRESHOLD = 0.5  # of the base's end gain: steps are counted until a curve is so far


@dataclass(frozen=True)
class ProbeCurve:
    """What a copy was found to do along its steps."""

    steps: tuple[int, ...]
    values: tuple[float, ...]
    chance: float | None = None  # of a loss, which is better the lower: what knowing nothing costs. None: a score

    @property
    def is_loss(self) -> bool:
        """Whether lower is better."""
        return self.chance is not None

    @property
    def has_start(self) -> bool:
        """Whether there is a look before the first step; without it neither a level nor an area is known."""
        return self.steps[0] == 0

    @property
    def origin(self) -> float:
        """What gains are counted from: the own start, or chance."""
        return self.start if self.chance is None else self.chance

    @property
    def start(self) -> float:
        """The level y(0)."""
        return self.values[0]

    @property
    def end(self) -> float:
        """The level y(K)."""
        return self.values[-1]

    @property
    def auc(self) -> float:
        """Mean height; of a single point its value."""
        area = sum((y + z) * (t - s) / 2 for (s, y), (t, z) in pairwise(zip(self.steps, self.values, strict=True)))
        return area / self.steps[-1] if self.steps[-1] else self.start

    @property
    def gain(self) -> float:
        """The gain area G; above 0: it learnt."""
        return self.origin - self.auc if self.is_loss else self.auc - self.origin

    @property
    def end_gain(self) -> float:
        """How far the end is above the start, or a loss below chance."""
        return self.origin - self.end if self.is_loss else self.end - self.origin

    def told_gain(self, kind: str) -> float:
        """The gain that stands beside the ratio that a kind is judged by: at the end, or the area."""
        return self.end_gain if kind in AT_END else self.gain

    def steps_to(self, level: float) -> float | None:
        """After how many steps it first reaches a level, between two looks on the line that joins them; None: never."""
        sign = -1.0 if self.is_loss else 1.0
        points = [(step, sign * (value - level)) for step, value in zip(self.steps, self.values, strict=True)]
        if points[0][1] >= 0:
            return float(points[0][0])
        for (s, below), (t, above) in pairwise(points):
            if above >= 0:
                return s + (t - s) * below / (below - above)
        return None


@dataclass(frozen=True)
class Comparison:
    """A curve against the base's: every number of plasticity.md 3.1; None where a ratio says nothing."""

    gain_ratio: float | None  # G_i / G_0: 1, as trainable as the start
    auc_ratio: float | None  # AUC_i / AUC_0, of levels
    end_gain_ratio: float | None  # of random labels (ln C - L_i) / (ln C - L_0)
    end_level: float | None  # y_i(K) - y_0(K)
    ceiling_ratio: float | None  # of G / (1 - y(0)), the gain as a share of what there was to gain; scores alone
    steps_ratio: float | None  # of the steps to half of the base's end gain: above 1, slower
    loss_change: float | None  # losses alone: 100 (AUC_i / AUC_0 - 1), above 0: worse


def compared(own: ProbeCurve, base: ProbeCurve, floor: float) -> Comparison | None:
    """Compare two curves of the same looks, from the first on; ratios to a base below the floor are None."""
    if own.steps != base.steps or not own.has_start:
        return None
    auc_ratio = ratio(own.auc, base.auc, floor)
    reached = base.origin + (-1 if base.is_loss else 1) * THRESHOLD * base.end_gain
    has_learnt = base.end_gain >= floor
    steps, base_steps = (one.steps_to(reached) if has_learnt else None for one in (own, base))
    has_room = not own.is_loss and max(own.start, base.start) < 1
    ceilings = [one.gain / (1 - one.start) if has_room else None for one in (own, base)]
    return Comparison(
        gain_ratio=ratio(own.gain, base.gain, floor),
        auc_ratio=auc_ratio,
        end_gain_ratio=ratio(own.end_gain, base.end_gain, floor),
        end_level=own.end - base.end,
        ceiling_ratio=ratio(ceilings[0], ceilings[1], floor),
        steps_ratio=ratio(steps, base_steps, 1e-8),
        loss_change=100 * (auc_ratio - 1) if own.is_loss and auc_ratio is not None else None,
    )


@dataclass(frozen=True)
class Spread:
    """The least and the most of single seeds."""

    least: float
    most: float


@dataclass(frozen=True)
class ProbeResult:
    """What one probe found after a stage, with level and gain; against the base, where there is one to compare with."""

    kind: str
    task: str
    after_stage: int
    metric: str  # that the curve is of
    num_seeds: int  # that the curve is the mean of
    num_diverged: int  # copies whose curve ends early, or never began
    curve: ProbeCurve
    base: ProbeCurve | None  # None: none of this protocol, or none at all
    against_base: Comparison | None  # None too where no seed has all looks both times
    spread: Spread | None  # of the headline, over single seeds; None: of one seed
    seconds: float  # of all seeds
    sha256: str  # of the protocol
    seeds: Mapping[int, ProbeCurve]  # of every copy
    base_seeds: Mapping[int, ProbeCurve]  # of the base's, of the same seeds and protocol

    @property
    def level(self) -> float | None:
        """y(0): what the policy can do before the copy learns anything; None: it was not looked at then."""
        return self.curve.start if self.curve.has_start else None

    @property
    def base_level(self) -> float | None:
        """The same of the base."""
        return self.base.start if self.base is not None and self.base.has_start else None

    @property
    def gain(self) -> float | None:
        """The gain area; None: of other looks than the base's, or without the first."""
        is_known = self.curve.has_start and (self.base is None or self.base.steps == self.curve.steps)
        return self.curve.gain if is_known else None

    @property
    def gain_ratio(self) -> float | None:
        """1: as trainable as the start."""
        return None if self.against_base is None else self.against_base.gain_ratio

    @property
    def headline(self) -> float | None:
        """The one number against the base: the gain ratio; of random labels that of the end, linear a difference."""
        against: float | None = getattr(self.against_base, HEADLINE[self.kind], None)
        return against


@dataclass(frozen=True)
class Trainability:
    """How trainable a run's policy still is, after a stage: the gain ratio, geometric mean of the tasks probed."""

    after_stage: int
    kind: str  # of the probes that it is of
    value: float


@dataclass(frozen=True)
class Probes:
    """All that a run's probes say."""

    results: Sequence[ProbeResult]  # by kind, task and boundary

    def at(self, stage: int) -> list[ProbeResult]:
        """What was found after a stage."""
        return [one for one in self.results if one.after_stage == stage]

    def trainability(self, stage: int) -> Trainability | None:
        """The run's one number after a stage: of its RL probes, or else of its supervised one; None: not compared."""
        for kind in TRAINABILITY:
            if any(one.kind == kind for one in self.results):
                value = geometric_mean(one.gain_ratio for one in self.at(stage) if one.kind == kind)
                return None if value is None else Trainability(stage, kind, value)
        return None

    def numbers(self, stage: int) -> dict[str, float]:
        """The numbers after a stage by their names in MLflow; those that are not known are left out.

        Ratios are geometric means of the tasks, differences and levels plain ones. Levels and gains stand beside.
        """

        def geometric(kind: str, field: str) -> float | None:
            found = (one.against_base for one in self.at(stage) if one.kind == kind)
            return geometric_mean(getattr(one, field) for one in found if one is not None)

        def level(kind: str) -> float | None:
            return _mean([one.level for one in self.at(stage) if one.kind == kind])

        ends = [o.against_base.end_level for o in self.at(stage) if o.kind == "rl" and o.against_base is not None]
        changes = [o.against_base.loss_change for o in self.at(stage) if o.kind == "supervised" and o.against_base]
        trained = self.trainability(stage)
        made = {
            "probe/sft_gain_ratio": geometric("supervised", "gain_ratio"),
            "probe/sft_level": level("supervised"),
            "probe/sft_loss_change": _mean(changes),
            "probe/rl_gain_ratio": geometric("rl", "gain_ratio"),
            "probe/rl_level": level("rl"),
            "probe/rl_auc_ratio": geometric("rl", "auc_ratio"),
            "probe/rl_end_level_diff": _mean(ends),
            "probe/randlabel_ratio": geometric("random_labels", "end_gain_ratio"),
            "probe/linear_acc": level("linear"),
            "final/trainability": None if trained is None else trained.value,
        }
        return {name: value for name, value in made.items() if value is not None}


def probes_of(reading: Reading, name: str) -> Probes:
    """Read and compare all probes of a run."""
    points: dict[tuple[str, str, int, int], dict[int, float]] = {}
    for point in reading.probe_points(name):
        if point.metric == CURVES.get(point.kind) and point.value is not None:
            place = (point.kind, point.task, point.after_stage, point.seed)
            points.setdefault(place, {})[point.step] = point.value
    results: list[ProbeResult] = []
    for (kind, task), of_task in groupby(reading.probes(name), lambda row: (row.kind, row.task)):
        base: list[ProbeRow] = []
        for stage, of_stage in groupby(of_task, lambda row: row.after_stage):
            rows = list(of_stage)
            base = rows if stage == 0 else base
            known = {(row.seed, row.sha256) for row in base}
            own, bases = (
                {
                    row.seed: _curve(row, points[place])
                    for row in chosen
                    if (place := (kind, task, at, row.seed)) in points
                }
                for at, chosen in ((stage, rows), (0, [row for row in rows if (row.seed, row.sha256) in known]))
            )
            if own:
                results.append(_result(rows, own, bases))
    return Probes(results)


def _result(rows: Sequence[ProbeRow], own: Mapping[int, ProbeCurve], bases: Mapping[int, ProbeCurve]) -> ProbeResult:
    """Make the result of one probe at one boundary from its seeds; those that the base has too are compared.

    Those that lack looks, here or at the base, are left out. Where all do, the curve is the longest, without
    comparison.
    """
    kind, name = rows[0].kind, CURVES[rows[0].kind]
    floor = metric(name).ratio_floor or 0.0
    looks = max((one.steps for one in (*own.values(), *bases.values())), key=len)
    known = sorted(own.keys() & bases.keys()) or sorted(own)
    whole = [seed for seed in known if own[seed].steps == looks]
    paired = [seed for seed in whole if seed in bases and bases[seed].steps == looks]
    seeds = paired or whole or [max(known, key=lambda seed: len(own[seed].steps))]
    curve, base = _averaged([own[one] for one in seeds]), _averaged([bases[one] for one in seeds if one in bases])
    assert curve is not None  # its seeds have the same looks
    each = [against for one in paired if (against := compared(own[one], bases[one], floor)) is not None]
    single = [value for against in each if (value := getattr(against, HEADLINE[kind])) is not None]
    return ProbeResult(
        kind=kind,
        task=rows[0].task,
        after_stage=rows[0].after_stage,
        metric=name,
        num_seeds=len(seeds),
        num_diverged=sum(row.seed not in own or own[row.seed].steps[-1] < looks[-1] for row in rows),
        curve=curve,
        base=base,
        against_base=compared(curve, base, floor) if base else None,
        spread=Spread(min(single), max(single)) if len(single) > 1 else None,
        seconds=sum(row.seconds for row in rows),
        sha256=rows[0].sha256,
        seeds=own,
        base_seeds=bases,
    )


def _curve(row: ProbeRow, points: Mapping[int, float]) -> ProbeCurve:
    steps = sorted(points)
    return ProbeCurve(tuple(steps), tuple(points[step] for step in steps), row.protocol.get("chance"))


def _averaged(curves: Sequence[ProbeCurve]) -> ProbeCurve | None:
    """Average curves of the same looks; None: there are none, or their looks differ."""
    if not curves or len({one.steps for one in curves}) > 1:
        return None
    means = [fmean(values) for values in zip(*(one.values for one in curves), strict=True)]
    return ProbeCurve(curves[0].steps, tuple(means), curves[0].chance)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
