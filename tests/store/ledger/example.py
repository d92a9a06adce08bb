"""A short made-up run: two environments, two stages of three steps, three boundaries. For tests of ledgers.

Everything in it follows from step and slot, so that writing it twice writes the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from sqlalchemy import insert

from store.ledger import rows, tables
from store.ledger.ledger import Ledger
from store.ledger.names import RunHandle
from store.records import (
    ArmRecord,
    BoundaryRecord,
    CategoryRecord,
    CellRecord,
    CheckpointRecord,
    EnvironmentRecord,
    EventRecord,
    GroupRecord,
    HoldoutQueryRecord,
    HoldoutRecord,
    InterventionRecord,
    ItemRecord,
    MeasurementRecord,
    MetricRecord,
    NetworkRecord,
    PickRecord,
    ProbePoint,
    ProbeRecord,
    RunRecord,
    SampleRecord,
    StageRecord,
    StepRecord,
)

CATEGORIES = {"words": ("3", "4"), "gcd": ("easy",)}
STAGES = ("words", "gcd")  # trained in this order
STEPS_A_STAGE, GROUPS_A_STEP = 3, 4

Change = Callable[[Any], Any]  # a record, to the same or a changed one


def unchanged(record: Any) -> Any:
    """Return the record."""
    return record


def environments() -> list[EnvironmentRecord]:
    """Make both environments."""
    return [
        EnvironmentRecord(
            name,
            "rows",
            "1",
            False,
            {"seed": 3},
            [CategoryRecord(c, True, {"length": len(c)}) for c in categories],
        )
        for name, categories in CATEGORIES.items()
    ]


def run_record(name: str) -> RunRecord:
    """Make the run's start."""
    spec = {"name": name, "seed": 7, "learner": {"lr": 1e-4}}
    return RunRecord(
        f"uid of {name}", name, 7, "tiny", "rloo", "round_robin", "sec", spec, environments(), {"threads": 1}
    )


def holdout_records() -> list[HoldoutRecord]:
    """Make what every category is evaluated on."""
    arms = [(environment, category) for environment, own in CATEGORIES.items() for category in own]
    return [HoldoutRecord(*arm, "anchor", f"sha256 of {' '.join(arm)}", 2) for arm in arms]


def stage_record(index: int) -> StageRecord:
    """Make a stage's start, with the scheduler's pick."""
    environment = STAGES[index - 1]
    pick = PickRecord(0, "scheduler", "main", environment, environment, 1.0)
    events = [EventRecord("stage", f"stage {index}: {environment}")]
    return StageRecord(index, environment, (index - 1) * STEPS_A_STAGE, STEPS_A_STAGE, 0.2, pick, events)


def step_record(step: int) -> StepRecord:
    """Make a step: picks, groups (one sample of step 2 unscorable), metrics, arms, a sample, an event."""
    stage = 1 + (step - 1) // STEPS_A_STAGE
    slots = range(GROUPS_A_STEP)
    return StepRecord(
        step,
        stage,
        step - (stage - 1) * STEPS_A_STAGE,
        seconds=0.25,
        num_tokens=96,
        num_samples=2 * GROUPS_A_STEP,
        picks=[_pick(step, stage, slot) for slot in slots],
        groups=[_group(step, stage, slot) for slot in slots],
        samples=[_sample(step, STAGES[stage - 1])],
        metrics=list(_metrics(step, STAGES[stage - 1])),
        arms=[ArmRecord(STAGES[stage - 1], c, 0.5, 0.1 * step, step) for c in CATEGORIES[STAGES[stage - 1]]],
        events=[EventRecord("skipped update", "a gradient was not finite", {"step": step})] if step == 2 else [],
    )


def boundary_record(after_stage: int) -> BoundaryRecord:
    """Make a boundary: accuracy and entropy of both environments and all categories."""
    step = after_stage * STEPS_A_STAGE
    cells = [
        CellRecord(environment, category, metric, (1 + after_stage) / divisor, 0.01, 2, 4)
        for environment, categories in CATEGORIES.items()
        for category in (None, *categories)
        for metric, divisor in (("accuracy", 7), ("entropy_token", 3), ("seconds_evaluate", 1))
    ]
    items = [
        ItemRecord(environment, category, f"key {i}", 4, i, i / 3, 1.1, 9, ["a", "b"][:i])
        for environment, categories in CATEGORIES.items()
        for category in categories
        for i in range(2)
    ]
    config = {"temperature": 1.0, "max_tokens": 8}
    events = [EventRecord("boundary", f"after stage {after_stage}")]
    samples = [_sample(step, "words")]
    return BoundaryRecord(
        after_stage,
        step,
        1.5,
        config,
        cells,
        items,
        samples,
        events,
        "budget",
        0.25,
        network=[NetworkRecord("own_rank", (8 - after_stage) / (2 + layer), layer) for layer in (-1, 0, 1)],
        probes=[_probe(after_stage, seed) for seed in (0, 1)],
        queries=[
            HoldoutQueryRecord("words", None, "anchor", "replay", after_stage / 4),
            HoldoutQueryRecord("gcd", "easy", "anchor", "scheduler", None),
        ],
        measurements=[MeasurementRecord("evaluation", 16.0, 1.25), MeasurementRecord("probe", 48.0, 0.25)],
    )


