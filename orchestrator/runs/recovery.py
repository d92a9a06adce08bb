"""What a ledger lacks of a run and the run's folder has: entered again before the run goes on.

A ledger may be deleted, emptied, put back from an older copy, or cut off from its last rows; and a process may die
between a checkpoint and its row. The checkpoints are still the run. What else was recorded is gone with the ledger.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.recording.outbox import Outbox
from orchestrator.runs import forks
from orchestrator.runs.catalog import is_run, known_to, study_by_name
from orchestrator.runs.kept_spec import kept_spec
from orchestrator.runs.provenance import RunRelations, run_record
from store import checkpoints, identity
from store.checkpoints import DIVERGED, FOLDER, INTERVENED, MANIFEST, STATE
from store.errors import CheckpointError
from store.files import remove_leftovers, sha256_of
from store.home import Home
from store.identity import Identity
from store.ledger import Ledger
from store.lock import run_lock
from store.records import CheckpointKind, CheckpointRecord, EventRecord, LineageRecord
from store.report import REPORT_FILE
from store.sentences import num, what_is_missing

CHECKPOINT = re.compile(rf"step-(\d{{6,}})-boundary-(\d{{3,}})({INTERVENED})?")  # as `recording.checkpoint` names them
OF_RUN = re.compile(rf"{CHECKPOINT.pattern}({re.escape(DIVERGED)}(-\d+)?)?")  # also what was put aside
EARLIER = "report.earlier.html"  # in a run's folder: its report as it was before rows were lost


def recover(ledger: Ledger, place: Home, name: str, relations: RunRelations) -> list[EventRecord]:
    """Enter the run, if the ledger does not know it, and its whole checkpoints; returns what happened.

    The run's lock is held. A run that was killed before it was entered and has nothing yet is left to begin.
    `relations`: what the caller knows of those, beside what its folder says.
    """
    folder = place.run_folder(name)
    checkpoints.finish_background(folder)  # a session of this process that was interrupted did not wait for it
    remove_leftovers(folder / FOLDER)
    is_known = name in known_to(ledger)
    own = identity.read(folder)
    records = ledger.reading.checkpoints(name) if is_known else []
    # an outbox brings the rows that lead to its checkpoint, so the session enters that one
    box = Outbox.read(folder) if is_known else None
    paths = [path for path in unrecorded(folder, records) if box is None or path.name != box.name]
    if not is_known and own is None and not paths:
        return []
    if own is None:  # nothing else tells whether this ledger's run of that name is this one
        refuse_exchanged(folder, records)
    found, events = list[CheckpointRecord](), list[EventRecord]()
    for path in paths:  # newest first
        try:
            found.append(described(folder, path))
        except CheckpointError as wrong:
            if not found:
                text = f"the checkpoint {path.name} is not used: {wrong}"
                events.append(EventRecord("checkpoint passed over", text))
    done = [] if is_known else _enter(ledger, place, name, own, relations, found, is_bare=not paths)
    if found:
        run = ledger.open_run(name)
        for record in reversed(found):
            ledger.record_checkpoint(run, record)
        done.append(f"{num(len(found), 'checkpoint')} entered that the ledger did not have")
    if done:
        lost = what_is_missing(ledger.reading.gaps(name))
        kept = None  # the report that was made while nothing was lost; the next one will be without that
        if lost and (folder / REPORT_FILE).is_file() and not (folder / EARLIER).exists():
            shutil.copyfile(folder / REPORT_FILE, folder / EARLIER)
            kept = f"the report of before is {EARLIER}"
        text = "; ".join(filter(None, [*done, lost, kept]))
        events.append(EventRecord("recovered", text))
    return events


def twin_folder(place: Home, ledger: Ledger, name: str, expected: str) -> str | None:
    """Name the baseline of a run that is here while the ledger does not know it; `expected`: as it would be called."""
    known = known_to(ledger)
    for path in sorted(place.path.iterdir()):
        if path.is_dir() and path.name not in known and is_run(path):
            own = identity.read(path)
            if own.baseline_of == name if own is not None else path.name == expected:
                return path.name
    return None


def _enter(
    ledger: Ledger,
    place: Home,
    name: str,
    own: Identity | None,
    relations: RunRelations,
    found: Sequence[CheckpointRecord],
    *,
    is_bare: bool,
) -> list[str]:
    """Enter a run that the ledger does not know; a fork with its parent's history, as far as that is there.

    `is_bare`: no checkpoint of it is here, so a fork was killed before it had its parent's, and gets that now.
    """
    folder = place.run_folder(name)
    spec = kept_spec(ledger.reading, folder, name).spec
    relations, done = _relatives(ledger, place, name, own, relations)
    record = run_record(spec, relations, own.uid if own else None, own.host if own else {})
    forked_at = relations.lineage.stage + 1 if relations.lineage else None
    begun_at = [one for one in found if one.kind == "boundary" and one.num_boundaries == forked_at]
    if relations.lineage is not None and is_bare:
        begun_at = [_adopted(ledger, place, name, relations.lineage)]
        done.append(f"it has the checkpoint of {relations.lineage.parent} that it begins with")
    if begun_at:
        forks.enter(ledger, record, begun_at[0])
        run = ledger.open_run(name)
    else:
        run = ledger.start_run(record)
    is_done = bool(found) and found[0].num_boundaries == spec.curriculum.stages + 1
    ledger.set_status(run, "finished" if is_done else "stopped")
    return ["the ledger did not know the run, which was entered again from its folder", *done]


def _adopted(ledger: Ledger, place: Home, name: str, lineage: LineageRecord) -> CheckpointRecord:
    """Give a fork its parent's checkpoint. Raises UserError where that is not here any more."""
    parent = place.run_folder(lineage.parent)
    try:
        record = forks.boundary_checkpoint(ledger, parent, lineage.parent, lineage.stage)
    except (CheckpointError, UserError) as wrong:
        raise UserError(
            f"{name} is a fork that was killed before it had a checkpoint, and cannot get it any more: "
            f"{str(wrong).removesuffix('.')}. `evergreen rm {name}` removes it"
        ) from wrong
    forks.adopt_checkpoint(record, parent, place.run_folder(name))
    return record


