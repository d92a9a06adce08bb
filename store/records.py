"""What is written to the ledger: frozen records of plain data, by name rather than key.

An environment and a category are given by name everywhere; `None` as a category means the environment as a
whole, `None` as an environment means all of them (the pooled value).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from store.secrets import without_logins

Role = Literal["main", "replay"]
Level = Literal["scheduler", "replay", "category", "flat"]
# Of the weights that wrote a sample: one for all of it, or (version, start, end) of every stretch.
Versions = int | Sequence[tuple[int, int, int]]

DECISION = "decision"  # the kind of an event that is no trouble: who chose what, and why
INTERVENTION = "intervention"  # another: what was done to the policy between two stages, or why not
NEWS = (DECISION, INTERVENTION)
GUARD = "guard"  # a limit of the spec's on a step's numbers was passed, and what was done
QUARANTINE = "quarantine"  # of a category or environment that cannot be scored: set aside, tried again
ENDED = ("stopped", "failed")  # others: why a run is over before its end
DIVERGENCE = "diverged"  # logits were not finite: of which weights, and how to go on; a run that goes back forgets it
FINAL: Final = "final"  # the pool for a study's end: a holdout's purpose, its cells' split, and who asks
EVERYTHING = "*"  # names the bandit that sees all environments: the scheduler, or the one of flat mode
REGISTERED_SEEDS = "num_seeds_registered"  # in a study's plan, once a run has begun: seeds it had before
REGISTERED_FIRST = "first_setting_registered"  # likewise: the label of the setting that its file had first


@dataclass(frozen=True)
class CategoryRecord:
    """A category as the run knows it."""

    name: str
    trainable: bool
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class EnvironmentRecord:
    """An environment as the run knows it; a changed version is a different environment."""

    name: str
    type: str
    version: str
    closed: bool
    options: Mapping[str, Any]
    categories: Sequence[CategoryRecord]


@dataclass(frozen=True)
class LineageRecord:
    """Where a forked run comes from."""

    parent: str  # a run's name
    stage: int  # it began at the boundary after this stage


@dataclass(frozen=True)
class StudyRecord:
    """A study at its start: many runs that are to be compared."""

    name: str  # unique in its home
    plan: Mapping[str, Any]  # resolved: base spec, settings, seeds, what is compared


@dataclass(frozen=True)
class MemberRecord:
    """A run's place in a study."""

    study: str  # a study's name
    setting: str  # the label of its setting, the same for every seed
    changes: Mapping[str, Any]  # dotted spec field -> value: what makes this setting


@dataclass(frozen=True)
class RunRecord:
    """A run at its start."""

    uid: str  # random, hex
    name: str  # unique in its home
    seed: int
    model: str
    objective: str
    scheduler: str | None  # None in flat mode
    bandit: str
    spec: Mapping[str, Any]  # resolved
    environments: Sequence[EnvironmentRecord]
    host: Mapping[str, Any] = field(default_factory=dict)  # versions, threads, device; not in digests
    lineage: LineageRecord | None = None  # None: not forked
    member: MemberRecord | None = None  # None: of no study
    baseline_of: str | None = None  # the run whose twin with other settings this is


@dataclass(frozen=True)
class PickRecord:
    """One decision of a bandit (a slot of a batch) or of a scheduler (a stage)."""

    slot: int  # position in the batch; 0 for a scheduler's pick
    level: Level
    role: Role
    environment: str
    arm: str  # the category's name; the environment's for a scheduler or replay; "env/category" in flat mode
    probability: float  # with which it was drawn, at the time
    signal: float | None = None  # mean of its groups', before any scaling; None: no observation


@dataclass(frozen=True)
class GroupRecord:
    """A group as it was scored. G entries in each sequence; None where a sample was unscorable."""

    slot: int
    environment: str
    category: str
    task_key: str
    task_index: int
    role: Role
    values: Sequence[float | None]
    correct: Sequence[bool | None]
    reasons: Sequence[str | None]  # why a sample was unscorable
    versions: Sequence[Versions]  # of the weights that wrote each sample
    num_tokens: Sequence[int]  # tokens the policy wrote
    finishes: Sequence[str]  # "stop", "length", ...


@dataclass(frozen=True)
class SampleRecord:
    """A completion kept to be read by a person."""

    slot: int
    sample: int  # position in its group
    environment: str
    category: str
    task_key: str
    messages: Sequence[Mapping[str, str]]  # the conversation the policy saw
    completion: str
    value: float | None
    correct: bool | None
    reason: str | None


@dataclass(frozen=True)
class MetricRecord:
    """One number. Its name is in `store.metrics`."""

    name: str
    value: float | None  # None: not finite or not defined
    environment: str | None = None
    category: str | None = None
    n: float = 1.0  # how many observations it stands for (tokens, groups, samples)


@dataclass(frozen=True)
class ArmRecord:
    """The state of one arm after a step: what the bandit knew."""

    bandit: str  # the environment's name; "*" for the scheduler or the flat bandit
    arm: str
    probability: float
    value: float | None  # its estimate of the arm's reward
    num_picks: int


@dataclass(frozen=True)
class EventRecord:
    """A decision or an incident, as text."""

    kind: str  # DECISION, "skipped update", "unscorable", "stopped", "resumed", "forked", ...
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """What quotes an error may quote a URL."""
        object.__setattr__(self, "text", without_logins(self.text))


@dataclass(frozen=True)
class StageRecord:
    """A stage at its start."""

    index: int  # from 1
    environment: str | None  # None in flat mode
    start_step: int  # steps done before it
    num_steps: int
    replay: float
    pick: PickRecord | None = None  # the scheduler's choice
    events: Sequence[EventRecord] = ()


