"""A comparison as plain facts: settings with their aggregates, pairs with their tests, and what was left out.

`store.comparison.sentences` says them in sentences; the terminal, `--json` and the page show the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Any, Literal

from store.carryover import OUTCOMES
from store.comparison import runs, scores
from store.comparison.matrices import CarryOver, carry_over
from store.comparison.runs import ComparedRuns, LeftOutRun, Pool
from store.comparison.scores import LAST, Measure, Pair, ScoredSetting, Scores
from store.errors import ComparisonError, did_you_mean
from store.home import Home
from store.labels import told_apart
from store.ledger.queries import Reading
from store.records import REGISTERED_FIRST
from store.sampling import sampling_of
from store.sentences import listed, num, number

DEFAULT_METRIC = "accuracy"

Pairs = Literal["baseline", "all"]


@dataclass(frozen=True)
class ComparisonRequest:
    """What a person asks for; None: what the study registered, else the default."""

    names: Sequence[str]  # runs, or a study
    by: Sequence[str] = ()
    metric: str | None = None
    last: int | None = None
    baseline: str | None = None
    pairs: Pairs = "baseline"
    pool: Pool = "anchor"
    environments: Sequence[str] = ()


@dataclass(frozen=True)
class Beside:
    """The same pairs on the other half of a question, at what accuracy entropy was kept: by one rule, exploratory."""

    metric: str
    title: str
    pairs: Sequence[Pair]  # corrected for as many as the comparison itself


@dataclass(frozen=True)
class Comparison:
    """Everything there is to say."""

    name: str
    study: str | None
    metric: str
    title: str
    pool: Pool
    last: int | None
    direction: int
    is_ratio: bool  # shown as quotients, with geometric means
    stratum: str
    strata: Sequence[str]
    by: Sequence[str]  # fields that distinguish the settings
    baseline: str | None  # None: all pairs are compared
    is_primary: bool  # what the study registered
    registered: Mapping[str, Any] | None  # with the baseline that follows from it
    settings: Sequence[ScoredSetting]
    pairs: Sequence[Pair]
    beside: Beside | None  # accuracy beside entropy, and the other way round
    carry_over: CarryOver  # in every setting, whatever is compared
    left_out: Sequence[LeftOutRun]
    warnings: Sequence[str]

    @cached_property
    def names(self) -> dict[str, str]:
        """What settings are called on the page, in sentences and tables, by label: short, and told apart."""
        return told_apart(one.label for one in self.settings)

    @property
    def num_comparisons(self) -> int:
        """For how many comparisons all of these are corrected."""
        return self.pairs[0].num_comparisons


def compare(reading: Reading, home: Home, request: ComparisonRequest) -> Comparison:
    """Compare runs, or the settings of a study. Raises `ComparisonError` for what cannot be compared."""
    gathered = runs.gather(reading, home, request.names, request.by)
    plan = (gathered.study.plan.get("compare") or {}) if gathered.study else {}
    name, last = request.metric or plan.get("metric"), request.last or plan.get("last")
    of = scores.measure(name or DEFAULT_METRIC, last or LAST)
    _refuse_idle_options(request, of)
    runs.refuse_what_is_measured_otherwise(
        reading, gathered.entries, of.name, of.is_held_out, of.stratum == "environment", request.pool
    )
    if of.stratum == "probe":
        runs.refuse_other_protocols(reading, gathered.entries)
    if request.pool == "final":
        of = _on_the_final_pool(reading, gathered, of)
    gathered, found = _scored(reading, gathered, of, request.pool)
    planned = list(plan.get("environments") or ()) if of.stratum == "environment" else []
    chosen = list(request.environments) or planned
    strata, warned = _strata(_among(chosen, found, gathered, of), of)
    if of.stratum == "environment" and not chosen:
        warned += _never_scored(found, gathered, of)
    settings = _settings(gathered, found, strata, of)
    planned_baseline = plan.get("baseline") or _first_planned(gathered)
    baseline = None if request.pairs == "all" else _baseline(request.baseline, plan, gathered)
    if plan.get("baseline") and plan["baseline"] not in gathered.settings:
        warned.append(f"The registered baseline {plan['baseline']} has no finished run yet.")
    elif baseline is not None and request.baseline is None and planned_baseline not in (None, *gathered.settings):
        warned.append(
            f"{planned_baseline}, the study's first setting and so its baseline, has no finished run to compare yet: "
            f"the others are compared with {baseline}."
        )
    is_primary = (
        bool(plan)
        # what the study set out to compare: metric, steps, settings and baseline
        and request.pool == "anchor"
        and of == scores.measure(plan.get("metric") or DEFAULT_METRIC, plan.get("last") or LAST)
        and chosen == planned
        and (not request.by or list(request.by) == runs.fields_of(plan.get("by")))
        and baseline is not None
        and baseline == planned_baseline
    )
    num_planned = runs.num_planned(reading, gathered) - 1 if is_primary else 0
    compared = scores.pairs(settings, baseline, of, num_planned)
    carried = carry_over(reading, gathered.entries, settings, compared)
    return Comparison(
        name=gathered.study.name if gathered.study else listed(list(gathered.settings), 3),
        study=gathered.study.name if gathered.study else None,
        metric=of.name,
        title=_title(of, gathered, chosen),
        pool=request.pool,
        last=of.last,
        direction=of.direction,
        is_ratio=of.is_ratio,
        stratum=of.stratum,
        strata=strata,
        by=gathered.fields,
        baseline=baseline,
        is_primary=is_primary,
        registered={**plan, "baseline": planned_baseline} if plan else None,
        settings=settings,
        pairs=compared,
        beside=_beside(reading, gathered, of, baseline, num_planned, chosen) if request.pool == "anchor" else None,
        carry_over=carried,
        left_out=gathered.left_out,
        warnings=[
            *gathered.warnings,
            *warned,
            *_budgets(reading, gathered),
            *_other_sampling(reading, gathered, of),
            *_other_stages(reading, gathered, of, strata),
            *_unequal_environments(gathered, of, carried),
            *_parts(carried),
            *_starts(reading, gathered, of),
        ],
    )


def _refuse_idle_options(request: ComparisonRequest, of: Measure) -> None:
    """Refuse options that have no meaning beside others, or for what is compared."""
    if request.baseline is not None and request.pairs == "all":
        raise ComparisonError(
            f"`--baseline {request.baseline}` has no meaning with `--pairs all`, which compares every setting with "
            "every other: leave one of them out."
        )
    if request.last is None:
        return
    if request.last < 1:
        raise ComparisonError(f"`--last {request.last}`: give the number of steps at each stage's end, 1 or more.")
    if of.last is None:
        trained = ", ".join(one.name for one in scores.MEASURES.values() if one.last is not None)
        raise ComparisonError(
            f"`--last {request.last}` is of metrics of training ({trained}), and {of.name} is measured at boundaries: "
            "leave it out, or say one of them with `--metric`."
        )


def _title(of: Measure, gathered: ComparedRuns, chosen: Sequence[str]) -> str:
    """Say what is compared, on which environments or steps; all steps, where no stage has more than are asked for."""
    if of.last is None:
        return f"{of.title} on {listed(chosen)}" if chosen else of.title
    longest = max(entry.spec["curriculum.stage.steps"] for entry in gathered.entries)
    which = "all steps" if longest <= of.last else f"the last {num(of.last, 'step')}"
    return f"{of.title} over {which} of each stage"


def _settings(
    gathered: ComparedRuns, found: Mapping[str, Scores], strata: Sequence[str], of: Measure
) -> list[ScoredSetting]:
    """Sum the settings up. Refused where a run has a ratio of 0."""
    zeros = [run for run, own in found.items() if of.is_ratio and min(own.values()) <= 0]
    if zeros:  # leaving their runs out would flatter a setting
        raise ComparisonError(
            f"{of.name} is 0 in {listed(zeros)}: nothing was left there, and ratios are compared as logarithms, "
            "which 0 does not have. `--metric entropy` compares the same runs in nats."
        )
    kept = {run: {stratum: own[stratum] for stratum in strata} for run, own in found.items()}
    return [scores.setting(label, own, kept, of) for label, own in gathered.settings.items()]


def _beside(
    reading: Reading,
    gathered: ComparedRuns,
    of: Measure,
    baseline: str | None,
    num_planned: int,
    chosen: Sequence[str],
) -> Beside | None:
    """Compare the same runs on what is asked in one breath; None: nothing is, or they cannot be compared on it."""
    name = scores.beside(of, bool(chosen or _not_in_all(gathered)[0]))
    if name is None:
        return None
    other = scores.measure(name)
    try:
        runs.refuse_what_is_measured_otherwise(
            reading, gathered.entries, name, other.is_held_out, other.stratum == "environment"
        )
        with_scores, found = _scored(reading, gathered, other, "anchor")
        settings = _settings(with_scores, found, _strata(_among(chosen, found, with_scores, other), other)[0], other)
    except ComparisonError:
        return None
    if [one.label for one in settings] != list(gathered.settings):
        return None
    return Beside(name, other.title, scores.pairs(settings, baseline, other, num_planned))


def _on_the_final_pool(reading: Reading, gathered: ComparedRuns, of: Measure) -> Measure:
    """The same measure on the tasks that are set aside for a study's end. Refused where they were not evaluated."""
    if of.stratum != "environment":
        raise ComparisonError(
            f"{of.name} is not measured on held-out tasks by environment, so no pool is chosen for it."
        )
    without = [one.run.name for one in gathered.entries if not reading.final_cells(one.run.name, of.metric)]
    closed = [run for run in without if not reading.has_final_pool(run)]
    if closed:
        raise ComparisonError(
            f"No final pool in {listed(closed)}: closed environments alone, which are evaluated on their own tasks. "
            "Name the other runs, or compare without `--pool final`."
        )
    if without:
        where = gathered.study.name if gathered.study else "STUDY"
        raise ComparisonError(
            f"The final pool was not evaluated for {listed(without)}: `evergreen final {where}` does it, once, when "
            "nothing is decided any more."
        )
    return replace(of, title=f"{of.title}, on the tasks set aside for the end")


