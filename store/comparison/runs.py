"""Which runs a comparison is made of: finished, one a seed, measured alike, and sorted into settings.

Runs are of one setting when their specs agree but for the seed, or in the fields that are asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from store.errors import ComparisonError, did_you_mean
from store.home import Home
from store.ledger.queries import Reading
from store.ledger.query_rows import RunRow, StudyRow, by_key
from store.records import REGISTERED_SEEDS
from store.run_status import status
from store.run_summary import NAMING, changed_tasks, leaves, num_trained
from store.sentences import listed, num, other_tasks, what_is_missing

# What may differ between runs of one setting: it has no part in what is learnt, or is what is averaged over.
LEFT_OUT = frozenset({"name", "seed", "resources", "tracker", "ledger", "checkpoint", "baseline"})
BUDGETS = frozenset({"max_tokens", "turn_tokens", "max_turns", "cut_off"})  # an environment's own, for its episodes
SHORT = {  # what people call fields; in labels their value says enough
    "objective": "objective.preset",
    "bandit": "curriculum.bandit.type",
    "scheduler": "curriculum.scheduler.type",
    "model": "policy.model",
}

Pool = Literal["anchor", "final"]  # what is reported on the way; what is set aside for a study's end

Flat = dict[str, Any]  # dotted field -> plain value


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
    num_samples: int  # trained on


Settings = Mapping[str, Sequence[ComparedRun]]  # by label, each by seed


@dataclass(frozen=True)
class ComparedRuns:
    """Runs by setting."""

    study: StudyRow | None  # set when the runs are those of one study
    fields: Sequence[str]  # of the specs, that distinguish the settings; none: the study's own labels do
    settings: Settings
    left_out: Sequence[LeftOutRun]
    warnings: Sequence[str]

    @property
    def entries(self) -> list[ComparedRun]:
        """All runs."""
        return [entry for entries in self.settings.values() for entry in entries]

    @property
    def twin(self) -> str | None:
        """The setting that the other runs' twins have, if it has one of its own."""
        labels = {label for label, own in self.settings.items() if all(e.run.baseline_of for e in own)}
        return next(iter(labels)) if len(labels) == 1 else None


def gather(reading: Reading, home: Home, names: Sequence[str], by: Sequence[str]) -> ComparedRuns:
    """Find the runs, leave out those that are not finished, and put the others into settings."""
    known = {run.name: run for run in reading.runs()}
    studies = {study.name: study for study in reading.studies()}
    runs: dict[str, RunRow] = {}
    for name in names:
        if name in studies:
            runs |= {member.run: known[member.run] for member in reading.members(name)}
        elif name in known:
            runs[name] = known[name]
        else:
            hint = did_you_mean(name, [*studies, *known], 3) or " `evergreen ls` lists the runs."
            raise ComparisonError(f"There is no run and no study {name!r}.{hint}")
    study = studies.get(names[0]) if len(names) == 1 else None
    by = by or fields_of((study.plan.get("compare") or {}).get("by") if study else None)
    entries, left_out = _finished(reading, home, runs.values())
    fields, settings = _settings(entries, study, by)
    if len(settings) == 1 and not by:
        # add the runs made beside these with another bandit, or the ones beside which these were made
        twins = [entry.run.baseline_of or reading.baseline(entry.run.name) for entry in entries]
        others = [known[name] for name in twins if name is not None and name in known and name not in runs]
        more, more_left_out = _finished(reading, home, others)
        entries, left_out = [*entries, *more], [*left_out, *more_left_out]
        fields, settings = _settings(entries, None if more else study, by)
    _refuse_too_little(settings, left_out)
    settings = {label: sorted(own, key=lambda e: e.run.seed) for label, own in settings.items()}
    warnings = [*_shared_past(known, settings), *_warnings(reading, study, fields, settings)]
    return ComparedRuns(study, fields, settings, left_out, warnings)


def fields_of(by: str | Sequence[str] | None) -> list[str]:
    """List the fields that a study's plan names, as a text or a list."""
    return [by] if isinstance(by, str) else list(by or [])


def num_planned(reading: Reading, gathered: ComparedRuns) -> int:
    """Count the settings that a study set out to compare, whether their runs are finished or not.

    By fields, those of the runs that have begun; what a setting without a run has there is not known, so it counts.
    """
    assert gathered.study is not None
    labels = [str(setting["label"]) for setting in gathered.study.plan.get("settings", [])]
    if not gathered.fields:
        return len(labels)
    members = reading.members(gathered.study.name)
    groups = grouped({one.run: flat(reading.spec(one.run)) for one in members}, gathered.fields)
    return len(groups) + len({*labels} - {one.setting for one in members})


