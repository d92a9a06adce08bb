"""How far a record goes, and how far it may: the cursor, and what a checkpoint covers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from store.ledger import Reading
from store.ledger.query_rows import BoundaryRow, StepRow


@dataclass(frozen=True)
class Cursor:
    """A place in a run's history; with the times of its last rows, since a resumed run may rewrite it."""

    step: int = 0
    num_boundaries: int = 0
    step_at: str | None = None  # when that step's row was written; None: no such row
    boundary_at: str | None = None  # the same of the last boundary

    def as_tag(self) -> str:
        """Write it for MLflow to keep."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_tag(cls, text: str | None) -> Cursor:
        """Read it back; without one nothing was sent."""
        return cls(**json.loads(text)) if text else cls()


def position(
    step: int, num_boundaries: int, steps: Sequence[StepRow], bounds: Sequence[BoundaryRow]
) -> Cursor:
    """Make a position with the times that the ledger has for it."""
    step_at = next((row.created_at for row in steps if row.step == step), None)
    boundary_at = next((row.created_at for row in bounds if row.after_stage == num_boundaries - 1), None)
    return Cursor(step, num_boundaries, step_at, boundary_at)


def covered(read: Reading, name: str) -> Cursor:
    """Find how far a run's history is certain: a run that dies now goes on from its newest checkpoint.

    A finished run's is certain to its end, whatever became of its checkpoints.
    """
    run = read.run(name)
    if run.status == "finished":
        return Cursor(run.num_steps, run.num_boundaries)
    newest = next(iter(read.checkpoints(name)), None)
    return Cursor(newest.step, newest.num_boundaries) if newest else Cursor()