def _scored(
    reading: Reading, gathered: ComparedRuns, of: Measure, pool: Pool
) -> tuple[ComparedRuns, dict[str, Scores]]:
    """Every run's scores. A run for which what sums it up is not defined has no part in the comparison."""
    found = {entry.run.name: scores.scores(reading, entry.run.name, of, pool) for entry in gathered.entries}
    settings = {label: [e for e in own if found[e.run.name]] for label, own in gathered.settings.items()}
    settings = {label: own for label, own in settings.items() if own}
    without = [run for run, own in found.items() if not own]
    if of.stratum not in ("run", "probe") or not without:
        return gathered, found
    why = [LeftOutRun(run, scores.why_undefined(reading, run, of)) for run in without]
    if len(settings) < 2:
        reasons = "; ".join(dict.fromkeys(one.why.removeprefix(f"no {of.name}: ") for one in why))
        raise ComparisonError(
            f"There is no {of.name} to compare: {listed(without)} {'has' if len(without) == 1 else 'have'} none "
            f"({reasons})."
        )
    kept = replace(gathered, settings=settings, left_out=[*gathered.left_out, *why])
    return kept, {run: own for run, own in found.items() if own}


def _among(
    chosen: Sequence[str], found: Mapping[str, Scores], gathered: ComparedRuns, of: Measure
) -> Mapping[str, Scores]:
    """The scores on the environments that are to count; none chosen: on all."""
    if not chosen:
        return found
    if of.stratum != "environment":
        raise ComparisonError(f"{of.name} is not measured by environment, so none can be chosen for it.")
    there, scored = _environments(gathered), {name for own in found.values() for name in own}
    for name in chosen:
        if name in there and name not in scored:
            raise ComparisonError(f"No run has a score of {of.name} on {name}.")
        if name not in there:
            raise ComparisonError(
                f"No run has an environment {name!r}.{did_you_mean(name, there)} There are: {listed(there, 12)}."
            )
    return {run: {name: own[name] for name in chosen if name in own} for run, own in found.items()}


