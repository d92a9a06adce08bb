"""Interrupting runs at any moment, and comparing how they end."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.callbacks import Callback
from orchestrator.progress import Progress
from orchestrator.runs.catalog import opened
from store import checkpoints
from store.records import BoundaryRecord, PickRecord, StepRecord
from store.run_summary import facts_with_digests


@dataclass(frozen=True)
class Ending:
    """All that two runs of one spec must have in common."""

    digest: str
    digest_all: str
    weights: dict[str, bytes]  # by file


def newest_checkpoint(home: Path, name: str) -> Path:
    """Find the folder of a run's newest whole checkpoint."""
    with opened(home, name) as (place, ledger):
        folder = place.run_folder(name)
        record, _ = checkpoints.newest_valid(folder, ledger.reading.checkpoints(name))
    assert record is not None
    return folder / record.folder


def ending(home: Path, name: str) -> Ending:
    """Read how a run ended."""
    story = told(home, name)
    weights = newest_checkpoint(home, name) / "weights"
    files = [path for path in sorted(weights.rglob("*")) if path.is_file()]
    return Ending(
        story["digest"], story["digest_all"], {str(path.relative_to(weights)): path.read_bytes() for path in files}
    )


def told(home: Path, name: str) -> dict[str, Any]:
    """Tell a run's story."""
    with opened(home, name) as (place, ledger):
        return facts_with_digests(ledger, place, name)


def series(home: Path, name: str, metric: str) -> list[float | None]:
    """Read a metric of the whole batch, step by step."""
    with opened(home, name) as (_, ledger):
        return [point.value for point in ledger.reading.series(name, metric)]


def choices(home: Path, name: str, step: int) -> tuple[list[PickRecord], list[tuple[int, str]]]:
    """Read what a step was filled with: the picks, with their probabilities, and the task of each of a few slots."""
    with opened(home, name) as (_, ledger):
        picks = ledger.reading.picks(name, step - 1, step)
        kept = ledger.reading.samples(name, limit=10_000)
    drawn = {(one.slot, one.task_key) for one in kept if one.step == step and one.after_stage is None}
    return [replace(pick, signal=None) for pick in picks], sorted(drawn)


def component(home: Path, name: str, component: str, file: str = "state.json") -> Any:
    """Read a component of a run's newest checkpoint, a file of JSON."""
    return json.loads((newest_checkpoint(home, name) / component / file).read_text())


class Killed(BaseException):
    """Ends a run as a kill does: no handler of errors sees it."""


class At(Callback):
    """Does something at the n-th stage, step or boundary of a process's time with a run, right after its record."""

    def __init__(self, n: int, what: Callable[[], None], kinds: Sequence[str] = ("stage", "step", "boundary")) -> None:
        self.n, self.what, self.kinds = n, what, kinds

    def stage(self, at: Progress) -> None:
        self._count("stage")

    def step(self, at: Progress, record: StepRecord) -> None:
        self._count("step")

    def boundary(self, at: Progress, record: BoundaryRecord) -> None:
        self._count("boundary")

    def _count(self, kind: str) -> None:
        if kind in self.kinds:
            self.n -= 1
            if self.n == 0:
                self.what()


def kill() -> None:
    """Be killed."""
    raise Killed
