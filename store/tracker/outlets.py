"""The places that a tracker sends to, as the process that follows a run sees them; and where MLflow shows one."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from store.files import write_text
from store.tracker import saved_view, sinks
from store.tracker.record import MlflowRecord, MlflowRun, Target, speaking_of
from store.tracker.sinks import Destination, Kept
from store.tracker.sync import Source, catch_up

LINK = "mlflow.json"  # in a run's folder
REST_S = {"wandb": 60.0}  # between two passes while a run goes on: each opens a run of theirs, and closes it


@dataclass(frozen=True)
class Link:
    """Where MLflow's UI shows a run and those beside it: the ends of three URLs."""

    runs: str
    charts: str
    run: str

    def keep(self, folder: Path) -> None:
        """Write it into the run's folder, for pages that lead there without asking MLflow; a full disk goes without."""
        if Link.kept(folder) != self:
            with suppress(OSError):
                write_text(folder / LINK, json.dumps(asdict(self)))

    @classmethod
    def kept(cls, folder: Path) -> Link | None:
        """Read it back; None where nothing was sent yet."""
        try:
            return cls(**json.loads((folder / LINK).read_text()))
        except (OSError, TypeError, ValueError):
            return None


def link_to(record: MlflowRecord, entry: MlflowRun | None) -> Link:
    """Address a run, or while it has no page those beside it."""
    at = record.experiment_id, record.has_view
    runs = saved_view.of_runs(*at)
    return Link(runs, saved_view.of_charts(*at), saved_view.of_run(at[0], entry.id) if entry else runs)


class Sent(NamedTuple):
    """What a pass did."""

    num_values: int
    step: int  # how far the place has got


class Outlet(Protocol):
    """A place."""

    says: str  # what its lines begin with
    rest_s: float  # least time between two passes while the run goes on

    def speaking(self) -> AbstractContextManager[None]:
        """Turn what goes wrong on the way there into a `TrackerError`."""
        ...

    def send(self, source: Source, is_mine: Callable[[], bool]) -> Sent:
        """Bring it up to date."""
        ...

    def drop(self) -> None:
        """Begin anew after a failure."""
        ...


class MlflowOutlet:
    """MLflow's record."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.says, self.rest_s = "", 0.0
        self._target, self._folder = target, folder
        self._record: MlflowRecord | None = None

    def speaking(self) -> AbstractContextManager[None]:
        """See `speaking_of`."""
        return speaking_of(self._target)

    def send(self, source: Source, is_mine: Callable[[], bool]) -> Sent:
        """Make a pass, and keep where the run is seen."""
        self._record = self._record or MlflowRecord(self._target)
        sent = catch_up(source, self._record, is_mine)
        link_to(self._record, sent.entry).keep(self._folder)
        return Sent(sent.num_values, sent.step)

    def drop(self) -> None:
        """Open the record again."""
        self._record = None


class SinkOutlet:
    """A place beside MLflow, which says itself what goes wrong."""

    def __init__(self, to: Destination) -> None:
        self._to = to
        self.says, self.rest_s = f"{to.name}: ", REST_S.get(to.kind, 0.0)

    def speaking(self) -> AbstractContextManager[None]:
        """Nothing is added."""
        return nullcontext()

    def send(self, source: Source, is_mine: Callable[[], bool]) -> Sent:
        """Make a pass."""
        num_values = sinks.catch_up(self._to, source.read, source.run, source.folder, source.url, is_mine)
        return Sent(num_values, Kept.read(source.folder, self._to.kind).cursor.step)

    def drop(self) -> None:
        """Nothing is held between two passes."""
