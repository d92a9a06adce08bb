"""What runs can be compared on; settings with their scores, and against each other.

One rule decides (docs/decisions/0021): a difference is claimed when its interval leaves out the value of no
difference. The interval is that of the sign-flip test at .05 over the number of comparisons, so that p, interval,
verdict and sentence cannot disagree, and all intervals of a comparison hold together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from store import carryover, plasticity
from store.carryover import NOTHING_LEARNT, OUTCOMES
from store.comparison import statistics
from store.comparison.runs import ComparedRun, Pool
from store.comparison.statistics import ALPHA, Floats
from store.errors import ComparisonError, did_you_mean
from store.intervals import FEWEST_SEEDS, Interval
from store.ledger.queries import Reading
from store.metrics import metric as known_metric
from store.probes import ProbeResult, probes_of
from store.sentences import what_is_missing

TRAINABLE = "trainability_"  # before the kind of a probe
OF_ALL = ("left", "lost_tasks", "dormant")  # sum a run up whichever environments had a stage
WHOLE = "whole run"  # the only stratum of what sums a run up
SEED = 0  # of the bootstrap: the same runs give the same intervals, whatever else is compared
RECOMMENDED = 2  # seeds beyond those needed: 8 rather than 6
LAST = 20  # steps at the end of a stage that are averaged, unless said otherwise

Scores = dict[str, float]  # by stratum
Verdict = Literal["not enough", "no difference", "better", "worse", "more entropy", "less entropy"]


@dataclass(frozen=True)
class Measure:
    """One number a run and stratum."""

    name: str
    title: str
    metric: str  # of the ledger
    stratum: Literal["environment", "stage", "run", "probe"]
    direction: Literal[-1, 0, 1]  # lower is better, no good direction (entropy alone), higher is better
    last: int | None = None  # steps at a stage's end that are averaged; None: measured at boundaries
    is_ratio: bool = False  # compared as logarithms, shown as ratios

    @property
    def is_held_out(self) -> bool:
        """Whether it was measured on tasks that are never trained on."""
        return self.last is None and self.stratum != "probe"

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
            f"{TRAINABLE}{kind}", f"gain of the {kind.replace('_', ' ')} probe, over the base's", metric, "probe", 1
        )
        for kind, metric in (("supervised", "probe_loss"), ("rl", "probe_score"), ("random_labels", "probe_loss"))
    ),
    Measure("linear_probe", "score of the linear probe over the last boundary's states", "probe_score", "probe", 1),
    Measure("dormant", "share of dormant units, below .025, after the last stage", plasticity.DORMANT, "run", -1),
    Measure("fixed_carried", "entropy carried, on frozen answers", plasticity.FIXED, "run", 0, is_ratio=True),
    Measure("lost_tasks", "share of the solved held-out tasks that the next look found lost", "pass_1", "run", -1),
    *(
        Measure(one.measure, one.title.lower(), one.metric, "run", one.direction, is_ratio=one.kind == "ratio")
        for one in OUTCOMES
    ),
)
MEASURES: Mapping[str, Measure] = {measure.name: measure for measure in _ALL}


def measure(name: str, last: int = LAST) -> Measure:
    """Look a measure up. Raises `ComparisonError` with the nearest name."""
    if name not in MEASURES:
        hint = did_you_mean(name, MEASURES)
        those = ", ".join(MEASURES)
        raise ComparisonError(f"Runs cannot be compared on {name!r}.{hint} They can on: {those}.")
    found = MEASURES[name]
    if found.last is None:
        return found
    return replace(found, last=last)


def beside(of: Measure, is_part: bool) -> str | None:
    """Name what is asked in one breath with a measure: entropy beside accuracy, accuracy beside entropy.

    `is_part`: only some environments count, which no number that sums a run up can follow.
    """
    if of.direction == 0:
        return "accuracy"
    if of.name not in ("accuracy", "average", "train_accuracy", "value"):
        return None
    return "entropy" if is_part else "left"


def scores(reading: Reading, run: str, of: Measure, pool: Pool = "anchor") -> Scores:
    """Every stratum's score of a finished run; one that is not defined is left out.

    Raises `ComparisonError` where those of environments or stages were lost with a ledger.
    """
    found: dict[str, float | None]
    if of.stratum == "environment":  # the last boundary's cells of environments as wholes
        ask = reading.matrix if pool == "anchor" else reading.final_cells
        cells = ask(run, of.metric, by_category=False)
        last = reading.end(run)  # which a lost ledger may have taken along
        found = {c.environment: c.value for c in cells if c.environment and c.after_stage == last}
    elif of.stratum == "stage":
        means = reading.stage_means(run, of.metric, of.last or LAST)
        found = {f"stage {mean.stage}": mean.value for mean in means}
    elif of.stratum == "probe":
        found = _of_probes(reading, run, of.name)
    else:
        found = {WHOLE: _of_run(reading, run, of.name)}
    known = {stratum: value for stratum, value in found.items() if value is not None}
    if not known and of.stratum in ("environment", "stage") and (lost := what_is_missing(reading.gaps(run))):
        raise ComparisonError(f"{run} has no {of.name} to compare: {lost}. Compare other runs, or run it again.")
    return known


def _of_probes(reading: Reading, run: str, name: str) -> dict[str, float | None]:
    """What the probes of a kind found after the last stage, by what they train on."""
    kind = "linear" if name == "linear_probe" else name.removeprefix(TRAINABLE)
    own = last_probes(reading, run, kind)
    if kind == "linear":
        return {one.task: one.level for one in own}
    return {one.task: one.headline for one in own}


def last_probes(reading: Reading, run: str, kind: str) -> list[ProbeResult]:
    """What the probes of a kind found after the last stage."""
    last = max((boundary.after_stage for boundary in reading.boundaries(run)), default=0)
    return [one for one in probes_of(reading, run).at(last) if one.kind == kind]


def _of_run(reading: Reading, run: str, name: str) -> float | None:
    """One number that sums a run up."""
    if name == "dormant":
        return plasticity.dormant_share(reading, run)
    if name == "lost_tasks":
        return plasticity.lost_share(reading.turnover(run))
    matrices = reading.carry_over(run)
    if name == "fixed_carried":
        return plasticity.fixed_carried(reading, run, matrices)
    numbers = carryover.of_run(matrices)
    return next(numbers[one.name] for one in OUTCOMES if one.measure == name)


def why_undefined(reading: Reading, run: str, of: Measure) -> str:
    """Say why a run has no score of what sums a run up."""
    if reading.gaps(run):
        return f"no {of.name}: its record has gaps, as a ledger was lost"
    if of.name not in {one.measure for one in OUTCOMES}:
        return f"no {of.name}: not measured, or not defined"
    if of.name == "cumulative" and not reading.is_plainly_sampled(run):
        return f"no {of.name}: not all of its training was sampled at temperature 1 with nothing cut off"
    numbers = carryover.of_run(reading.carry_over(run))
    is_bare = of.name == "relative_forgetting" and numbers["forgetting"] is not None
    return f"no {of.name}: {NOTHING_LEARNT if is_bare else 'not defined for its stages'}"


@dataclass(frozen=True)
class RunScore:
    """A run's scores."""

    run: str
    seed: int
    score: float  # mean over the strata
    strata: Mapping[str, float]
    num_samples: int  # trained on


