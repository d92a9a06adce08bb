"""Where a run's numbers go beside MLflow: the same pages, each place with a cursor of its own.

A place's own module is imported, with the library that it needs, when something is to be sent. How far a place has got
is in a file of the run's folder, which is written after the values.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from store.errors import TrackerError
from store.files import write_text
from store.ledger import Reading
from store.ledger.query_rows import RunRow
from store.run_status import status
from store.tracker import names
from store.tracker.names import Words, milliseconds
from store.tracker.pages import Cursor, HistoryPages, covered

KINDS = {"wandb": "Weights & Biases", "tensorboard": "TensorBoard"}  # each the name of its package and of our extra
FILES = tuple(f"{kind}.json" for kind in KINDS)  # in a run's folder


def missing(kind: str) -> str | None:
    """Say how to install what a place needs, where it is not here."""
    if find_spec(kind) is not None:
        return None
    return f"{KINDS[kind]} needs the package {kind}, which is not here: pip install 'evergreen-rl[{kind}]'"


@dataclass(frozen=True)
class Destination:
    """A place beside MLflow."""

    kind: str
    home: str  # the home folder: what is kept on this machine is in its folder of that kind
    project: str

    @property
    def name(self) -> str:
        """Name it for a person."""
        return KINDS[self.kind]


@dataclass(frozen=True)
class Kept:
    """How far a place has got with a run."""

    uid: str = ""
    cursor: Cursor = field(default_factory=Cursor)
    reach: Cursor = field(default_factory=Cursor)  # at a server, values may be there up to this position
    status: str = ""  # of the run, when it was last told
    file: str = ""  # the event file, or the folder of an offline run
    num_bytes: int = 0  # of the event file that are certain
    generation: int = 1  # counts the times that the history was begun anew
    mode: str = ""  # Weights & Biases': online, offline
    project: str = ""  # theirs, too
    earlier: Sequence[str] = ()  # their projects that the run was in before

    @classmethod
    def read(cls, folder: Path, kind: str) -> Kept:
        """Read it from a run's folder; where nothing readable is, nothing was sent."""
        try:
            raw = json.loads((folder / f"{kind}.json").read_text())
            places = {"cursor": Cursor(**raw["cursor"]), "reach": Cursor(**raw.get("reach", {}))}
            return cls(**{**raw, **places})
        except (OSError, TypeError, ValueError, KeyError):
            return cls()

    def write(self, folder: Path, kind: str) -> None:
        """Put it into the run's folder, whole or not at all."""
        write_text(folder / f"{kind}.json", json.dumps(asdict(self)))


@dataclass(frozen=True)
class Portrait:
    """What a run is, beside its numbers."""

    name: str
    uid: str
    created_s: float  # since 1970
    params: Words
    tags: Words
    note: str
    group: str  # its study, else its setting

    @classmethod
    def of(cls, read: Reading, run: RunRow, store_uri: str) -> Portrait:
        """Draw it as MLflow's record has it."""
        spec = read.spec(run.name)
        tags = names.tags(run, spec, store_uri) | names.caveats(read.task_sets(run.name), read.gaps(run.name))
        tags |= {names.SETTING: names.setting(run), names.SEED: str(run.seed)}
        created_s = milliseconds(run.created_at) / 1000
        group = run.study or names.setting(run)
        return cls(run.name, run.uid, created_s, names.params(run, spec), tags, names.note(run, spec), group)


@dataclass(frozen=True)
class Delivery:
    """What a place is to be brought, and from where on."""

    kept: Kept
    is_new: bool  # nothing of this history is there; of an earlier one, something may be
    history: HistoryPages
    until: Cursor
    portrait: Portrait
    status: str
    is_wanted: Callable[[], bool]


class Sink(Protocol):
    """A module of a place: `store.tracker.tensorboard_files`, `store.tracker.wandb_runs`."""

    def has(self, to: Destination, run: str, kept: Kept) -> bool:
        """Whether what was brought there of a run still is, as far as this machine can tell."""
        ...

    def send(self, to: Destination, folder: Path, delivery: Delivery) -> int:
        """Bring it there, and write down how far it got; returns the number of values. Raises `TrackerError`."""
        ...

    def forget(self, to: Destination, run: str, kept: Kept) -> bool:
        """Delete what is there of a run; whether anything was. Raises `TrackerError`."""
        ...


def is_complete(to: Destination, run: RunRow, boundary_at: str | None, folder: Path) -> bool:
    """Whether a place has all of a finished run, whose last boundary was written at this time."""
    kept, word = Kept.read(folder, to.kind), status(run.status, folder)
    end = Cursor(run.num_steps, run.num_boundaries, run.last_step_at, boundary_at)
    is_sent = (kept.uid, kept.cursor, kept.status) == (run.uid, end, word) and word == "finished"
    return is_sent and _module(to).has(to, folder.name, kept)


def catch_up(
    to: Destination, read: Reading, run: str, folder: Path, store_uri: str, is_wanted: Callable[[], bool]
) -> int:
    """Send what a place lacks; returns the number of values. Raises `TrackerError`."""
    kept, row = Kept.read(folder, to.kind), read.run(run)
    # In this order: what a checkpoint covers meanwhile is in the history and not sent yet, never the other way round.
    until = covered(read, run)
    history = HistoryPages(read, row)
    is_new = kept.uid != row.uid or not (history.has(kept.cursor) and history.has(kept.reach))
    if is_new:
        generation = kept.generation + 1 if kept.uid == row.uid else 1
        file = kept.file if kept.uid == row.uid else ""
        earlier = kept.earlier if kept.uid == row.uid else ()
        kept = Kept(row.uid, file=file, generation=generation, mode=kept.mode, project=kept.project, earlier=earlier)
    word, has_more = status(row.status, folder), any(True for _ in history.pages(kept.cursor, until))
    if kept.status == word and not has_more and _module(to).has(to, folder.name, kept):
        return 0
    if (remedy := missing(to.kind)) is not None:
        raise TrackerError(f"{remedy}.")
    portrait = Portrait.of(read, row, store_uri)
    return _module(to).send(to, folder, Delivery(kept, is_new, history, until, portrait, word, is_wanted))


def forget(to: Destination, folder: Path, uid: str) -> bool:
    """Delete what a place has of a run; whether it had anything. Raises `TrackerError`."""
    kept = Kept.read(folder, to.kind)
    if kept.uid not in ("", uid):  # another run's, in a folder that was copied
        return False
    return _module(to).forget(to, folder.name, replace(kept, uid=uid))


def told(kept: Kept, cursor: Cursor, status: str = "") -> Kept:
    """Move on."""
    return replace(kept, cursor=cursor, status=status or kept.status)


def _module(to: Destination) -> Sink:
    modules = {"wandb": "store.tracker.wandb_runs", "tensorboard": "store.tracker.tensorboard_files"}
    module: Sink = import_module(modules[to.kind])
    return module
