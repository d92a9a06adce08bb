"""Made-up runs of any shape, written straight into a ledger: many environments, hostile texts, nothing at all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from store.ledger import Ledger, RunHandle
from store.records import (
    EVERYTHING,
    ArmRecord,
    BoundaryRecord,
    CategoryRecord,
    CellRecord,
    EnvironmentRecord,
    EventRecord,
    GroupRecord,
    HoldoutRecord,
    MetricRecord,
    PickRecord,
    RunRecord,
    SampleRecord,
    StageRecord,
    StepRecord,
)

GROUPS, SAMPLES = 4, 2


@dataclass(frozen=True)
class Shape:
    """What a made-up run is like."""

    environments: Sequence[str] = ("book", "words")
    categories: Sequence[str] = ("easy", "hard")
    stages: int = 3
    steps: int = 4  # a stage
    is_flat: bool = False
    boundaries: int | None = None  # stop after so many; None: all
    looked_at: Mapping[int, Sequence[str]] = field(default_factory=dict)  # at a boundary; others look at everything
    events: Sequence[EventRecord] = ()
    prompt: str = "spell tree backward"
    completion: str = "eert"
    reason: str | None = None  # why one sample of every step has no score
    spec: dict[str, Any] = field(default_factory=dict)
    baseline_of: str | None = None
    more: Callable[[int], dict[str, Any]] = lambda after_stage: {}


def written(ledger: Ledger, shape: Shape, name: str) -> RunHandle:
    """Write a run of this shape."""
    run = ledger.start_run(_run(shape, name))
    arms = [(environment, category) for environment in shape.environments for category in shape.categories]
    ledger.record_holdouts(run, [HoldoutRecord(*arm, "anchor", " ".join(arm), 8) for arm in arms])
    num_boundaries = shape.stages + 1 if shape.boundaries is None else shape.boundaries
    if num_boundaries:
        ledger.record_boundary(run, _boundary(shape, 0))
    for stage in range(1, num_boundaries):
        ledger.start_stage(run, _stage(shape, stage))
        for step in range((stage - 1) * shape.steps + 1, stage * shape.steps + 1):
            ledger.record_step(run, _step(shape, step, stage))
        ledger.record_boundary(run, _boundary(shape, stage))
    for event in shape.events:
        ledger.record_event(run, 1, event)
    return run


def accuracy(after_stage: int, place: int) -> float:
    """The held-out accuracy of an environment: the first falls, the others rise."""
    return max(0.0, 0.6 - 0.1 * after_stage) if place == 0 else 0.1 + 0.05 * after_stage + 0.01 * place


def entropy(after_stage: int, place: int) -> float:
    """Its token entropy, nats."""
    return (1 + place) * math.exp(-0.4 * after_stage)


def environment_of(shape: Shape, stage: int) -> str:
    """The environment that a stage trains: each in turn."""
    return shape.environments[(stage - 1) % len(shape.environments)]


def _run(shape: Shape, name: str) -> RunRecord:
    spec = {
        "name": name,
        "objective": {"preset": "repo_r", "estimator": "rloo", "shaper": "repo_r", "terms": []},
        "environments": {name: {"type": "made_up"} for name in shape.environments},
        "curriculum": {"stages": shape.stages, "stage": {"steps": shape.steps}},
        **shape.spec,
    }
    environments = [
        EnvironmentRecord(e, "made_up", "1", False, {}, [CategoryRecord(c, True, {}) for c in shape.categories])
        for e in shape.environments
    ]
    scheduler = None if shape.is_flat else "round_robin"
    host = {"torch": "2.13.0", "cpu": "abacus"}
    return RunRecord(
        f"uid {name}",
        name,
        7,
        "tiny",
        "repo_r",
        scheduler,
        "sec",
        spec,
        environments,
        host,
        baseline_of=shape.baseline_of,
    )


def _stage(shape: Shape, stage: int) -> StageRecord:
    start = (stage - 1) * shape.steps
    if shape.is_flat:
        return StageRecord(stage, None, start, shape.steps, 0.0)
    environment = environment_of(shape, stage)
    pick = PickRecord(0, "scheduler", "main", environment, environment, 0.5)
    return StageRecord(stage, environment, start, shape.steps, 0.25, pick)


def _boundary(shape: Shape, stage: int) -> BoundaryRecord:
    cells = [
        CellRecord(environment, category, metric, of(stage, place), error, 8, 4)
        for place, environment in enumerate(shape.environments)
        if environment in shape.looked_at.get(stage, shape.environments)
        for category in (None, *shape.categories)
        for metric, of, error in (("pass_1", accuracy, 0.02), ("entropy_token", entropy, None))
    ]
    samples = [
        SampleRecord(
            slot,
            0,
            environment,
            category,
            f"task {slot}",
            [{"role": "user", "content": shape.prompt}],
            f"{shape.completion} {stage}",
            float(stage > 0),
            stage > 0,
            None,
        )
        for environment in shape.environments
        for category in shape.categories
        for slot in range(2)
    ]
    record = BoundaryRecord(stage, stage * shape.steps, 0.5, {}, cells, (), samples, (), "budget", 0.125)
    more = shape.more(stage)
    return replace(record, **{**more, "cells": [*cells, *more.get("cells", ())]})


def _step(shape: Shape, step: int, stage: int) -> StepRecord:
    environment = shape.environments[step % len(shape.environments)] if shape.is_flat else environment_of(shape, stage)
    slots = [(slot, shape.categories[(step + slot) % len(shape.categories)]) for slot in range(GROUPS)]
    reasons = [shape.reason, None]
    return StepRecord(
        step,
        stage,
        step - (stage - 1) * shape.steps,
        seconds=0.5,
        num_tokens=64,
        num_samples=GROUPS * SAMPLES,
        picks=[
            PickRecord(slot, "flat" if shape.is_flat else "category", "main", environment, category, 0.5, 0.1)
            for slot, category in slots
        ],
        groups=[
            GroupRecord(
                slot,
                environment,
                category,
                f"{step}.{slot}",
                step,
                "replay" if slot == 3 else "main",
                [1.0, 0.0] if shape.reason is None else [None, 0.0],
                [True, False] if shape.reason is None else [None, False],
                reasons,
                [step - 1] * 2,
                [3, 5],
                ["stop", "length"],
            )
            for slot, category in slots
        ],
        metrics=[
            MetricRecord("accuracy", 0.5, environment, None, 8),
            MetricRecord("entropy_token", 1 / step, environment, None, 32),
            MetricRecord("seconds_play", 0.25),
            *(
                MetricRecord("zero_var_groups", 0.5, environment, category, n)
                for category, n in Counter(category for _, category in slots).items()
            ),
        ],
        arms=_arms(shape, step),
    )


def _arms(shape: Shape, step: int) -> list[ArmRecord]:
    share = 1 / len(shape.categories)
    if shape.is_flat:
        names = [f"{e}/{c}" for e in shape.environments for c in shape.categories]
        return [ArmRecord(EVERYTHING, name, 1 / len(names), 0.1, step) for name in names]
    tilt: Callable[[int], float] = lambda i: share * (0.1 * step % 1 if i == 0 else 1)  # noqa: E731
    return [
        ArmRecord(environment, category, tilt(i), 0.1, step)
        for environment in shape.environments
        for i, category in enumerate(shape.categories)
    ]