@dataclass(frozen=True)
class ScoredSetting:
    """A setting over its seeds. Of a ratio, means are geometric."""

    label: str
    runs: Sequence[RunScore]  # by seed
    iqm: float
    iqm_interval: Interval | None  # None: fewer than `FEWEST_SEEDS`
    mean: float
    median: float
    strata: Mapping[str, float]  # means over the seeds


@dataclass(frozen=True)
class Pair:
    """A setting against another, over the seeds that both have: differences, or quotients of what is a ratio."""

    setting: str
    baseline: str
    is_ratio: bool
    seeds: Sequence[int]
    differences: Sequence[float]  # by seed: setting minus baseline; of a ratio, setting over baseline
    mean: float | None  # geometric, of quotients; None: no seed in common
    interval: Interval | None  # corrected for all comparisons; None: fewer seeds than needed
    p: float | None  # sign-flip test
    p_corrected: float | None  # times the number of comparisons
    is_exact: bool  # all sign patterns were looked at
    effect_size: float | None  # d_z; of a ratio, that of the logarithms
    improvement: float | None  # chance that a run of the setting is better; of entropy, that it has more
    num_comparisons: int
    seeds_needed: int
    seeds_recommended: int
    seeds_for_power: int | None
    verdict: Verdict

    @property
    def is_claim(self) -> bool:
        """Whether a difference was seen."""
        return self.verdict not in ("not enough", "no difference")


