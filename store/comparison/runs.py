"""Which runs a comparison is made of: finished, of one setting each, one a seed, and measured alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from store.comparison.measures import Measure
from store.comparison.settings import Flat, asked_for, differing, flat, grouped, telling
from store.errors import ComparisonError
from store.home import Home
from store.ledger.queries import Reading
from store.ledger.query_rows import RunRow, StudyRow
from store.run_story import status
from store.sentences import listed, num, what_is_missing


@dataclass(frozen=True)
class LeftOutRun:
    """A run that has no part in the comparison, and why."""

    run: str
    why: str


@dataclass(frozen=True)
class ComparedRun:
    """A finished run."""

    run: RunRow
    spec: Flat
    num_samples: int  # trained on: steps x groups x group size


@dataclass(frozen=True)
class Gathered:
    """Runs by setting."""

    study: StudyRow | None  # set when the runs are those of one study
    fields: Sequence[str]  # of the specs, that tell the settings apart; none: the study's own labels do
    settings: Mapping[str, Sequence[ComparedRun]]  # by label, each by seed
    left_out: Sequence[LeftOutRun]
    warnings: Sequence[str] = field(default_factory=list)

    @property
    def entries(self) -> list[ComparedRun]:
        """All runs."""
        return [entry for entries in self.settings.values() for entry in entries]

    @property
    def twin(self) -> str | None:
        """The setting that the other runs' twins have, if it has one of its own."""
        labels = {label for label, own in self.settings.items() if all(e.run.baseline_of for e in own)}
        return next(iter(labels)) if len(labels) == 1 else None


def gather(reading: Reading, home: Home, names: Sequence[str], by: Sequence[str]) -> Gathered:
    """Find the runs, leave out those that are not finished, and put the others into settings."""
    known = {run.name: run for run in reading.runs()}
    study, runs = _named(reading, names, known)
    entries, left_out = _finished(reading, home, runs)
    fields, settings = _settings(entries, study, by)
    if len(settings) == 1 and not by:
        twins = [known[name] for name in _twins(reading, settings, known)]
        more, more_left_out = _finished(reading, home, [run for run in twins if run not in runs])
        entries, left_out = [*entries, *more], [*left_out, *more_left_out]
        fields, settings = _settings(entries, None if more else study, by)
    _refuse_too_little(settings, left_out, study)
    for label, own in settings.items():
        _refuse_doubles(label, own)
    ordered = {label: sorted(own, key=lambda e: e.run.seed) for label, own in settings.items()}
    warnings = [*_not_started(reading, study), *_mixed(ordered), *_with_gaps(reading, ordered)]
    return Gathered(study, fields, ordered, left_out, warnings)


def refuse_what_is_measured_otherwise(reading: Reading, entries: Sequence[ComparedRun], of: Measure) -> None:
    """Values under other generation settings, or on other held-out tasks, are other values (plasticity.md 0)."""
    first, *others = [entry.run.name for entry in entries]
    evaluated = _last_settings(reading, first)
    tasks = _tasks(reading, first) if of.is_held_out else {}
    for name in others:
        differences = _differences(evaluated, _last_settings(reading, name))
        if differences:
            raise ComparisonError(
                f"{first} and {name} were evaluated in different ways, so they cannot be compared: "
                f"{listed(differences)}. Run one of them again with the same `evaluate` and `sampler.max_tokens`."
            )
        changed = _changed(tasks, _tasks(reading, name) if of.is_held_out else {})
        if changed:
            raise ComparisonError(
                f"{first} and {name} were evaluated on different tasks of {listed(changed)}, so {of.name} cannot be "
                "compared: their options, versions or data differ. `train_accuracy` needs no held-out tasks."
            )


def evaluated_on_other_tasks(reading: Reading, entries: Sequence[ComparedRun]) -> list[str]:
    """Name the environments whose held-out tasks are not the same in all runs that have them."""
    tasks = [_tasks(reading, entry.run.name) for entry in entries]
    first: dict[str, object] = {}
    for own in tasks:
        first = {**own, **first}
    return list(dict.fromkeys(name for own in tasks for name in _changed(first, own)))


def _named(
    reading: Reading, names: Sequence[str], known: Mapping[str, RunRow]
) -> tuple[StudyRow | None, list[RunRow]]:
    """Read every name as a study's or a run's."""
    studies = {study.name: study for study in reading.studies()}
    found: dict[str, RunRow] = {}
    for name in names:
        if name in studies:
            found |= {member.run: known[member.run] for member in reading.members(name)}
        elif name in known:
            found[name] = known[name]
        else:
            near = get_close_matches(name, [*studies, *known], 3)
            hint = (
                f"Did you mean {' or '.join(map(repr, near))}?" if near else "`evergreen ls` lists the runs."
            )
            raise ComparisonError(f"There is no run and no study {name!r}. {hint}")
    study = studies.get(names[0]) if len(names) == 1 else None
    return study, list(found.values())