def _relatives(
    ledger: Ledger, place: Home, name: str, own: Identity | None, relations: RunRelations
) -> tuple[RunRelations, list[str]]:
    """Say what the run is to runs that the ledger knows; a relative that is here is entered first."""
    lineage = relations.lineage or (own.lineage if own else None)
    member = relations.member or (own.member if own else None)
    baseline_of = relations.baseline_of or (own.baseline_of if own else None)
    study = member.study if member else None
    if member is None and own is None and relations == RunRelations():
        study = study_by_name(place, name)
    if study is not None and study not in {one.name for one in ledger.reading.studies()}:
        raise UserError(
            f"{name} is a run of the study {study}, which the ledger {ledger.engine.url!r} does not know: "
            "`evergreen study FILE` enters both again, and goes on"
        )
    done = []
    for relative in filter(None, (lineage.parent if lineage else None, baseline_of)):
        if relative not in known_to(ledger) and is_run(place.run_folder(relative)):
            with run_lock(place.run_folder(relative)):
                recover(ledger, place, relative, RunRelations())
        if relative not in known_to(ledger):
            done.append(f"it is not linked to {relative}, which is not here any more")
            lineage = None if lineage and lineage.parent == relative else lineage
            baseline_of = None if baseline_of == relative else baseline_of
    return RunRelations(lineage, member, baseline_of), done


def unrecorded(run_folder: Path, records: Sequence[CheckpointRecord]) -> list[Path]:
    """Find checkpoints of a run that none of its records names, newest first. Whatever else lies there is not ours."""
    known = {run_folder / record.folder for record in records}
    folders = [path for path in (run_folder / FOLDER).glob("*") if CHECKPOINT.fullmatch(path.name)]
    ours = [path for path in folders if path not in known and (path / MANIFEST).is_file()]
    return sorted(ours, key=_place, reverse=True)


def put_aside(run_folder: Path) -> list[Path]:
    """Find checkpoints of a run whose weights diverged, which no resume goes on from."""
    return [path for path in (run_folder / FOLDER).glob(f"*{DIVERGED}*") if OF_RUN.fullmatch(path.name)]


def described(run_folder: Path, path: Path) -> CheckpointRecord:
    """Say of a checkpoint what a ledger keeps of it. Raises `CheckpointError` where a file is not as it was written."""
    checkpoints.verify(path)
    progress = path / "progress" / STATE
    if not progress.is_file():
        raise CheckpointError(f"{progress} is missing.")
    at = json.loads(progress.read_text("utf-8"))
    step, num_boundaries, is_intervened = _place(path)
    if (at["step"], at["num_boundaries"]) != (step, num_boundaries):
        raise CheckpointError(f"{path} holds step {at['step']}, boundary {at['num_boundaries']}.")
    is_boundary = at["num_boundaries"] > at["stage"]  # no stage was begun since
    saved = checkpoints.describe(run_folder, path.name)
    kind: CheckpointKind = "intervention" if is_intervened else "boundary" if is_boundary else "periodic"
    return CheckpointRecord(step, num_boundaries, kind, **vars(saved))


def refuse_exchanged(run_folder: Path, records: Sequence[CheckpointRecord]) -> None:
    """Refuse to go on beside checkpoints that are whole and not the ones recorded: we would write over them."""
    for record in records:
        path = run_folder / record.folder
        if not (path / MANIFEST).is_file() or sha256_of(path / MANIFEST) == record.sha256:
            continue
        with suppress(CheckpointError):  # a broken one is passed over
            checkpoints.verify(path)
            raise UserError(
                f"{path} is a whole checkpoint, but not the one that the ledger recorded: either the ledger is of "
                "another home, or the folder was exchanged. Put the right one back; or move the folder out of "
                f"{path.parent} to go on without it"
            )


def _place(path: Path) -> tuple[int, int, bool]:
    """Read from its name where a checkpoint was made: steps, boundaries, and whether after an intervention."""
    found = CHECKPOINT.fullmatch(path.name)
    assert found is not None
    return int(found[1]), int(found[2]), found[3] is not None
