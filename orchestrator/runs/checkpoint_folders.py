"""The checkpoints in a run's folder, by their names and by what they say of themselves. Loads no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.progress import Progress
from store import checkpoints
from store.checkpoints import FOLDER, MANIFEST, STATE
from store.errors import CheckpointError
from store.files import sha256_of
from store.records import CheckpointRecord

NAME = re.compile(r"step-(\d{6,})-boundary-(\d{3,})")


def name_of(at: Progress) -> str:
    """Name the folder of a checkpoint of this position."""
    return f"step-{at.step:06d}-boundary-{at.num_boundaries:03d}"


def unrecorded(run_folder: Path, records: Sequence[CheckpointRecord]) -> list[Path]:
    """Find checkpoints of a run that none of its records names, newest first. Whatever else lies there is not ours."""
    known = {run_folder / record.folder for record in records}
    folders = [path for path in (run_folder / FOLDER).glob("*") if NAME.fullmatch(path.name)]
    ours = [path for path in folders if path not in known and (path / MANIFEST).is_file()]
    return sorted(ours, key=_place, reverse=True)


def described(run_folder: Path, path: Path) -> CheckpointRecord:
    """Say of a checkpoint what a ledger keeps of it. Raises `CheckpointError` where a file is not as it was written."""
    checkpoints.verify(path)
    progress = path / "progress" / STATE
    if not progress.is_file():
        raise CheckpointError(f"{progress} is missing.")
    at = json.loads(progress.read_text("utf-8"))
    if (at["step"], at["num_boundaries"]) != _place(path):
        raise CheckpointError(f"{path} holds step {at['step']}, boundary {at['num_boundaries']}.")
    return CheckpointRecord(
        at["step"],
        at["num_boundaries"],
        "boundary" if at["num_boundaries"] > at["stage"] else "periodic",  # no stage was begun since
        path.relative_to(run_folder).as_posix(),
        sha256_of(path / MANIFEST),
        sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
    )


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


def _place(path: Path) -> tuple[int, int]:
    found = NAME.fullmatch(path.name)
    assert found is not None
    return int(found[1]), int(found[2])