def _finished(
    reading: Reading, home: Home, runs: Iterable[RunRow]
) -> tuple[list[ComparedRun], list[LeftOutRun]]:
    entries, left_out = [], []
    for run in runs:
        if run.status == "finished":
            spec = reading.spec(run.name)
            batch = spec["step"]["groups"] * spec["step"]["group_size"]
            entries.append(ComparedRun(run, flat(spec), run.num_steps * batch))
        else:
            stands = status(run.status, home.run_folder(run.name))
            left_out.append(LeftOutRun(run.name, f"{stands} at step {run.num_steps:,}"))
    return entries, left_out


def _settings(
    entries: Sequence[ComparedRun], study: StudyRow | None, by: Sequence[str]
) -> tuple[list[str], dict[str, list[ComparedRun]]]:
    """A study's own settings, unless fields are asked for; else by the fields in which specs differ."""
    if study is not None and not by:
        labels = [str(setting["label"]) for setting in study.plan.get("settings", [])]
        labels += [entry.run.setting or "" for entry in entries]  # of an older plan
        made = {label: [e for e in entries if e.run.setting == label] for label in dict.fromkeys(labels)}
        return [], {label: own for label, own in made.items() if own}
    by_name = {entry.run.name: entry for entry in entries}
    specs = {name: entry.spec for name, entry in by_name.items()}
    fields = asked_for(by, specs) if by else telling(specs)
    groups = grouped(specs, fields)
    return fields, {label or "all runs": [by_name[name] for name in own] for label, own in groups.items()}


def _twins(
    reading: Reading, settings: Mapping[str, Sequence[ComparedRun]], known: Mapping[str, RunRow]
) -> list[str]:
    """The runs that were made beside these with another bandit, or the ones beside which these were made."""
    (entries,) = settings.values()
    found = [entry.run.baseline_of or reading.baseline(entry.run.name) for entry in entries]
    return [name for name in found if name is not None and name in known]


def _refuse_too_little(
    settings: Mapping[str, Sequence[ComparedRun]], left_out: Sequence[LeftOutRun], study: StudyRow | None
) -> None:
    if len(settings) > 1:
        return
    unfinished = (
        f" {num(len(left_out), 'run')} not finished: {listed([o.run for o in left_out])}." if left_out else ""
    )
    if not settings:
        raise ComparisonError(
            f"None of these runs is finished, so there is nothing to compare yet.{unfinished}"
        )
    ((label, own),) = settings.items()
    which = f"All finished runs are of one setting ({label}: {num(len(own), 'run')})"
    remedy = "" if unfinished else " Name runs of another one, or fields to tell them apart with --by."
    raise ComparisonError(
        f"{which}, so there is nothing to compare{' yet' if unfinished else ''}.{unfinished}{remedy}"
    )


def _refuse_doubles(label: str, entries: Sequence[ComparedRun]) -> None:
    by_seed: dict[int, str] = {}
    for entry in entries:
        name, seed = entry.run.name, entry.run.seed
        if seed in by_seed:
            raise ComparisonError(
                f"{by_seed[seed]} and {name} have the same setting ({label}) and the same seed ({seed}): they would "
                "count as two. Name one of them, or tell them apart with --by."
            )
        by_seed[seed] = name


def _not_started(reading: Reading, study: StudyRow | None) -> list[str]:
    if study is None:
        return []
    planned = len(study.plan.get("settings", [])) * len(study.plan.get("seeds", []))
    missing = planned - len(reading.members(study.name))
    return [f"{num(missing, 'run')} of the study's {planned} not started yet."] if missing > 0 else []


def _with_gaps(reading: Reading, settings: Mapping[str, Sequence[ComparedRun]]) -> list[str]:
    """Say which runs' records are not whole: means over steps and boundaries are over those that are left."""
    found = {
        entry.run.name: what_is_missing(reading.gaps(entry.run.name))
        for entries in settings.values()
        for entry in entries
    }
    return [f"{name}: {lost}." for name, lost in found.items() if lost is not None]


def _mixed(settings: Mapping[str, Sequence[ComparedRun]]) -> list[str]:
    """Say it when runs of one setting differ in more than their seed: a difference could come from there."""
    found: dict[str, list[str]] = {}
    for label, own in settings.items():
        fields = differing(entry.spec for entry in own)
        if fields:
            found.setdefault(listed(fields), []).append(label)
    return [
        f"The runs of {listed(own)} differ in more than their seed: {fields}."
        for fields, own in found.items()
    ]


def _last_settings(reading: Reading, run: str) -> Mapping[str, Any]:
    boundaries = reading.boundaries(run)
    return boundaries[-1].settings if boundaries else {}


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    keys = dict.fromkeys([*ours, *theirs])
    return [
        f"{key} {ours.get(key)} and {theirs.get(key)}" for key in keys if ours.get(key) != theirs.get(key)
    ]


def _tasks(reading: Reading, run: str) -> dict[str, list[tuple[str, str, str]]]:
    """What every environment was evaluated on, without what only a scheduler looks at."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for row in reading.holdouts(run):
        if row.purpose != "select":
            found.setdefault(row.environment, []).append((row.category, row.purpose, row.sha256))
    return {name: sorted(rows) for name, rows in found.items()}


def _changed(ours: Mapping[str, object], theirs: Mapping[str, object]) -> list[str]:
    return [name for name in ours if name in theirs and ours[name] != theirs[name]]