@dataclass(frozen=True)
class StepRecord:
    """Everything one step leaves behind; written in one transaction."""

    step: int  # from 1, over the whole run
    stage: int  # from 1
    stage_step: int  # from 1
    seconds: float
    num_tokens: int  # written by the policy in this step
    num_samples: int
    picks: Sequence[PickRecord] = ()
    groups: Sequence[GroupRecord] = ()
    samples: Sequence[SampleRecord] = ()
    metrics: Sequence[MetricRecord] = ()
    arms: Sequence[ArmRecord] = ()
    events: Sequence[EventRecord] = ()


@dataclass(frozen=True)
class HoldoutRecord:
    """The tasks that a category is evaluated on; recorded before the first cell that used them."""

    environment: str
    category: str
    purpose: str  # "anchor", "select", "final"; "own" for a closed environment: a cell's `split`
    sha256: str  # of the task keys, in order
    num_items: int


@dataclass(frozen=True)
class CellRecord:
    """One entry of a matrix: a metric of the policy after stage i on environment j."""

    environment: str
    category: str | None  # None: mean over the trainable categories
    metric: str
    value: float | None
    stderr: float | None
    num_items: int
    samples_per_item: int
    split: str = "anchor"  # "own" for a closed environment; "select": only a scheduler looks at it


class AnswerCount(NamedTuple):
    """An answer to a task, as the verifier reads it and `store.answers` shortens it."""

    text: str | None  # None: no answer, because the sample was cut off or nothing could be read
    num: int  # samples that gave it
    num_correct: int  # of these correct


@dataclass(frozen=True)
class ItemRecord:
    """The raw material of a cell: one task evaluated."""

    environment: str
    category: str
    task_key: str
    num_scored: int  # samples that could be scored
    num_correct: int
    value_sum: float
    entropy_sum: float  # over the tokens of all samples, nats
    num_tokens: int
    answers: Sequence[AnswerCount] = ()  # of the scored samples; empty where nothing asks for them


@dataclass(frozen=True)
class MeasurementRecord:
    """A look at the policy, and what it cost."""

    name: str  # "evaluation", or as the spec's `measure` names it
    passes: float  # as planned: a sample's forward pass is 1, forward and backward 3
    seconds: float


@dataclass(frozen=True)
class NetworkRecord:
    """A number of the network itself, of one layer or of all."""

    metric: str
    value: float | None
    layer: int = -1  # from 0; -1: the whole model


@dataclass(frozen=True)
class ProbePoint:
    """A number along a probe."""

    step: int  # optimiser steps of the copy; 0: before any
    metric: str
    value: float | None


@dataclass(frozen=True)
class ProbeRecord:
    """A copy of the policy trained for a few steps and thrown away, to see how well it still learns."""

    kind: str  # "supervised", "rl", "random_labels", "linear"
    task: str  # what it was trained on: an environment, or what the kind makes itself
    seed: int  # of its own streams, from 0
    protocol: Mapping[str, Any]  # its settings: only probes of equal ones compare
    seconds: float
    points: Sequence[ProbePoint]


@dataclass(frozen=True)
class HoldoutQueryRecord:
    """A look at held-out tasks that can change a decision."""

    environment: str
    category: str | None  # None: all of the environment's together
    split: str  # the pool: "select", "own", "anchor"
    asker: str  # who may decide by it: "scheduler", "intervention", "replay"
    value: float | None  # what was answered


@dataclass(frozen=True)
class InterventionRecord:
    """A change of the policy between two stages that no gradient made."""

    after_stage: int
    number: int  # its place among the spec's interventions, from 0
    step: int
    kind: str
    params: Mapping[str, Any]
    why: str  # the trigger, with the value that it read
    checkpoint_before: str
    checkpoint_after: str


@dataclass(frozen=True)
class BoundaryRecord:
    """What was measured between two stages; written in one transaction with the stage's end."""

    after_stage: int  # 0: before any training
    step: int
    seconds: float
    eval_config: Mapping[str, Any]  # generation settings, part of every metric
    cells: Sequence[CellRecord] = ()
    items: Sequence[ItemRecord] = ()
    samples: Sequence[SampleRecord] = ()
    events: Sequence[EventRecord] = ()
    stop_reason: str | None = None  # why the stage ended: "budget", ...
    signal: float | None = None  # the reward the scheduler was given for the stage
    network: Sequence[NetworkRecord] = ()
    probes: Sequence[ProbeRecord] = ()
    queries: Sequence[HoldoutQueryRecord] = ()
    measurements: Sequence[MeasurementRecord] = ()  # what looking cost


# After a boundary's checkpoint one of kind "intervention" may follow, of the same position with the policy changed.
CheckpointKind = Literal["boundary", "intervention", "periodic", "stop"]
LASTING: tuple[CheckpointKind, ...] = ("boundary", "intervention")  # those that stay until they are pruned by hand


@dataclass(frozen=True)
class CheckpointRecord:
    """A durable checkpoint."""

    step: int
    num_boundaries: int  # boundaries it covers: 1 once the evaluation at step 0 is done
    kind: CheckpointKind
    folder: str  # relative to the run's folder
    sha256: str  # of its manifest
    num_bytes: int


Span = tuple[int, int]  # the first and the last of a stretch


@dataclass(frozen=True)
class Gaps:
    """What a run's record lacks, as later rows and checkpoints say: a ledger was lost, and the run went on."""

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