def setting(label: str, entries: Sequence[ComparedRun], found: Mapping[str, Scores], of: Measure) -> ScoredSetting:
    """Sum a setting's runs up; `found` has the same strata for every run."""
    strata = [found[entry.run.name] for entry in entries]
    scores = np.array([[of.scaled(value) for value in own.values()] for own in strata])
    runs = [
        RunScore(entry.run.name, entry.run.seed, of.unscaled(float(np.mean(row))), own, entry.num_samples)
        for entry, own, row in zip(entries, strata, scores, strict=True)
    ]
    rng = np.random.default_rng(SEED)
    is_told = len(runs) >= FEWEST_SEEDS
    interval = statistics.bootstrap(scores, rng, statistics.interquartile_means) if is_told else None
    means = [of.unscaled(mean) for mean in scores.mean(axis=0).tolist()]
    return ScoredSetting(
        label,
        runs,
        iqm=of.unscaled(statistics.interquartile_mean(scores.ravel())),
        iqm_interval=_unscaled(interval, of),
        mean=of.unscaled(float(scores.mean())),
        median=of.unscaled(float(np.median(scores))),
        strata=dict(zip(strata[0], means, strict=True)),
    )


def pairs(settings: Sequence[ScoredSetting], baseline: str | None, of: Measure, num_comparisons: int = 0) -> list[Pair]:
    """Compare every setting with the baseline, or with every earlier one; corrected at least for so many."""
    by_label = {setting.label: setting for setting in settings}
    if baseline is None:
        chosen = [(ours, theirs) for theirs, ours in combinations(settings, 2)]
    else:
        chosen = [(ours, by_label[baseline]) for ours in settings if ours.label != baseline]
    return [_pair(ours, theirs, of, max(len(chosen), num_comparisons)) for ours, theirs in chosen]


def _pair(ours: ScoredSetting, theirs: ScoredSetting, of: Measure, num_comparisons: int) -> Pair:
    seeds = {run.seed for run in ours.runs} & {run.seed for run in theirs.runs}
    x, y = ([run for run in setting.runs if run.seed in seeds] for setting in (ours, theirs))
    d = np.array([of.scaled(a.score) - of.scaled(b.score) for a, b in zip(x, y, strict=True)])
    some, alpha = d.size > 0, ALPHA / num_comparisons
    test = statistics.sign_flip(d, np.random.default_rng(SEED), alpha)
    effect = statistics.effect_size(d)
    needed = statistics.pairs_needed(num_comparisons)
    planned = statistics.seeds_for_power(effect, alpha=alpha) if effect is not None else None
    return Pair(
        ours.label,
        theirs.label,
        of.is_ratio,
        seeds=[run.seed for run in x],
        differences=[of.unscaled(one) for one in d.tolist()],
        mean=of.unscaled(float(d.mean())) if some else None,
        interval=_unscaled(test.interval, of),
        p=test.p if some else None,
        p_corrected=statistics.bonferroni(test.p, num_comparisons) if some else None,
        is_exact=test.is_exact,
        effect_size=effect,
        improvement=_improvement(_table(x, of), _table(y, of), of.direction) if some else None,
        num_comparisons=num_comparisons,
        seeds_needed=needed,
        seeds_recommended=needed + RECOMMENDED,
        seeds_for_power=None if planned is None else max(planned, needed),
        verdict=_verdict(test.interval, of.direction),
    )


def _verdict(interval: Interval | None, direction: int) -> Verdict:
    """Claim what the interval shows. More entropy is neither better nor worse."""
    if interval is None:
        return "not enough"
    if interval.holds(0.0):
        return "no difference"
    is_up = interval.low > 0
    if direction == 0:
        return "more entropy" if is_up else "less entropy"
    return "better" if is_up == (direction > 0) else "worse"


def _improvement(ours: Floats, theirs: Floats, direction: int) -> float:
    """Where less is better, a run improves on another by having less."""
    x, y = (theirs, ours) if direction < 0 else (ours, theirs)
    return statistics.probability_of_improvement(x, y)


def _table(runs: Sequence[RunScore], of: Measure) -> Floats:
    """A row a run, a column a stratum, on the scale on which scores differ."""
    return np.array([[of.scaled(value) for value in run.strata.values()] for run in runs])


def _unscaled(interval: Interval | None, of: Measure) -> Interval | None:
    if interval is None:
        return None
    ends = of.unscaled(interval.low), of.unscaled(interval.high)
    return Interval(*ends, interval.num_draws, interval.is_exact)
