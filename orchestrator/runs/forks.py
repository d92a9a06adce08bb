"""What a fork has of its parent: slices, the checkpoint of a boundary, the history up to there. Loads no torch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.errors import UserError
from orchestrator.recording.saved_state import EXPECTED, MAY_BE
from orchestrator.rollout.task_sampler import TaskSampler
from orchestrator.runs import stop_reasons
from orchestrator.runs.provenance import ENVIRONMENT, POLICY, changed_code, changed_environments, differences
from store import checkpoints
from store.errors import CheckpointError
from store.files import copy_content, new_folder, write_bytes
from store.identity import SLICES
from store.ledger import Ledger, Reading
from store.records import CheckpointRecord, EventRecord, RunRecord


def boundary_checkpoint(ledger: Ledger, folder: Path, run: str, stage: int) -> CheckpointRecord:
    """Find the whole checkpoint of a run's boundary after a stage; UserError says which there are, and what is bad."""
    for record in ledger.reading.checkpoints(run):
        if record.kind == "boundary" and record.num_boundaries == stage + 1:
            checkpoints.verify(folder / record.folder, record.sha256)
            diverged = stop_reasons.last_divergence(ledger.reading.events(run))
            try:
                stop_reasons.healthy_under(diverged)(folder / record.folder)
            except CheckpointError as wrong:
                raise UserError(f"after stage {stage} {run} had diverged ({wrong}): take an earlier stage") from wrong
            return record
    raise UserError(no_boundary(ledger.reading, run, stage, "fork"))


def no_boundary(reading: Reading, run: str, stage: int, verb: str, *arguments: str) -> str:
    """Say of which boundaries a run has checkpoints; of one that its parent has, also the command."""
    boundaries = [r.num_boundaries - 1 for r in reading.checkpoints(run) if r.kind == "boundary"]
    there = ", ".join(map(str, reversed(boundaries))) or "none"
    text = f"{run} has no checkpoint of the boundary after stage {stage}; there are: {there}"
    about = reading.run(run)
    if about.parent is not None and stage < (about.parent_stage or 0):
        command = " ".join(["evergreen", verb, about.parent, *arguments, "--stage", str(stage)])
        text += f"; it was forked after stage {about.parent_stage}: `{command}`"
    return text


def require_fit(tasks: TaskSampler, checkpoint: Path) -> None:
    """Refuse a fork whose data is not what its parent chose tasks from, while nothing of it is written.

    Raises UserError or EnvironmentFault. The tasks are then where the fork will find them in its own checkpoint.
    """
    tasks.load_state(checkpoints.open_checkpoint(checkpoint, EXPECTED, MAY_BE).read_json("tasks"))


def adopt_checkpoint(record: CheckpointRecord, parent: Path, folder: Path) -> None:
    """Give a run's folder another's slices and checkpoint. Its files never change: where the disk can, they are shared.

    The checkpoint comes last: once it is there, the run needs its parent's folder for nothing that it begins with.
    """
    if (parent / SLICES).is_file():
        write_bytes(folder / SLICES, (parent / SLICES).read_bytes())

    def link_or_copy(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without links
            shutil.copy2(source, target)

    with new_folder(folder / record.folder) as aside:
        copy_content(parent / record.folder, aside, link_or_copy)


def enter(ledger: Ledger, forked: RunRecord, checkpoint: CheckpointRecord) -> list[str]:
    """Enter a fork that has its first checkpoint, with its parent's history; says what is not bit for bit with that."""
    assert forked.lineage is not None
    texts = _not_bitwise(forked.lineage.parent, ledger.reading.host(forked.lineage.parent), forked.host)
    ledger.fork_run(forked, checkpoint, [EventRecord("not bitwise", text) for text in texts])
    return texts


def _not_bitwise(parent: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say what a fork has under the same name and is another than its parent's: environments, own parts, the policy."""
    shared = f"what the fork shares with {parent} was measured on the earlier one"
    environments = [f"{ENVIRONMENT}{one}" for one in changed_environments(before, now)]
    changed = sorted({*environments, *changed_code(before, now)})
    texts = [
        f"{part} is not what it was for {parent} (its data, options or code): {shared}"
        if part.startswith(ENVIRONMENT)
        else f"the code of {part} is not what it was for {parent} (its file)"
        for part in changed
    ]
    read = [text for text in differences(before, now) if text.startswith(POLICY)]
    return [*texts, *(f"{text}: {shared}" for text in read)]