def refuse_what_is_measured_otherwise(
    reading: Reading,
    entries: Sequence[ComparedRun],
    measure: str,
    is_held_out: bool,
    is_of_end: bool,
    pool: Pool = "anchor",
) -> None:
    """Values under other generation settings, or on other held-out tasks, are other values (plasticity.md 0).

    `is_of_end`: the measure is of the last boundary alone, so that tasks of earlier ones do not matter.
    """
    boundaries = {entry.run.name: reading.boundaries(entry.run.name) for entry in entries}
    known = [(name, own[-1].settings) for name, own in boundaries.items() if own]  # a lost ledger took those of others
    first, ours = next(iter(known), ("", {}))
    for name, theirs in known[1:]:
        values = {key: (ours.get(key), theirs.get(key)) for key in {**ours, **theirs}}
        if unequal := [f"{key} {a} and {b}" for key, (a, b) in values.items() if a != b]:
            differences = listed(unequal)
            raise ComparisonError(
                f"{first} and {name} were evaluated in different ways, so they cannot be compared: "
                f"{differences}. Run one of them again with the same `evaluate` and `sampler.max_tokens`."
            )
    if not is_held_out:
        return
    budgets = {entry.run.name: _budgets(entry.spec) for entry in entries}
    if found := _first_unequal(budgets):
        before, name, unequal = found
        fields = [
            f"environments.{one}.{field} {budgets[before][one].get(field)} and {budgets[name][one].get(field)}"
            for one in unequal
            for field in sorted({**budgets[before][one], **budgets[name][one]})
            if budgets[before][one].get(field) != budgets[name][one].get(field)
        ]
        raise ComparisonError(
            f"{before} and {name} were evaluated with different budgets, so {measure} cannot be compared: "
            f"{listed(fields)}. `train_accuracy` can."
        )
    ends = {entry.run.name: _tasks(reading, entry.run.name, True, pool) for entry in entries}
    courses = ends if is_of_end else {run: _tasks(reading, run, False, pool) for run in ends}
    if found := _first_unequal(courses):
        before, name, unequal = found
        if all(ends[before][one] == ends[name][one] for one in unequal):
            raise ComparisonError(
                f"{before} and {name} were evaluated on the same tasks of {listed(unequal)} at their ends alone, as "
                f"these changed on the way, so {measure} cannot be compared. `accuracy` is of the ends."
            )
        raise ComparisonError(
            f"{before} and {name} were evaluated on different tasks of {listed(unequal)}, so {measure} cannot be "
            "compared: their options, versions or data differ. `train_accuracy` needs no held-out tasks."
        )


def refuse_other_protocols(reading: Reading, entries: Sequence[ComparedRun]) -> None:
    """Only probes of one protocol compare: the same steps on the same data (plasticity.md 3.1)."""
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for name in (entry.run.name for entry in entries):
        for probe in reading.probes(name):
            first, protocol = seen.setdefault((probe.kind, probe.task), (name, probe.sha256))
            if probe.sha256 != protocol:
                raise ComparisonError(
                    f"{first} and {name} have {probe.kind} probes of {probe.task} with other settings, so their gains "
                    "cannot be compared. Run one of them again with the same `measure`."
                )


def evaluated_on_other_tasks(reading: Reading, entries: Sequence[ComparedRun]) -> list[str]:
    """Name the environments whose held-out tasks are not the same, at all boundaries, in all runs that have them."""
    tasks = [_tasks(reading, entry.run.name, False) for entry in entries]
    first = {name: rows for own in reversed(tasks) for name, rows in own.items()}
    return list(dict.fromkeys(name for own in tasks for name in own if first[name] != own[name]))


def _finished(reading: Reading, home: Home, runs: Iterable[RunRow]) -> tuple[list[ComparedRun], list[LeftOutRun]]:
    entries, left_out = [], []
    for run in runs:
        if run.status == "finished":
            spec = reading.spec(run.name)
            entries.append(ComparedRun(run, flat(spec), num_trained(reading, run.name)))
        else:
            stands = status(run.status, home.run_folder(run.name))
            left_out.append(LeftOutRun(run.name, f"{stands} at step {run.num_steps:,}"))
    return entries, left_out


def _settings(entries: Sequence[ComparedRun], study: StudyRow | None, by: Sequence[str]) -> tuple[list[str], Settings]:
    """A study's own settings, unless fields are asked for; else by the fields in which specs differ."""
    if study is not None and not by:
        labels = [str(setting["label"]) for setting in study.plan.get("settings", [])]
        labels += [entry.run.setting or "" for entry in entries]  # of an older plan
        made = {label: [e for e in entries if e.run.setting == label] for label in dict.fromkeys(labels)}
        return [], {label: own for label, own in made.items() if own}
    by_name = {entry.run.name: entry for entry in entries}
    specs = {name: entry.spec for name, entry in by_name.items()}
    fields = requested(by, specs) if by else distinguishing(specs)
    groups = grouped(specs, fields)
    return fields, {label or "all runs": [by_name[name] for name in own] for label, own in groups.items()}