def _environments(gathered: ComparedRuns) -> list[str]:
    """The environments of all the specs, in their order."""
    return list(dict.fromkeys(name for entry in gathered.entries for name in runs.environments_of(entry.spec)))


def _never_scored(found: Mapping[str, Scores], gathered: ComparedRuns, of: Measure) -> list[str]:
    """Warn of environments that no mean has a part of, since no run has a score there."""
    scored = {name for own in found.values() for name in own}
    without = [name for name in _environments(gathered) if name not in scored]
    return [f"{listed(without)} left out: no run has a score of {of.name} there."] if without else []


def _strata(found: Mapping[str, Scores], of: Measure) -> tuple[list[str], list[str]]:
    """The strata that every run has a score in; what only some have is left out, with a warning."""
    every = list(dict.fromkeys(stratum for own in found.values() for stratum in own))
    common = [stratum for stratum in every if all(stratum in own for own in found.values())]
    if not common:
        without = [run for run, own in found.items() if not own]
        none = f"{listed(without)} {'has' if len(without) == 1 else 'have'} none"
        why = none if without else f"{listed(list(found))} share none"
        raise ComparisonError(f"There is no {of.name} to compare: {why}.")
    missing = [stratum for stratum in every if stratum not in common]
    lacking = [run for run, own in found.items() if any(stratum not in own for stratum in missing)]
    warning = f"{listed(missing)} left out: not measured in {listed(lacking)}."
    return common, [warning] if missing else []


