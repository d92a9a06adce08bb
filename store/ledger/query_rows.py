"""The rows that `store.ledger.queries` answers with. None as environment or category means all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Run:
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
    study: str | None  # the study it is of
    setting: str | None  # the label of its setting there
    baseline_of: str | None  # the run whose twin with another bandit this is


@dataclass(frozen=True)
class Study:
    """Many runs that are to be compared."""

    name: str
    plan: Mapping[str, Any]  # base spec, settings, seeds, what is compared
    created_at: str


@dataclass(frozen=True)
class Member:
    """A run's place in a study."""

    study: str
    setting: str  # a label, the same for every seed
    changes: Mapping[str, Any]  # dotted spec field -> value
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


Span = tuple[int, int]  # the first and the last of a stretch


@dataclass(frozen=True)
class Gaps:
    """What a run's record lacks of what was done, for a ledger that was lost took it along."""

    steps: tuple[Span, ...]
    boundaries: tuple[Span, ...]

    def __bool__(self) -> bool:
        return bool(self.steps or self.boundaries)

    def has_step(self, step: int) -> bool:
        """Whether a step is one of those that are missing."""
        return any(first <= step <= last for first, last in self.steps)

    def has_boundary(self, after_stage: int) -> bool:
        """Whether a boundary is one of those that are missing."""
        return any(first <= after_stage <= last for first, last in self.boundaries)


@dataclass(frozen=True)
class Stage:
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
class Boundary:
    """A boundary that has been measured."""

    after_stage: int
    step: int
    seconds: float
    settings: Mapping[str, Any]  # of generation
    created_at: str


@dataclass(frozen=True)
class Cell:
    """A metric after a stage on an environment."""

    after_stage: int
    environment: str | None
    category: str | None
    metric: str
    split: str
    eval_config: str  # hash of the generation settings: only equal ones compare
    value: float | None
    stderr: float | None
    num_items: int
    samples_per_item: int


@dataclass(frozen=True)
class Holdout:
    """The tasks that a category was evaluated on."""

    environment: str
    category: str
    purpose: str  # a cell's split
    sha256: str  # of the task keys
    num_items: int


@dataclass(frozen=True)
class StageMean:
    """A training metric of the environment that a stage trained, averaged over the stage's last steps."""

    stage: int
    value: float | None
    n: float


@dataclass(frozen=True)
class StagePoint:
    """The same, averaged over some steps inside the stage."""

    stage: int
    stage_step: float  # mean of the steps, from 1
    value: float | None
    n: float


@dataclass(frozen=True)
class Point:
    """A training metric at a step."""

    step: int
    value: float | None
    n: float


@dataclass(frozen=True)
class Step:
    """A step that is done."""

    step: int
    stage: int
    stage_step: int
    seconds: float
    num_tokens: int
    num_samples: int
    created_at: str


@dataclass(frozen=True)
class Pooled:
    """A training metric of a step's whole batch."""

    step: int
    metric: str
    value: float | None


@dataclass(frozen=True)
class Number:
    """A training metric, by name."""

    step: int
    metric: str
    environment: str | None
    category: str | None
    value: float | None
    n: float


@dataclass(frozen=True)
class Extent:
    """How a training metric was over all steps that have it."""

    metric: str
    environment: str | None  # None: over the whole batch
    mean: float
    largest: float


@dataclass(frozen=True)
class Pick:
    """A decision: of a bandit about a slot of a batch, or of a scheduler about a stage."""

    step: int  # a scheduler's pick: the steps done before its stage
    stage: int
    level: str
    slot: int
    role: str
    environment: str
    arm: str
    probability: float
    signal: float | None


@dataclass(frozen=True)
class Arm:
    """What a bandit knew of an arm after a step."""

    step: int
    bandit: str
    arm: str
    probability: float
    value: float | None
    num_picks: int


@dataclass(frozen=True)
class Category:
    """A category that can be picked."""

    environment: str
    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class GroupScores:
    """How the samples of a group were scored; None where one could not be."""

    step: int
    slot: int
    values: Sequence[float | None]
    correct: Sequence[bool | None]


@dataclass(frozen=True)
class CurvePoint:
    """A training metric of an environment, averaged over some steps."""

    metric: str
    environment: str
    step: float  # mean of the steps
    value: float | None
    n: float


@dataclass(frozen=True)
class ArmPoint:
    """An arm's probability, averaged over some steps."""

    bandit: str
    arm: str
    step: float  # mean of the steps
    probability: float


@dataclass(frozen=True)
class ArmPath:
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
class StagePick:
    """A scheduler's choice of a stage's environment."""

    stage: int
    arm: str
    probability: float
    signal: float | None  # the reward it was given at the stage's end


@dataclass(frozen=True)
class Allocation:
    """Where samples went."""

    stage: int
    environment: str
    category: str
    role: str
    num_groups: int
    num_samples: int
    num_scored: int
    num_correct: int
    value_sum: float


@dataclass(frozen=True)
class Taught:
    """How many groups of a category had anything to compare: their samples did not all earn the same."""

    environment: str
    category: str
    num_groups: int
    num_taught: int


@dataclass(frozen=True)
class Unscorable:
    """How often a score could not be found, and why."""

    environment: str
    reason: str
    num_samples: int


@dataclass(frozen=True)
class Sample:
    """A completion kept to be read."""

    step: int
    after_stage: int | None  # set when it was made at a boundary
    slot: int
    sample: int
    environment: str
    category: str
    task_key: str
    messages: Sequence[Mapping[str, str]]
    completion: str
    value: float | None
    correct: bool | None
    reason: str | None


@dataclass(frozen=True)
class Event:
    """A decision or an incident."""

    step: int
    after_stage: int | None
    kind: str
    text: str
    data: Mapping[str, Any]
    created_at: str
