"""A study, checked: settings x seeds, each run with its spec and its name, and the plan that the ledger keeps."""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from orchestrator.errors import SpecError
from orchestrator.registry import nearest
from orchestrator.spec import Spec
from orchestrator.spec.document import Document, read
from orchestrator.spec.dotted_fields import SHORT_FORMS, path_of, set_field
from orchestrator.spec.echo import listed as list_problems
from orchestrator.spec.echo import shown
from orchestrator.spec.load import check, look_in, name_from, read_spec
from orchestrator.spec.setting_labels import slug
from orchestrator.studies.study_file import (
    Compare,
    StudyFile,
    Variation,
    expand,
    is_plain,
    known_label,
    refusal,
)
from store.records import MemberRecord, StudyRecord
from store.run_summary import leaves
from store.secrets import values_without_logins
from store.sentences import listed

EXPECTED = "a map of what the study is (spec, seeds, grid, ...)"


@dataclass(frozen=True)
class StudySetting:
    """One way to run the base spec."""

    label: str
    changes: Mapping[str, Any]  # dotted spec field -> value, resolved
    spec: Spec  # complete but for name and seed


@dataclass(frozen=True)
class StudyRun:
    """One run of a study."""

    name: str
    setting: StudySetting
    seed: int

    @property
    def spec(self) -> Spec:
        """The run's own spec."""
        return self.setting.spec.model_copy(update={"name": self.name, "seed": self.seed})


@dataclass(frozen=True)
class Study:
    """Many runs that are to be compared."""

    name: str
    path: Path
    base: Spec
    settings: tuple[StudySetting, ...]
    seeds: tuple[int, ...]
    workers: int | None  # None: a core for each rank
    compare: Compare

    @property
    def runs(self) -> list[StudyRun]:
        """All runs, all settings of a seed before the next seed: whenever it is stopped, pairs are there."""
        return [
            StudyRun(f"{self.name}.{slug(setting.label)}.s{seed}", setting, seed)
            for seed in self.seeds
            for setting in self.settings
        ]

    def record(self) -> StudyRecord:
        """Describe the study for the ledger."""
        plan = {
            "spec": self.base.kept(),
            "settings": [{"label": one.label, "changes": values_without_logins(one.changes)} for one in self.settings],
            "seeds": list(self.seeds),
            "compare": self.compare.model_dump(),
        }
        return StudyRecord(self.name, plan)

    def member(self, run: StudyRun) -> MemberRecord:
        """Describe a run's place for the ledger."""
        return MemberRecord(self.name, run.setting.label, values_without_logins(run.setting.changes))


def load_study(path: Path) -> Study:
    """Read and check a study and the specs of all its runs. Raises SpecError with every problem found, a line each."""
    document = read(path, EXPECTED, "study")
    document.raw.setdefault("name", name_from(path))
    file = check(StudyFile, document)
    if isinstance(file.spec, str):  # beside the study's file, else a part of it
        base = read_spec(path.parent / file.spec)
    else:
        base = document.part("spec")
        base.raw.setdefault("name", file.name)
        look_in(base.raw, path.absolute().parent)
    checked = check(Spec, base)
    settings, refused = [], defaultdict(list)
    for given in expand(file):
        try:
            settings.append(_setting(given, base, document))
        except SpecError as error:
            for problem in str(error).splitlines():
                refused[problem].append(given.label)
    if refused:  # all problems are told at once, each with the settings that have it
        told = [f"{problem} (setting {listed(labels)})" for problem, labels in refused.items()]
        raise SpecError(list_problems(told))
    problems = [*_unlike(settings), *_unnamed(file, settings), *_unknown_environments(file, settings)]
    if problems:
        raise SpecError(list_problems([f"{path}: {problem}" for problem in problems]))
    return Study(file.name, path, checked, tuple(settings), tuple(file.seeds), file.workers, file.compare)


def _setting(given: Variation, base: Document, document: Document) -> StudySetting:
    lines = dict(base.lines) if base.where == document.where else {}
    raw = copy.deepcopy(base.raw)
    for field, value in given.values.items():
        line = document.lines[*given.place, field]
        lines[path_of(field)] = line
        if (why := refusal(field)) is not None:
            raise SpecError(f"{document.where}, line {line}: {why}")
        try:
            set_field(raw, field, copy.deepcopy(value))
        except SpecError as error:
            raise SpecError(f"{document.where}, line {line}: {field}: {error}") from error
    set_field(raw, "resources.threads", 1)
    if "experiment" not in (raw.get("tracker") or {}):  # in MLflow, a study is an experiment
        set_field(raw, "tracker.experiment", document.raw["name"])
    spec = check(Spec, Document(raw, lines, document.where))
    return StudySetting(given.label, changes(given.values, spec), spec)


def changes(given: Mapping[str, Any], spec: Spec) -> dict[str, Any]:
    """Say what a setting changes, field by field, with the values that the checked spec has there."""
    resolved = spec.model_dump(mode="json", by_alias=True)
    opened = {}
    for field, value in given.items():
        is_short = isinstance(value, str) and isinstance(_at(resolved, field), Mapping)
        last = field.rpartition(".")[2]
        opened[f"{field}.{SHORT_FORMS.get(last, 'type')}" if is_short else field] = value
    found = ((field, value, _at(resolved, field)) for field, value in leaves(opened))
    return {field: value if there is None else there for field, value, there in found}


def _at(data: Any, field: str) -> Any:
    return reduce(lambda at, key: at.get(key) if isinstance(at, Mapping) else None, field.split("."), data)


def _unlike(settings: Sequence[StudySetting]) -> list[str]:
    problems = []
    for label, num in Counter(setting.label for setting in settings).items():
        if num > 1:
            problems.append(f"{num} settings are called {shown(label)}; give each another `label`")
    for i, one in enumerate(settings):
        for other in settings[:i]:
            if one.spec == other.spec:
                problems.append(f"settings {shown(other.label)} and {shown(one.label)} are the same; leave one out")
            elif one.label != other.label and slug(one.label) == slug(other.label):
                problems.append(
                    f"settings {shown(other.label)} and {shown(one.label)} would have runs of the same name "
                    f"({slug(one.label)}); give one another `label`"
                )
    return problems


def _unnamed(file: StudyFile, settings: Sequence[StudySetting]) -> list[str]:
    labels = [one.label for one in settings]
    problems = [
        f"{shown(label)} is no label: give its setting one line of at most 80 characters as `label`, in a `list`"
        for label in labels
        if not is_plain(label)
    ]
    if file.random is not None and len(settings) < file.random.samples:
        problems.append(
            f"random.samples: the space has only about {len(settings)} different settings, "
            f"not {file.random.samples}; ask for fewer, or use `grid`"
        )
    baseline = file.compare.baseline
    wrong = None if baseline is None else known_label(baseline, labels)
    return [*problems, *([f"compare.baseline: {wrong}"] if wrong else [])]


def _unknown_environments(file: StudyFile, settings: Sequence[StudySetting]) -> list[str]:
    """Environments that are compared and that a setting does not have."""
    return [
        f"compare.environments: setting {shown(one.label)} has no environment {shown(name)}; it has: "
        f"{', '.join(one.spec.environments)}{nearest(name, one.spec.environments)}"
        for name in file.compare.environments or ()
        for one in settings
        if name not in one.spec.environments
    ][:1]