def _first_planned(gathered: ComparedRuns) -> str | None:
    """Name what the first setting of a study's plan is compared as, or what it would be; None: it has no other."""
    plan = gathered.study.plan if gathered.study else {}
    planned = plan.get("settings", [])
    if len(planned) < 2:
        return None
    first = str(plan.get(REGISTERED_FIRST, planned[0]["label"]))  # the file may have another order since
    found = (label for label, own in gathered.settings.items() if any(entry.run.setting == first for entry in own))
    return next(found, first)


def _baseline(asked: str | None, plan: Mapping[str, Any], gathered: ComparedRuns) -> str:
    labels = list(gathered.settings)
    if asked is not None and asked not in labels:
        hint = did_you_mean(asked, labels)
        there = listed(labels, 12)
        raise ComparisonError(f"No setting with finished runs is called {asked!r}.{hint} There are: {there}.")
    wanted = asked or plan.get("baseline") or gathered.twin or _first_planned(gathered)
    return str(wanted) if wanted in labels else labels[0]


def _parts(carried: CarryOver) -> list[str]:
    """Say it when a number of carry-over is of other terms in some runs than it would be: it may not compare."""
    by_runs: dict[tuple[str, ...], list[str]] = {}
    for name, where in carried.partly.items():
        title = next(one.title for one in OUTCOMES if one.name == name)
        by_runs.setdefault(tuple(where), []).append(title)
    return [
        f"{listed(titles, 9)}: of a part of the environments or stages in {listed(list(where))}, as a boundary left "
        "some out or they had no entropy left to lose."
        for where, titles in by_runs.items()
    ]


