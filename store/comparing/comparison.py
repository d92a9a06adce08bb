"""A comparison as plain facts: settings with their aggregates, pairs with their tests, and what was left out.

`store.comparing.words` says them in sentences; the terminal, `--json` and the page show the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import combinations
from typing import Any, Literal

import numpy as np

from store.comparing import statistics
from store.comparing.measures import LAST, Measure, Scores, measure, scores
from store.comparing.runs import Entry, Gathered, LeftOut, gather, refuse_what_is_measured_otherwise
from store.comparing.statistics import Floats, Interval
from store.errors import ComparisonError
from store.home import Home
from store.ledger.reading import Reading
from store.words import listed

SEED = 0  # of the bootstrap: the same runs give the same intervals, whatever else is compared
RECOMMENDED = 2  # seeds beyond those needed: 8 rather than 6
DEFAULT_METRIC = "accuracy"

Pairs = Literal["baseline", "all"]
Verdict = Literal["not enough", "no difference", "better", "worse", "higher", "lower"]


@dataclass(frozen=True)
class Request:
    """What a person asks for; None: what the study registered, else the default."""

    names: Sequence[str]  # runs, or a study
    by: Sequence[str] = ()
    metric: str | None = None
    last: int | None = None
    baseline: str | None = None
    pairs: Pairs = "baseline"


@dataclass(frozen=True)
class RunScore:
    """A run's scores."""

    run: str
    seed: int
    score: float  # mean over the strata
    strata: Mapping[str, float]
    num_samples: int  # trained on


@dataclass(frozen=True)
class Setting:
    """A setting over its seeds."""

    label: str
    runs: Sequence[RunScore]  # by seed
    iqm: float
    iqm_interval: Interval | None  # None: one run has no spread
    mean: float
    median: float
    strata: Mapping[str, float]  # means over the seeds


@dataclass(frozen=True)
class Pair:
    """A setting against another, over the seeds that both have."""

    setting: str
    baseline: str
    seeds: Sequence[int]
    differences: Sequence[float]  # by seed: setting minus baseline
    mean: float | None  # None: no seed in common
    t_interval: Interval | None
    bootstrap: Interval | None
    t: float | None
    p_t: float | None
    p: float | None  # sign-flip test
    p_corrected: float | None  # by Holm, over all pairs shown
    is_exact: bool  # all sign patterns were looked at
    effect_size: float | None  # d_z
    improvement: float | None
    num_comparisons: int
    seeds_needed: int
    seeds_recommended: int
    seeds_for_power: int | None
    verdict: Verdict

    @property
    def is_claim(self) -> bool:
        """Whether a difference was seen."""
        return self.verdict not in ("not enough", "no difference")


@dataclass(frozen=True)
class Comparison:
    """Everything there is to say."""

    name: str
    study: str | None
    metric: str
    title: str
    last: int | None
    direction: int
    stratum: str
    strata: Sequence[str]
    by: Sequence[str]  # fields that tell the settings apart
    baseline: str | None  # None: all pairs are compared
    is_primary: bool  # what the study registered
    registered: Mapping[str, Any] | None
    settings: Sequence[Setting]
    pairs: Sequence[Pair]
    left_out: Sequence[LeftOut]
    warnings: Sequence[str]


def compare(reading: Reading, home: Home, request: Request) -> Comparison:
    """Compare runs, or the settings of a study. Raises `ComparisonError` for what cannot be compared."""
    gathered = gather(reading, home, request.names, _by(reading, request))
    plan = (gathered.study.plan.get("compare") or {}) if gathered.study else {}
    of = measure(
        request.metric or plan.get("metric") or DEFAULT_METRIC, request.last or plan.get("last") or LAST
    )
    refuse_what_is_measured_otherwise(reading, gathered.entries, of)
    found = {entry.run.name: scores(reading, entry.run.name, of) for entry in gathered.entries}
    strata, warned = _strata(found, of)
    settings = [_setting(label, own, found, strata) for label, own in gathered.settings.items()]
    baseline = None if request.pairs == "all" else _baseline(request.baseline, plan, gathered)
    if plan.get("baseline") and plan["baseline"] not in gathered.settings:
        warned = [*warned, f"The registered baseline {plan['baseline']} has no finished run yet."]
    return Comparison(
        name=gathered.study.name if gathered.study else listed(list(gathered.settings), 3),
        study=gathered.study.name if gathered.study else None,
        metric=of.name,
        title=of.title,
        last=of.last,
        direction=of.direction,
        stratum=of.stratum,
        strata=strata,
        by=gathered.fields,
        baseline=baseline,
        is_primary=bool(plan) and _is_registered(plan, of, request, gathered, baseline),
        registered=dict(plan) or None,
        settings=settings,
        pairs=_pairs(settings, baseline, of),
        left_out=gathered.left_out,
        warnings=[*gathered.warnings, *warned, *_budgets(gathered)],
    )


