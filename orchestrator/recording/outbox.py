"""What a run did while its database stayed away: kept on disk, and recorded in the ledger on resume.

The file is written before the checkpoint that it names. So a checkpoint from beyond the ledger is there only together
with the rows that the ledger lacks; one without the other is of no use, and resume passes it over.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from store import checkpoints
from store.files import write_text
from store.ledger import Ledger, RunHandle
from store.ledger.query_rows import RunRow
from store.records import BoundaryRecord, CheckpointKind, CheckpointRecord, StepRecord

FILE = "outbox.json"  # in a run's folder

Record = StepRecord | BoundaryRecord
_KINDS: dict[str, type[Record]] = {"step": StepRecord, "boundary": BoundaryRecord}


@dataclass(frozen=True)
class Outbox:
    """A position that the ledger does not know: its checkpoint, and the records that lead to it."""

    why: str  # it was not recorded
    step: int
    num_boundaries: int
    kind: CheckpointKind  # of the checkpoint
    name: str  # of its folder
    records: Sequence[Record] = ()

    def write(self, run_folder: Path) -> None:
        """Keep it, durably."""
        names = {kind: name for name, kind in _KINDS.items()}
        whole = [replace(one, arms=list(one.arms)) if isinstance(one, StepRecord) else one for one in self.records]
        data = {**vars(self), "records": [[names[type(one)], asdict(one)] for one in whole]}
        write_text(run_folder / FILE, json.dumps(data, default=lambda number: number.item()))  # numpy's

    @classmethod
    def read(cls, run_folder: Path) -> Outbox | None:
        """Read what was kept; None: nothing was."""
        path = run_folder / FILE
        if not path.is_file():
            return None
        data = json.loads(path.read_text("utf-8"))
        records = [TypeAdapter(_KINDS[kind]).validate_python(raw) for kind, raw in data["records"]]
        return cls(**{**data, "records": records})

    def follows(self, run: RunRow) -> bool:
        """Whether a ledger that knows so much of a run lacks these records and nothing before them."""
        steps = sum(isinstance(one, StepRecord) for one in self.records)
        boundaries = int(any(isinstance(one, BoundaryRecord) for one in self.records))
        return (
            self.step - steps <= run.num_steps <= self.step
            and self.num_boundaries - boundaries <= run.num_boundaries <= self.num_boundaries
        )

    def checkpoint(self, run_folder: Path) -> CheckpointRecord:
        """Describe the checkpoint as its folder is. Raises `CheckpointError`."""
        saved = checkpoints.describe(run_folder, self.name)
        return CheckpointRecord(self.step, self.num_boundaries, self.kind, **vars(saved))

    def tell(self, ledger: Ledger, run: RunHandle, run_folder: Path) -> None:
        """Tell the ledger what it lacks. A part of it may have arrived after all."""
        known = ledger.reading.run(run.name)
        for record in self.records:
            if isinstance(record, StepRecord):
                if record.step > known.num_steps:
                    ledger.record_step(run, record)
            elif record.after_stage >= known.num_boundaries:
                ledger.record_boundary(run, record)
        ledger.record_checkpoint(run, self.checkpoint(run_folder))


def forget(run_folder: Path) -> None:
    """Delete what was kept: the ledger knows it, or it is of no use."""
    (run_folder / FILE).unlink(missing_ok=True)
