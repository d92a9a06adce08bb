"""Beginning, resuming, lengthening and forking runs. What happens while one runs is in `session`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.callbacks import Callback, Watcher, together
from orchestrator.errors import UserError
from orchestrator.interventions import require_base
from orchestrator.locations import (
    Sections,
    completed_url,
    refuse_plain_secrets,
    remember_logins,
    unkept,
)
from orchestrator.measurements.probe_tasks import require_classes
from orchestrator.os_signals import hold, noted
from orchestrator.recording.saved_state import weights_after
from orchestrator.runs import forks
from orchestrator.runs.assembly import Foundation, lay_foundation
from orchestrator.runs.catalog import entered_again, existing, is_run, kept_sections, known_to, missing_study
from orchestrator.runs.dry_run import refuse_unusable
from orchestrator.runs.kept_spec import changes_on_resume, forked_spec, kept_spec, outside_study, turns_kept, write_spec
from orchestrator.runs.provenance import ALONE, RunRelations
from orchestrator.runs.recovery import recover, twin_folder
from orchestrator.runs.session import Outcome, RunSession, collecting_rarely, ended
from orchestrator.runs.stop_reasons import held_by_guards
from orchestrator.runs.tracker_process import TrackerProcess
from orchestrator.spec import Spec, load_spec
from orchestrator.spec.load import change_resources
from orchestrator.spec.twin import twin_of
from store import checkpoint_copies, identity
from store.checkpoint_copies import CopyPlace, require_lasting
from store.checkpoints import WEIGHTS
from store.errors import LedgerAway
from store.home import Home
from store.ledger import Ledger, Reading
from store.ledger.access import Patience
from store.lock import clear_stop, run_lock
from store.records import LineageRecord
from store.report import write as write_report

__all__ = ["Outcome", "fork", "resume", "run"]


@collecting_rarely()
def run(
    spec: str | Path | Mapping[str, Any] | Spec,
    overrides: Sequence[str] = (),
    home: str | Path | None = None,
    until_step: int | None = None,
    watcher: Watcher = None,
    relations: RunRelations = ALONE,
    name: str | None = None,
) -> Outcome:
    """Run a curriculum to its end, or until it is asked to stop; then its twin, if the spec wants a baseline.

    Args:
        spec: a file, a map, or a Spec.
        overrides: `a.b=c`, with c in YAML.
        home: where all runs live; made if need be. Default: that of EVERGREEN_HOME, else ./runs.
        until_step: stop after this step, resumable.
        watcher: called back with what happens; `orchestrator.Screen()` prints it. Several: each is called.
        relations: what the run is to others.
        name: exactly this one, or NameTaken is raised; none given: the spec's, or NAME-2, NAME-3, ...
    """
    checked = load_spec(spec, overrides)
    if relations.baseline_of is None:  # else it is the spec of a run that is there
        refuse_plain_secrets(checked.model_dump(mode="json", by_alias=True))
    _require_copy_place(checked)
    place, watcher = Home(home), together(watcher)
    with _opened(_places(checked), place, watcher) as ledger:
        if name in known_to(ledger) and not is_run(place.run_folder(name)):
            raise UserError(
                f"the ledger has a run {name} whose folder is not in {place.path}: `evergreen resume {name} --from "
                f"URL` fetches what was copied of it, `evergreen rm {name}` removes its rows; or give this run another "
                "`name`"
            )
        # Before anything is written: bad input leaves no run behind.
        origin = None if relations.baseline_of is None else place.run_folder(relations.baseline_of)
        foundation = lay_foundation(checked, tell=watcher.opening, folder=origin)
        require_classes(checked, foundation.environments, foundation.prompts)
        _refuse_twin(checked, foundation)
        taken = [run.name for run in ledger.reading.runs()]
        hold()
        with place.new_run_folder(name or checked.name, taken, is_exact=name is not None) as folder:
            if folder.name != checked.name and checked.name in taken:
                watcher.opening(f"there is a run {checked.name} already: this one is {folder.name}")
            checked = checked.model_copy(update={"name": folder.name})
            try:
                write_spec(folder, checked)
            except OSError:  # where even that fails there is no run, and nothing is left of it
                shutil.rmtree(folder, ignore_errors=True)
                raise
            session = RunSession(checked, ledger, place, folder, watcher, until_step)
            outcome = session.begin(foundation, relations)
    return _with_baseline(outcome, checked, place, watcher)


def find_run(
    spec: str | Path | Mapping[str, Any] | Spec, overrides: Sequence[str] = (), home: str | Path | None = None
) -> tuple[str, list[str], int | None] | None:
    """Find the run of a spec's name: its name, and with which overrides and stages `resume` goes on as the spec has it.

    None: there is none. Raises UserError where there is one of another spec, or one that a guard stopped: a scheduler
    that repeats the command shall not undo that.
    """
    checked, place = load_spec(spec, overrides), Home(home)
    folder = place.run_folder(checked.name)
    if not is_run(folder):
        return None
    with _opened(kept_sections(place, checked.name), place, together(None)) as ledger:
        kept = kept_spec(ledger.reading, folder, checked.name)
        if held := held_by_guards(ledger.reading, [checked.name]):
            raise UserError(held[checked.name])
    return checked.name, *changes_on_resume(kept.spec, checked)


@collecting_rarely()
def resume(
    name: str,
    overrides: Sequence[str] = (),
    home: str | Path | None = None,
    until_step: int | None = None,
    watcher: Watcher = None,
    stages: int | None = None,
    relations: RunRelations = ALONE,
    copy: str | None = None,
) -> Outcome:
    """Go on from the newest valid checkpoint; a finished run stays as it is, unless it gets more stages.

    `copy`: URL to which `checkpoint.copy_to` copied the run, which is fetched first; its folder must not be here.

    What the ledger lacks of the run and its folder has is entered first; `relations` counts only for a run that the
    ledger does not know.
    """
    place, watcher = Home(home, create=copy is not None), together(watcher)
    if copy is not None:
        checkpoint_copies.fetch(copy, name, place.run_folder(name), watcher.opening)
    folder = existing(place, name)
    sections = kept_sections(place, name)
    watcher.event(unkept(sections))
    with _opened(sections, place, watcher) as ledger:
        kept = kept_spec(ledger.reading, folder, name)
        spec = change_resources(kept.spec, overrides)
        statuses = {run.name: run.status for run in ledger.reading.runs()}
        if statuses.get(name) == "finished" and (stages or 0) <= spec.curriculum.stages:
            spec = _lengthened(spec, stages, ledger.reading)
            watcher.phase(f"{name} is finished; `evergreen resume {name} --stages N` lengthens it")
            if spec != kept.spec:
                ledger.set_spec(ledger.open_run(name), spec.kept())
                identity.keep(ledger.reading, folder, name, spec.model_dump(mode="json", by_alias=True))
            watcher.event([event.text for event in kept.put_right(folder, spec)])
            TrackerProcess(spec.model_dump(mode="json"), place, name).finish(watcher)
            outcome = ended(name, folder, watcher, None)
        else:
            with run_lock(folder):
                clear_stop(folder)  # asked of who held the run before; from here on it is asked of us
                events = recover(ledger, place, name, relations)
                spec = _lengthened(spec, stages, ledger.reading)
                session = RunSession(spec, ledger, place, folder, watcher, until_step)
                if name in known_to(ledger):
                    outcome = session.go_on(None, events, kept)
                else:  # killed between its folder and its ledger row
                    kept.put_right(folder, spec)
                    outcome = session.begin(lay_foundation(spec, tell=watcher.opening, folder=folder), relations)
    return _with_baseline(outcome, spec, place, watcher)


@collecting_rarely()
def fork(
    name: str,
    stage: int,
    spec: str | Path | Mapping[str, Any] | Spec | None = None,
    overrides: Sequence[str] = (),
    home: str | Path | None = None,
    until_step: int | None = None,
    watcher: Watcher = None,
    relations: RunRelations = ALONE,
) -> Outcome:
    """Begin a new run at the boundary after a stage of another, with its history and another spec."""
    place, watcher = Home(home, create=False), together(watcher)
    parent_folder = existing(place, name)
    with _opened(kept_sections(place, name), place, watcher) as ledger:
        studies = {run.name: run.study for run in ledger.reading.runs()}
        taken = [*studies]
        if name not in studies:
            study = missing_study(place, name, ledger.reading.studies())
            raise UserError(f"the ledger does not know {name}: {entered_again(name, study)}")
        kept = kept_spec(ledger.reading, parent_folder, name)
        watcher.event(kept.said(kept.spec))
        record = forks.boundary_checkpoint(ledger, parent_folder, name, stage)
        parent = kept.spec if relations.member else outside_study(kept.spec, studies[name])
        checked = forked_spec(parent, spec, overrides, stage)
        if spec is None and (remark := turns_kept(checked, parent)) is not None:
            watcher.event([remark])
        refuse_plain_secrets(checked.model_dump(mode="json", by_alias=True))
        _require_copy_place(checked)
        weights, weights_of = parent_folder / record.folder / WEIGHTS, partial(weights_after, place, name)
        foundation = lay_foundation(checked, weights, watcher.opening, kept.spec.environments, parent_folder)
        forks.require_fit(foundation.tasks, parent_folder / record.folder)
        require_base(foundation.interventions, max(1, stage), checked.curriculum.stages, weights_of)
        require_classes(checked, foundation.environments, foundation.prompts)
        _refuse_twin(checked, foundation)
        hold()
        with place.new_run_folder(checked.name, taken) as folder:
            checked = checked.model_copy(update={"name": folder.name})
            forked = foundation.new_run(checked, replace(relations, lineage=LineageRecord(name, stage)))
            try:
                identity.announce(folder, forked)  # first: without it a fork that is killed here would be no fork
                write_spec(folder, checked)
                forks.adopt_checkpoint(record, parent_folder, folder)
            except OSError:  # there is no run yet, and nothing is left of it
                shutil.rmtree(folder, ignore_errors=True)
                raise
            watcher.event(forks.enter(ledger, forked, record))
            outcome = RunSession(checked, ledger, place, folder, watcher, until_step).go_on(foundation)
    return _with_baseline(outcome, checked, place, watcher)


def _opened(sections: Sections, place: Home, watcher: Callback) -> Ledger:
    remember_logins(sections)
    patience = Patience(60 * sections["ledger"]["patience"], lambda text: watcher.event([text]))
    return Ledger.open(completed_url(sections, "ledger", place.ledger_url), patience=patience)


def _places(spec: Spec) -> Sections:
    return spec.model_dump(include={"ledger", "tracker"})


def _require_copy_place(spec: Spec) -> None:
    """Refuse a place for copies that is relative, or whose driver is not there."""
    if (url := spec.checkpoint.copy_to) is not None:
        require_lasting(url)
        CopyPlace(url, spec.name)


def _refuse_twin(spec: Spec, foundation: Foundation) -> None:
    """Refuse a run whose twin could not begin, before either does."""
    if spec.baseline is not None:
        refuse_unusable(twin_of(spec), foundation.environments)


def _with_baseline(outcome: Outcome, spec: Spec, place: Home, watcher: Callback) -> Outcome:
    """Run a finished run's twin too, or go on with it; then the report of the run draws both."""
    if outcome.status == "stopped":
        return outcome
    try:
        return _with_twin(outcome, spec, place, watcher)
    except LedgerAway as away:
        return ended(outcome.name, outcome.folder, watcher, str(away))