def without_plasticity(record: Any) -> Any:
    """Measure at boundaries what has always been measured, and no more."""
    if not isinstance(record, BoundaryRecord):
        return record
    return replace(record, network=(), probes=(), queries=(), measurements=())


def intervention_record() -> InterventionRecord:
    """Make what was done to the policy at the last boundary."""
    before, after = (f"checkpoints/step-6-3{end}" for end in ("", "-after"))
    why = "own_rank 2.0 < 3"
    return InterventionRecord(2, 0, 2 * STEPS_A_STAGE, "shrink", {"keep": 0.8}, why, before, after)


def intervene(ledger: Ledger, run: RunHandle, change: Change = unchanged) -> None:
    """Enter it."""
    row = rows.row_of(tables.intervention, change(intervention_record()), run, created_at=rows.now())
    with ledger.engine.begin() as connection:
        connection.execute(insert(tables.intervention).values(row))


def checkpoint_record(step: int, num_boundaries: int) -> CheckpointRecord:
    """Make a checkpoint's record; there is no folder behind it."""
    folder = f"checkpoints/step-{step}-{num_boundaries}"
    return CheckpointRecord(step, num_boundaries, "boundary", folder, f"sha256 of {folder}", 1000)


def course() -> Iterator[StageRecord | StepRecord | BoundaryRecord]:
    """What the run records, in order."""
    yield boundary_record(0)
    for index in (1, 2):
        yield stage_record(index)
        for step in range((index - 1) * STEPS_A_STAGE, index * STEPS_A_STAGE):
            yield step_record(step + 1)
        yield boundary_record(index)


def begin(ledger: Ledger, name: str, change: Change = unchanged) -> RunHandle:
    """Start the run and record its holdouts."""
    run = ledger.start_run(change(run_record(name)))
    ledger.record_holdouts(run, [change(record) for record in holdout_records()])
    return run


def record(ledger: Ledger, run: RunHandle, what: StageRecord | StepRecord | BoundaryRecord) -> None:
    """Write one record of the course."""
    if isinstance(what, StageRecord):
        ledger.start_stage(run, what)
    elif isinstance(what, StepRecord):
        ledger.record_step(run, what)
    else:
        ledger.record_boundary(run, what)
        ledger.record_checkpoint(run, checkpoint_record(what.step, what.after_stage + 1))


def write(ledger: Ledger, name: str, change: Change = unchanged) -> RunHandle:
    """Write the whole run; every record passes through `change` first."""
    run = begin(ledger, name, change)
    for what in course():
        record(ledger, run, change(what))
    return run


def _probe(after_stage: int, seed: int) -> ProbeRecord:
    def loss(step: int) -> float | None:
        has_diverged = (step, seed, after_stage) == (20, 1, 2)
        return None if has_diverged else (40 + seed - step) / (20 + after_stage)

    points = [ProbePoint(step, "probe_loss", loss(step)) for step in (0, 10, 20)]
    return ProbeRecord("supervised", "strings", seed, {"steps": 20, "lr": 0.1, "chance": 3.0}, 0.125, points)


def _category(step: int, stage: int, slot: int) -> str:
    categories = CATEGORIES[STAGES[stage - 1]]
    return categories[(step + slot) % len(categories)]


def _pick(step: int, stage: int, slot: int) -> PickRecord:
    arm = _category(step, stage, slot)
    return PickRecord(slot, "category", "main", STAGES[stage - 1], arm, 1 / (3 + slot), 0.1 * slot)


def _group(step: int, stage: int, slot: int) -> GroupRecord:
    failed = step == 2 and slot == 0
    return GroupRecord(
        slot,
        STAGES[stage - 1],
        _category(step, stage, slot),
        task_key=f"key of {step}.{slot}",
        task_index=10 * step + slot,
        role="main",
        values=[1 / (1 + slot), None if failed else 0.0],
        correct=[slot == 0, None if failed else False],
        reasons=[None, "timed out" if failed else None],
        versions=[step - 1, step - 1],
        num_tokens=[5, 7],
        finishes=["stop", "length"],
    )


def _metrics(step: int, environment: str) -> Iterator[MetricRecord]:
    yield MetricRecord("loss", math.nan if step == 2 else 1 / step)
    yield MetricRecord("tokens_per_s", 384.0)
    yield MetricRecord("accuracy", 1 / (2 + step), n=8)
    yield MetricRecord("accuracy", 1 / (2 + step), environment, n=8)
    for category in CATEGORIES[environment]:
        yield MetricRecord("accuracy", 1 / (3 + step), environment, category, n=4)


def _sample(step: int, environment: str) -> SampleRecord:
    messages = [{"role": "user", "content": "spell back"}]
    category = CATEGORIES[environment][0]
    return SampleRecord(0, 0, environment, category, f"key {step}", messages, f"answer {step}", 0.0, False, None)
