"""What a home knows of a study: which runs are there, how they stand, and whether they are still those of its file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from orchestrator.errors import UserError
from orchestrator.locations import completed_url
from orchestrator.runs.stop_reasons import held_by_guards
from orchestrator.spec import Spec, load_spec
from orchestrator.spec.load import CHANGEABLE
from orchestrator.spec.setting_labels import text_of
from orchestrator.studies.study import Study, StudyRun
from store.home import sqlite_url
from store.ledger import Ledger
from store.ledger.queries import Reading
from store.records import REGISTERED_FIRST, REGISTERED_SEEDS, StudyRecord
from store.run_summary import leaves
from store.sentences import listed, num

NOT_COMPARED = ("name", "seed", "ledger", *CHANGEABLE)  # of a run's spec: what makes it no other experiment

STAGES = "curriculum.stages"

State = Literal["missing", "begun", "held", "finished"]  # held: by a guard that stopped it


class History:
    """The runs of a study that are there, asked again at every look."""

    def __init__(self, study: Study, reading: Reading | None) -> None:
        self.study, self._reading = study, reading

    def plan(self) -> Mapping[str, Any] | None:
        """Return the plan that the ledger keeps; None: it does not know the study."""
        known = [] if self._reading is None else self._reading.studies()
        return next((one.plan for one in known if one.name == self.study.name), None)

    def names(self) -> dict[tuple[str, int], str]:
        """Name the runs that have begun, by setting and seed."""
        if self._reading is None or self.plan() is None:
            return {}
        return {(one.setting, one.seed): one.run for one in self._reading.members(self.study.name)}

    def states(self) -> dict[str, State]:
        """Say how every planned run stands; one whose twin is not finished is not finished itself."""
        there = self._reading
        finished = {run.name for run in there.runs() if run.status == "finished"} if there else set()
        begun, held = self.names(), self.held()
        found: dict[str, State] = {}
        for run in self.study.runs:
            is_begun = (run.setting.label, run.seed) in begun
            is_done = run.name in finished
            if is_done and there is not None and run.setting.spec.baseline is not None:
                is_done = there.baseline(run.name) in finished
            found[run.name] = (
                "finished" if is_done else "held" if run.name in held else "begun" if is_begun else "missing"
            )
        return found

    def held(self) -> dict[str, str]:
        """Say of the runs that a guard stopped how a person goes on with them: the study does not undo that."""
        return {} if self._reading is None else held_by_guards(self._reading, self.names().values())

    def left(self) -> list[StudyRun]:
        """The planned runs that the study starts or goes on with."""
        states = self.states()
        return [run for run in self.study.runs if states[run.name] in ("missing", "begun")]

    def problems(self) -> list[str]:
        """Say what keeps the study from going on: runs of another plan, or names that other runs have."""
        if self._reading is None:
            return []
        names = self.names()
        there = {run.name for run in self._reading.runs()} - set(names.values())
        problems = [
            f"there is a run {run.name} already, which is not of this study"
            for run in self.study.runs
            if run.name in there
        ]
        settings = {setting.label: setting for setting in self.study.settings}
        changed: dict[str, dict[str, None]] = {}
        changed_stages = self.changed_stages()
        for (label, _), name in names.items():
            if label in settings:
                before, planned = self._reading.spec(name), settings[label].spec
                if name in changed_stages:
                    before["curriculum"] |= {"stages": planned.curriculum.stages}
                for text in differences(load_spec(before), planned):
                    changed.setdefault(text, {})[label] = None
        for text, labels in changed.items():
            is_all = len(labels) == len(settings) > 1
            problems.append(f"{text} ({'all settings' if is_all else f'setting {listed(list(labels))}'})")
        plan = self.plan()
        if plan is None or not names:  # a study of which nothing ran may still lose settings and seeds
            return problems
        called = {
            json.dumps(one["changes"], sort_keys=True): one["label"] for one in self.study.record().plan["settings"]
        }
        for one in plan["settings"]:
            label, now = one["label"], called.get(json.dumps(one["changes"], sort_keys=True))
            if label not in settings:  # names are made of what tells settings apart: with others they may be longer
                remedy = "" if now is None else f": it would be called {now!r} now; keep its name by `label: {label}`"
                problems.append(f"setting {label!r} is gone{remedy}")
        seeds = [str(seed) for seed in plan["seeds"] if seed not in self.study.seeds]
        if seeds:
            what = f"seed {seeds[0]} is" if len(seeds) == 1 else f"seeds {listed(seeds)} are"
            problems.append(f"{what} gone")
        return problems

    def changed_stages(self) -> dict[str, str]:
        """Say of the runs that `resume --stages` gave another number of stages than their study plans."""
        plan = self.plan()
        if self._reading is None or plan is None:
            return {}
        before, now = _stages(plan), _stages(self.study.record().plan)
        found: dict[str, str] = {}
        for (label, _), name in self.names().items():
            planned, stages = before.get(label), self._reading.spec(name)["curriculum"]["stages"]
            if planned is not None and planned == now.get(label) and stages != planned:
                found[name] = (
                    f"{name} has {num(stages, 'stage')} since a `resume --stages`, where {planned} were planned: it "
                    f"stays so, and `evergreen compare {self.study.name}` compares what it is now"
                    + (f"; `evergreen resume {name} --stages {planned}` plays the rest" if stages < planned else "")
                )
        return found

    def record(self) -> StudyRecord:
        """Describe the study for the ledger: it may have grown; what was said before the first run stays beside it."""
        record, plan = self.study.record(), self.plan()
        if plan is None or not self.names():
            return record
        said = {
            "compare": plan["compare"],
            REGISTERED_SEEDS: plan.get(REGISTERED_SEEDS, len(plan["seeds"])),
            REGISTERED_FIRST: plan.get(REGISTERED_FIRST, plan["settings"][0]["label"]),
        }
        return replace(record, plan={**record.plan, **said})

    def changed_comparison(self) -> str | None:
        """Say that the file would compare something else than was registered before the first run."""
        plan, now = self.plan(), self.study.compare.model_dump()
        if plan is None or not self.names():
            return None
        before = plan["compare"]
        words = [f"{key} was {text_of(before.get(key))}" for key in now if before.get(key) != now[key]]
        if not words:
            return None
        return (
            f"`compare` has changed after the first runs ({', '.join(words)}): what was registered before them stays; "
            "options of `evergreen compare` show anything else, as exploratory"
        )


def _stages(plan: Mapping[str, Any]) -> dict[str, int | None]:
    """How many stages a plan has, by setting."""
    base = dict(leaves(plan["spec"])).get(STAGES)
    return {one["label"]: dict(leaves(one["changes"])).get(STAGES, base) for one in plan["settings"]}


def differences(before: Spec, now: Spec) -> list[str]:
    """Name the fields in which two specs are different experiments."""
    old, new = (dict(leaves(spec.model_dump(mode="json", by_alias=True))) for spec in (before, now))
    keys = [key for key in {**old, **new} if key.partition(".")[0] not in NOT_COMPARED]
    return [
        f"{key} was {text_of(old.get(key))} and is {text_of(new.get(key))}"
        for key in keys
        if old.get(key) != new.get(key)
    ]


def refuse_changes(history: History) -> None:
    """Refuse to go on with a study that is another now. Raises UserError."""
    problems = history.problems()
    if problems:
        study = history.study
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise UserError(
            f"study {study.name} was begun with another plan:{lines}\nA study only grows: seeds and settings may be "
            f"added. Give the changed one a name of its own: `name: {study.name}-2` in {study.path}"
        )


@contextmanager
def looking(study: Study, home: Path) -> Iterator[tuple[History, Reading | None]]:
    """Open what a home knows of a study without making anything; nothing where there is no ledger yet."""
    place = home.expanduser().absolute()
    sections = study.base.model_dump(include={"ledger"})
    url = completed_url(sections, "ledger", sqlite_url(place / "evergreen.db"))
    found = Ledger.find(url)
    if found is None:
        yield History(study, None), None
        return
    with found as ledger:
        yield History(study, ledger.reading), ledger.reading