def _with_twin(outcome: Outcome, spec: Spec, place: Home, watcher: Callback) -> Outcome:
    with _opened(_places(spec), place, watcher) as ledger:
        about, twin = ledger.reading.run(outcome.name), ledger.reading.baseline(outcome.name)
        if spec.baseline is not None and twin is None:
            twin = twin_folder(place, ledger, outcome.name, twin_of(spec).name)
        if about.baseline_of is not None:
            write_report(ledger, place.run_folder(about.baseline_of), about.baseline_of)
    if spec.baseline is None:
        return outcome
    if (signal := noted()) is not None:
        return ended(outcome.name, outcome.folder, watcher, f"{signal} before its baseline went on")
    relations, home = RunRelations(baseline_of=outcome.name), place.path
    if twin is not None:
        stages = spec.curriculum.stages
        done = resume(twin, home=home, watcher=watcher, stages=stages, relations=relations)
    elif (parent := about.parent) is not None:
        stage = about.parent_stage or 0
        done = fork(parent, stage, twin_of(spec), home=home, watcher=watcher, relations=relations)
    else:
        done = run(twin_of(spec), home=home, watcher=watcher, relations=relations)
    if done.status == "finished":
        return outcome
    reason = f"its baseline {done.name} stopped: {done.reason}"
    return Outcome(outcome.name, outcome.folder, "stopped", reason)


def _lengthened(spec: Spec, stages: int | None, reading: Reading) -> Spec:
    """Give a run another number of stages, at least those it has begun; None: the number it has."""
    if stages is None or spec.name not in {run.name for run in reading.runs()}:
        return spec
    begun = [stage.stage for stage in reading.stages(spec.name)]
    done = [record.num_boundaries - 1 for record in reading.checkpoints(spec.name)]
    num_begun = max([*begun, *done], default=0)
    if stages < num_begun:
        raise UserError(f"{spec.name} has begun stage {num_begun} already: --stages {stages} is too few")
    curriculum = spec.curriculum.model_copy(update={"stages": stages})
    return spec.model_copy(update={"curriculum": curriculum})