def _by(reading: Reading, request: Request) -> Sequence[str]:
    """The fields asked for, else those that the study registered."""
    studies = {study.name: study for study in reading.studies()}
    study = studies.get(request.names[0]) if len(request.names) == 1 else None
    registered = ((study.plan.get("compare") or {}).get("by") if study else None) or []
    return request.by or ([registered] if isinstance(registered, str) else registered)


def _strata(found: Mapping[str, Scores], of: Measure) -> tuple[list[str], list[str]]:
    """The strata that every run has a score in; what only some have is left out and said."""
    every = list(dict.fromkeys(stratum for own in found.values() for stratum in own))
    common = [stratum for stratum in every if all(stratum in own for own in found.values())]
    if not common:
        without = [run for run, own in found.items() if not own]
        why = (
            f"{listed(without)} has none"
            if len(without) == 1
            else f"{listed(without or list(found))} share none"
        )
        raise ComparisonError(f"There is no {of.name} to compare: {why}.")
    missing = [stratum for stratum in every if stratum not in common]
    runs = [run for run, own in found.items() if any(stratum not in own for stratum in missing)]
    warning = f"{listed(missing)} left out: not measured in {listed(runs)}."
    return common, [warning] if missing else []


def _setting(
    label: str, entries: Sequence[Entry], found: Mapping[str, Scores], strata: Sequence[str]
) -> Setting:
    runs = []
    for entry in entries:
        own = {stratum: found[entry.run.name][stratum] for stratum in strata}
        mean = float(np.mean(list(own.values())))
        runs.append(RunScore(entry.run.name, entry.run.seed, mean, own, entry.num_samples))
    table = _table(runs)
    rng = np.random.default_rng(SEED)
    return Setting(
        label,
        runs,
        iqm=statistics.interquartile_mean(table.ravel()),
        iqm_interval=statistics.bootstrap(table, rng, statistics.interquartile_means)
        if len(runs) > 1
        else None,
        mean=float(table.mean()),
        median=float(np.median(table)),
        strata=dict(zip(strata, table.mean(axis=0).tolist(), strict=True)),
    )


def _table(runs: Sequence[RunScore]) -> Floats:
    """A row a run, a column a stratum."""
    return np.array([list(run.strata.values()) for run in runs])