def _starts(reading: Reading, gathered: ComparedRuns, of: Measure) -> list[str]:
    """Say beside a gain where the copies started: in a score, who starts lower has more to gain."""
    if not of.name.startswith(scores.TRAINABLE):
        return []
    kind, texts = of.name.removeprefix(scores.TRAINABLE), []
    for label, own in gathered.settings.items():
        found = [one for entry in own for one in scores.last_probes(reading, entry.run.name, kind)]
        levels = [one.level for one in found if one.level is not None]
        bases = [one.base_level for one in found if one.base_level is not None]
        if levels and bases:
            texts.append(f"{label} at {number(fmean(levels))} (base {number(fmean(bases))})")
    what = (
        "A lower start leaves more to gain; the copies start so" if kind == "rl" else "The copies start at these losses"
    )
    return [f"{what}: {listed(texts, 8)}."] if texts else []


def _not_in_all(gathered: ComparedRuns) -> tuple[list[str], list[str]]:
    """The environments that not all runs have, and the runs that lack one of them."""
    of_runs = {entry.run.name: runs.environments_of(entry.spec) for entry in gathered.entries}
    some = [name for name in _environments(gathered) if not all(name in own for own in of_runs.values())]
    return some, [run for run, own in of_runs.items() if not set(some) <= set(own)]


def _other_stages(reading: Reading, gathered: ComparedRuns, of: Measure, strata: Sequence[str]) -> list[str]:
    """Say it when stages are of other environments in some runs: one may have been given what is easy."""
    if of.stratum != "stage":
        return []
    runs_of = [{f"stage {one.stage}": one.environment for one in reading.stages(e.run.name)} for e in gathered.entries]
    unequal = [stage for stage in strata if len({own.get(stage) for own in runs_of}) > 1]
    if not unequal:
        return []
    return [
        f"The runs did not train the same environment in {listed(unequal)}: `--metric "
        f"{of.name.removeprefix('train_')}` compares on those that all runs have."
    ]


def _unequal_environments(gathered: ComparedRuns, of: Measure, carried: CarryOver) -> list[str]:
    """Say it when what sums runs up is of other environments in some than in others: what is compared, or the table."""
    some, lacking = _not_in_all(gathered)
    trained = [name for name in carried.trained_in_some if name not in some]
    why = [f"{listed(some)} {'is' if len(some) == 1 else 'are'} not in {listed(lacking)}"] if some else []
    why += [f"{listed(trained)} had a stage in some runs only"] if trained else []
    if of.stratum == "run" and (some or of.name not in scores.OF_ALL):
        other = "accuracy" if of.direction else "entropy"
        what, instead = of.title, f"`--metric {other}` compares on those that all runs have"
    else:
        what, instead = "what carried over", "the matrices of `--output` tell it by environment"
    if not why or not (carried.outcomes or what == of.title):
        return []
    return [f"{' and '.join(why)}, so {what} is not of the same environments in all runs: {instead}."]


def _other_sampling(reading: Reading, gathered: ComparedRuns, of: Measure) -> list[str]:
    """Say it when entropy in training is of other distributions in some runs: it differs without any training."""
    if of.name != "train_entropy":
        return []
    ways = [sampling_of(reading.spec(entry.run.name)) for entry in gathered.entries]
    options = [option for option in ways[0] if len({way[option] for way in ways}) > 1]
    if not options:
        return []
    return [
        f"The runs differ in {listed(options)}, and entropy in training is that of what tokens were drawn from: "
        "`--metric entropy` compares the policies themselves."
    ]


def _budgets(reading: Reading, gathered: ComparedRuns) -> list[str]:
    """Say it when runs were trained on different amounts: what is compared is then not the setting alone.

    What was trained in steps that a lost ledger took along is not known, and nothing is said of it.
    """
    if any(reading.gaps(entry.run.name).steps for entry in gathered.entries):
        return []
    spent = {label: [e.num_samples for e in own] for label, own in gathered.settings.items()}
    spans = {label: (min(own), max(own)) for label, own in spent.items()}
    if len({end for span in spans.values() for end in span}) == 1:
        return []
    texts = [f"{name} {low:,}{f' to {high:,}' if high > low else ''}" for name, (low, high) in spans.items()]
    return [f"The budgets differ (samples trained on): {listed(texts, 8)}."]
