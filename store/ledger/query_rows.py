"""The rows of tables that `store.ledger.queries` answers with. None as environment or category means all of them.

Columns are explained where they are declared, in `store.ledger.tables` and in `store.records`. What the database sums
up comes as its own rows, with the columns that their query names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from store.records import (
    ArmRecord,
    CellRecord,
    InterventionRecord,
    ItemRecord,
    MeasurementRecord,
    MemberRecord,
    NetworkRecord,
    PickRecord,
    SampleRecord,
    StudyRecord,
)

Row = TypeVar("Row")
Key = TypeVar("Key", bound=Hashable)


def by_key(rows: Iterable[Row], key: Callable[[Row], Key]) -> defaultdict[Key, list[Row]]:
    """Put rows with the same key together, in the order in which they come."""
    found: defaultdict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


@dataclass(frozen=True)
class RunRow:
    """A run as a list of runs shows it."""

    name: str
    uid: str
    status: str  # "running" also when its process died: see `store.lock.holder`
    seed: int
    model: str
    objective: str
    scheduler: str | None
    bandit: str
    num_steps: int  # done
    num_boundaries: int  # done
    created_at: str
    ended_at: str | None
    last_step_at: str | None
    parent: str | None  # the run it was forked from
    parent_stage: int | None  # at the boundary after this stage
    study: str | None
    setting: str | None  # the label of its setting there
    baseline_of: str | None  # the run whose twin with other settings this is


@dataclass(frozen=True)
class StudyRow(StudyRecord):
    """A study."""

    created_at: str


@dataclass(frozen=True)
class MemberRow(MemberRecord):
    """A run's place in a study."""

    run: str
    seed: int
    status: str


@dataclass(frozen=True)
class Pulse:
    """Where a run stands: equal ones mean that nothing was written in between."""

    status: str
    num_steps: int  # done
    num_stages: int  # begun
    num_boundaries: int  # done
    num_events: int


@dataclass(frozen=True)
class TaskSetRow:
    """Held-out tasks that a category was measured on."""

    environment: str
    category: str
    purpose: str  # as a `HoldoutRecord` has it
    sha256: str  # of what tells the tasks: prompts, and truths where they came with them
    first: int  # after which stage
    last: int


@dataclass(frozen=True)
class StageRow:
    """A stage that has started."""

    stage: int
    environment: str | None  # None in flat mode
    start_step: int
    num_steps: int
    replay: float
    end_step: int | None  # None while it is open
    stop_reason: str | None
    started_at: str
    ended_at: str | None


@dataclass(frozen=True)
class StepRow:
    """A step that is done."""

    step: int
    stage: int
    stage_step: int
    seconds: float
    num_tokens: int
    num_samples: int
    created_at: str


@dataclass(frozen=True)
class BoundaryRow:
    """A boundary that has been measured."""

    after_stage: int
    step: int
    seconds: float
    settings: Mapping[str, Any]  # of generation
    created_at: str


@dataclass(frozen=True)
class EventRow:
    """A decision or an incident."""

    step: int
    after_stage: int | None
    kind: str
    text: str
    data: Mapping[str, Any]
    created_at: str


# --- records with their place in the run: its columns come first -------------------------------------------


@dataclass(frozen=True)
class _OfStep:
    step: int


@dataclass(frozen=True)
class _OfStage(_OfStep):
    stage: int


@dataclass(frozen=True)
class _OfSample(_OfStep):
    after_stage: int | None  # set when it was made at a boundary


@dataclass(frozen=True)
class _OfCell:
    after_stage: int
    eval_config: str  # hash of the generation settings: only equal ones compare


@dataclass(frozen=True)
class PickRow(PickRecord, _OfStage):
    """A decision: of a bandit about a slot of a batch, or of a scheduler at the steps done before its stage."""


class ArmPath(NamedTuple):
    """Where an arm's probability began, went and ended."""

    bandit: str
    arm: str
    probability_start: float
    probability_min: float
    probability_max: float
    probability_end: float
    value_end: float | None
    num_picks: int


@dataclass(frozen=True)
class ArmRow(ArmRecord, _OfStep):
    """What a bandit knew of an arm after a step."""


@dataclass(frozen=True)
class SampleRow(SampleRecord, _OfSample):
    """A completion kept to be read."""


@dataclass(frozen=True)
class CellRow(CellRecord, _OfCell):
    """A metric after a stage on an environment."""


@dataclass(frozen=True)
class MetricRow:
    """A training metric, by name."""

    step: int
    metric: str
    environment: str | None
    category: str | None
    value: float | None
    n: float


@dataclass(frozen=True)
class _OfBoundary:
    after_stage: int


@dataclass(frozen=True)
class _OfPlace(_OfBoundary):
    item: int  # its place among the category's tasks, from 0


@dataclass(frozen=True)
class NetworkRow(NetworkRecord, _OfBoundary):
    """A number of the network at a boundary."""


@dataclass(frozen=True)
class ProbeRow:
    """A probe; its points are rows of their own."""

    after_stage: int
    kind: str
    task: str
    seed: int
    sha256: str  # of the protocol: only equal ones compare
    protocol: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True)
class ProbePointRow:
    """A number along a probe."""

    after_stage: int
    kind: str
    task: str
    seed: int
    step: int
    metric: str
    value: float | None


@dataclass(frozen=True)
class InterventionRow(InterventionRecord):
    """A change of the policy between two stages."""


@dataclass(frozen=True)
class ItemRow(ItemRecord, _OfPlace):
    """A task evaluated at a boundary."""


@dataclass(frozen=True)
class MeasurementRow(MeasurementRecord, _OfBoundary):
    """A look at the policy, and what it cost."""


@dataclass(frozen=True)
class HoldoutQueryRow:
    """A look at held-out tasks that could change a decision."""

    after_stage: int
    environment: str
    asker: str
    value: float | None


@dataclass(frozen=True)
class GroupScores:
    """How the samples of a group were scored; None where one could not be."""

    step: int
    slot: int
    environment: str
    category: str
    values: Sequence[float | None]
    correct: Sequence[bool | None]