def _baseline(asked: str | None, plan: Mapping[str, Any], gathered: Gathered) -> str:
    labels = list(gathered.settings)
    if asked is not None and asked not in labels:
        near = get_close_matches(asked, labels, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ComparisonError(
            f"No setting with finished runs is called {asked!r}.{hint} There are: {listed(labels, 12)}."
        )
    wanted = asked or plan.get("baseline") or gathered.twin
    return str(wanted) if wanted in labels else labels[0]


def _pairs(settings: Sequence[Setting], baseline: str | None, of: Measure) -> list[Pair]:
    """Every setting against the baseline, or against every earlier one; p corrected over all of them."""
    by_label = {setting.label: setting for setting in settings}
    if baseline is None:
        chosen = [(ours, theirs) for theirs, ours in combinations(settings, 2)]
    else:
        chosen = [(ours, by_label[baseline]) for ours in settings if ours.label != baseline]
    shared = [_shared(ours, theirs) for ours, theirs in chosen]
    rng = np.random.default_rng(SEED)
    ps = [_test(x, y, rng) for x, y in shared]
    corrected = statistics.holm([test.p for test in ps])
    return [
        _pair(labels[0].label, labels[1].label, runs, test, p, of, len(chosen))
        for labels, runs, test, p in zip(chosen, shared, ps, corrected, strict=True)
    ]


def _shared(ours: Setting, theirs: Setting) -> tuple[list[RunScore], list[RunScore]]:
    """The runs of the seeds that both have, in the same order."""
    seeds = {run.seed for run in ours.runs} & {run.seed for run in theirs.runs}
    x, y = ([run for run in setting.runs if run.seed in seeds] for setting in (ours, theirs))
    return x, y


def _differences(ours: Sequence[RunScore], theirs: Sequence[RunScore]) -> Floats:
    return np.array([x.score - y.score for x, y in zip(ours, theirs, strict=True)])


def _test(
    ours: Sequence[RunScore], theirs: Sequence[RunScore], rng: np.random.Generator
) -> statistics.SignFlip:
    return statistics.sign_flip(_differences(ours, theirs), rng)


def _pair(
    ours: str,
    theirs: str,
    runs: tuple[Sequence[RunScore], Sequence[RunScore]],
    test: statistics.SignFlip,
    corrected: float,
    of: Measure,
    num_comparisons: int,
) -> Pair:
    d = _differences(*runs)
    some, several = d.size > 0, d.size > 1
    effect = statistics.effect_size(d)
    t, p_t = statistics.t_test(d) if effect is not None else (None, None)
    needed = statistics.pairs_needed(num_comparisons)
    planned = statistics.seeds_for_power(effect) if effect is not None else None
    return Pair(
        ours,
        theirs,
        seeds=[run.seed for run in runs[0]],
        differences=d.tolist(),
        mean=float(d.mean()) if some else None,
        t_interval=statistics.t_interval(d) if several else None,
        bootstrap=statistics.bootstrap(d, np.random.default_rng(SEED)) if several else None,
        t=t,
        p_t=p_t,
        p=test.p if some else None,
        p_corrected=corrected if some else None,
        is_exact=test.is_exact,
        effect_size=effect,
        improvement=statistics.probability_of_improvement(*map(_table, runs)) if some else None,
        num_comparisons=num_comparisons,
        seeds_needed=needed,
        seeds_recommended=needed + RECOMMENDED,
        seeds_for_power=None if planned is None else max(planned, needed),
        verdict=_verdict(d, needed, corrected, of.direction),
    )


def _verdict(differences: Floats, needed: int, corrected: float, direction: int) -> Verdict:
    """Claim only what the seeds can carry; a number without a good direction is higher or lower."""
    if differences.size < needed:
        return "not enough"
    if corrected >= statistics.ALPHA:
        return "no difference"
    is_up = bool(differences.mean() > 0)
    if direction == 0:
        return "higher" if is_up else "lower"
    return "better" if is_up == (direction > 0) else "worse"


def _budgets(gathered: Gathered) -> list[str]:
    """Say it when runs were trained on different amounts: what is compared is then not the setting alone."""
    spans = {
        label: (min(e.num_samples for e in own), max(e.num_samples for e in own))
        for label, own in gathered.settings.items()
    }
    if len({end for span in spans.values() for end in span}) == 1:
        return []
    told = [
        f"{label} {low:,}" + (f" to {high:,}" if high > low else "") for label, (low, high) in spans.items()
    ]
    return [f"The budgets differ (steps x groups x group size, in samples): {listed(told, 8)}."]


def _is_registered(
    plan: Mapping[str, Any], of: Measure, request: Request, gathered: Gathered, baseline: str | None
) -> bool:
    """Whether this is what the study set out to compare: metric, steps, settings and baseline."""
    same_number = of == measure(plan.get("metric") or DEFAULT_METRIC, plan.get("last") or LAST)
    same_settings = not request.by or list(request.by) == list(_listed(plan.get("by")))
    registered_baseline = plan.get("baseline") or next(iter(gathered.settings))
    return same_number and same_settings and baseline == registered_baseline


def _listed(by: str | Sequence[str] | None) -> Sequence[str]:
    return [by] if isinstance(by, str) else by or []