def _refuse_too_little(settings: Settings, left_out: Sequence[LeftOutRun]) -> None:
    """Refuse fewer than two settings, and two runs of one setting and seed: they would count as two."""
    names = [one.run for one in left_out]
    unfinished = f" {num(len(names), 'run')} not finished: {listed(names)}." if names else ""
    if not settings:
        raise ComparisonError(f"None of these runs is finished, so there is nothing to compare yet.{unfinished}")
    if len(settings) == 1:
        ((label, own),) = settings.items()
        which = f"All finished runs are of one setting ({label}: {num(len(own), 'run')})"
        remedy = "" if unfinished else " Name runs of another one, or fields to tell them apart with --by."
        raise ComparisonError(
            f"{which}, so there is nothing to compare{' yet' if unfinished else ''}.{unfinished}{remedy}"
        )
    for label, own in settings.items():
        for seed, twins in by_key((entry.run for entry in own), lambda run: run.seed).items():
            if len(twins) > 1:
                raise ComparisonError(
                    f"{twins[0].name} and {twins[1].name} have the same setting ({label}) and the same seed ({seed}): "
                    "they would count as two. Name one of them, or tell them apart with --by."
                )


def _shared_past(known: Mapping[str, RunRow], settings: Settings) -> list[str]:
    """Say which runs go on from one, by forks: what their seeds average over is only what came after.

    Not of a pair of one seed beside others: that both begin at one policy is what pairing is for.
    """

    def origin(run: RunRow) -> str:
        while run.parent is not None:
            run = known[run.parent]
        return run.name

    families = by_key((entry.run for own in settings.values() for entry in own), origin)
    warnings = []
    for first, family in families.items():
        forks = [run.name for run in family if run.name != first]
        if len(family) > 1 and (len(families) == 1 or len({run.seed for run in family}) > 1):
            who = f"{forks[0]} is a fork" if len(forks) == 1 else f"{len(forks)} runs are forks"
            warnings.append(f"{who} of {first}: what they find holds of that one policy.")
    return warnings


def _warnings(reading: Reading, study: StudyRow | None, fields: Sequence[str], settings: Settings) -> list[str]:
    """Say what is not started, what was added, what else runs and settings differ in, and whose records have gaps."""
    warnings = []
    if study is not None:
        planned = len(study.plan.get("settings", [])) * len(study.plan.get("seeds", []))
        missing = planned - len(reading.members(study.name))
        if missing > 0:
            warnings.append(f"{num(missing, 'run')} of the study's {planned} not started yet.")
        num_seeds = len(study.plan.get("seeds", []))
        registered = study.plan.get(REGISTERED_SEEDS, num_seeds)
        if num_seeds > registered:
            warnings.append(
                f"{num(num_seeds, 'seed')}, {registered} were registered: if a verdict was looked at before the others "
                "were added, p is too small."
            )
    inside = {label: differing(entry.spec for entry in own) for label, own in settings.items()}
    mixed = by_key(settings, lambda label: listed(inside[label]))
    warnings += [f"The runs of {listed(own)} differ in more than their seed: {of}." for of, own in mixed.items() if of]
    entries = [entry for own in settings.values() for entry in own]
    if fields:  # not of a study's own settings, which its file spells out
        told = {*fields, *(name for own in inside.values() for name in own)}
        if others := [name for name in without_options(differing(e.spec for e in entries)) if name not in told]:
            warnings.append(
                f"The settings also differ in {listed(others)}: a difference may come from that too; compare runs "
                "that differ in one field alone, or name all of them with --by."
            )
    names = [entry.run.name for entry in entries]
    lost = {name: what_is_missing(reading.gaps(name)) for name in names}
    warnings += [f"{name}: {text}." for name, text in lost.items() if text is not None]
    changed = {name: of for name in names if (of := changed_tasks(reading.task_sets(name)))}
    alike = by_key(changed, lambda name: other_tasks(changed[name]))
    return warnings + [f"{listed(own)}: {text[:1].lower()}{text[1:]}" for text, own in alike.items()]


def _tasks(reading: Reading, run: str, at_end: bool, pool: Pool = "anchor") -> dict[str, list[tuple[str | int, ...]]]:
    """What every environment was evaluated on, at its last boundary or at all; without what a scheduler looks at.

    Tasks that changed on the way are the same only where they did so at the same boundaries.
    """
    shown = (row for row in reading.task_sets(run, pool == "final") if row.purpose in ("own", pool))
    found: dict[str, list[tuple[str | int, ...]]] = {}
    for name, rows in by_key(shown, lambda row: row.environment).items():
        last = max(row.last for row in rows)
        has_one_set = len({(row.first, row.last) for row in rows}) == 1
        found[name] = sorted(
            (
                row.category,
                row.purpose,
                row.sha256,
                # not of what never changed: boundaries leave environments out
                *(() if at_end or has_one_set else (row.first, "end" if row.last == last else row.last)),
            )
            for row in rows
            if row.last == last or not at_end
        )
    return found


def _budgets(spec: Flat) -> dict[str, dict[str, Any]]:
    """By environment, which of its budgets a spec sets, without those at null."""
    found: dict[str, dict[str, Any]] = {name: {} for name in environments_of(spec)}
    for name, own in found.items():
        places = (f"{place}{budget}" for place in ("", "episodes.") for budget in BUDGETS)
        own |= {at: value for at in places if (value := spec.get(f"environments.{name}.{at}")) is not None}
    return found


def _first_unequal(runs: Mapping[str, Mapping[str, object]]) -> tuple[str, str, list[str]] | None:
    """Find two runs that have something else by environment, and for which environments; None: all agree.

    A run is compared with the first that has the environment, which need not be the first of all.
    """
    first = dict[str, str]()
    for name, own in runs.items():
        others = [one for one in own if runs[first.setdefault(one, name)][one] != own[one]]
        if others:
            before = first[others[0]]
            return before, name, [one for one in others if first[one] == before]
    return None


def environments_of(spec: Flat) -> list[str]:
    """Name the environments of a spec."""
    return list(dict.fromkeys(field.split(".")[1] for field in spec if field.startswith("environments.")))


def flat(spec: Mapping[str, Any]) -> Flat:
    """Write a spec as dotted fields, without what may differ."""
    return dict(leaves({key: value for key, value in spec.items() if key not in LEFT_OUT}))


def differing(specs: Iterable[Flat]) -> list[str]:
    """The fields in which specs differ, those with a short name first, the others in the order of the specs."""
    every = list(specs)
    fields = dict.fromkeys([*SHORT.values(), *(name for spec in every for name in spec)])
    return [name for name in fields if len({_text(spec.get(name)) for spec in every}) > 1]


def without_options(fields: Sequence[str]) -> list[str]:
    """Leave out the options of what one of the fields names: a preset or a type stands for all that it changes."""
    naming = [name for name in fields if name.rpartition(".")[2] in ("preset", "type")]
    options = {name for of in naming for name in fields if name != of and name.startswith(of.rpartition(".")[0] + ".")}
    return [name for name in fields if name not in options]


def distinguishing(specs: Mapping[str, Flat]) -> list[str]:
    """Few fields that distinguish whatever differs: a preset's name, rather than all that it changes."""
    chosen: list[str] = []
    for name in differing(specs.values()):
        with_it, without = (
            len({_values(spec, fields) for spec in specs.values()}) for fields in ([*chosen, name], chosen)
        )
        if with_it > without:
            chosen.append(name)
    return chosen


def requested(by: Sequence[str], specs: Mapping[str, Flat]) -> list[str]:
    """Find the fields that a person names, by their dotted or short names or by their section's."""
    known = list(dict.fromkeys(name for spec in specs.values() for name in spec))
    found = []
    for name in by:
        candidates = [SHORT.get(name, name), *(f"{name}.{kind}" for kind in NAMING)]
        matches = [candidate for candidate in candidates if candidate in known]
        if not matches:
            hint = did_you_mean(name, [*SHORT, *known], 3)
            raise ComparisonError(f"The runs' specs have no field {name!r}.{hint}")
        found.append(matches[0])
    return found


def grouped(specs: Mapping[str, Flat], fields: Sequence[str]) -> dict[str, list[str]]:
    """Put runs of equal values together, by a label of the values: with a field's last word where that says which."""
    groups = by_key(specs, lambda run: _values(specs[run], fields))
    ends = [name.rsplit(".", 1)[-1] for name in fields]
    prefixes = [
        "" if name in SHORT.values() else f"{end if ends.count(end) == 1 else name}="
        for name, end in zip(fields, ends, strict=True)
    ]
    return {
        " ".join(prefix + value for prefix, value in zip(prefixes, values, strict=True)): runs
        for values, runs in groups.items()
    }


def _values(spec: Flat, fields: Sequence[str]) -> tuple[str, ...]:
    return tuple(_text(spec.get(name)) for name in fields)


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
