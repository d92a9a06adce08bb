"""Made-up runs that differ in a setting and a seed, written straight into a ledger. Nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from store.ledger import Ledger
from store.records import (
    BoundaryRecord,
    CategoryRecord,
    CellRecord,
    EnvironmentRecord,
    HoldoutRecord,
    LineageRecord,
    MemberRecord,
    MetricRecord,
    RunRecord,
    StageRecord,
    StepRecord,
    StudyRecord,
)

ENVIRONMENTS = ("book", "words")
GROUPS, GROUP_SIZE = 4, 2


@dataclass(frozen=True)
class Made:
    """A made-up run: two stages, of book and of words."""

    name: str
    seed: int = 0
    objective: str = "rloo"
    bandit: str = "sec"
    accuracy: Mapping[str, float | None] = field(default_factory=lambda: {"book": 0.4, "words": 0.6})  # at the end
    entropy: float = 1.0  # at the end; 2 at the start
    training: float | Sequence[float] = 0.5  # accuracy in each stage's last step; it rises to there from 0
    lengths: Sequence[int] = (4, 4)  # steps of the stages
    status: str = "finished"
    items: int = 8  # evaluated a category
    tasks: str = "1"  # which ones
    looked_at: Mapping[int, Sequence[str]] = field(default_factory=dict)  # at a boundary; others look at everything
    other_from: int | None = None  # after which stage others of book are evaluated, until the end
    member: MemberRecord | None = None
    baseline_of: str | None = None
    parent: str | None = None  # forked from it after the first stage
    spec: Mapping[str, Any] = field(default_factory=dict)  # instead of the usual sections
    is_flat: bool = False
    trains: Sequence[str] = ()  # in its stages; none: its environments in turn
    more: Callable[[int], dict[str, Any]] = lambda after_stage: {}

    @property
    def environments(self) -> list[str]:
        return list(self.accuracy)

    def trained_in(self, stage: int) -> str:
        order = self.trains or self.environments
        return order[(stage - 1) % len(order)]


def written(ledger: Ledger, *runs: Made) -> None:
    """Write runs."""
    for run in runs:
        _write(ledger, run)


def eight(ledger: Ledger, differences: Sequence[float], prefix: str = "") -> list[str]:
    """Write a pair of runs a difference: `rloo`, and `repo` which is so much better. Returns their names."""
    runs = [
        Made(
            f"{prefix}{objective}-{seed}",
            seed,
            objective,
            accuracy={"book": 0.3 + 0.01 * seed + more, "words": 0.5 + 0.02 * seed + more},
            training=0.4 + more,
        )
        for seed, difference in enumerate(differences)
        for objective, more in (("rloo", 0.0), ("repo", difference))
    ]
    written(ledger, *runs)
    return [run.name for run in runs]


def study(
    ledger: Ledger,
    name: str,
    settings: Mapping[str, Sequence[float]],
    compare: Mapping[str, Any] | None = None,
    num_seeds_registered: int | None = None,
    first_setting_registered: str | None = None,
    **changes: Any,
) -> None:
    """Write a study: a score a setting and seed. A setting without one is planned and has no run."""
    made = [{"label": label, "changes": {"objective.preset": label}} for label in settings]
    seeds = list(range(max(map(len, settings.values()))))
    plan: dict[str, Any] = {"spec": {}, "settings": made, "seeds": seeds, "compare": compare}
    if num_seeds_registered is not None:
        plan["num_seeds_registered"] = num_seeds_registered
    if first_setting_registered is not None:
        plan["first_setting_registered"] = first_setting_registered
    ledger.start_study(StudyRecord(name, plan))
    for label, values in settings.items():
        for seed, value in enumerate(values):
            run = Made(
                f"{name}.{label}.s{seed}",
                seed,
                label,
                accuracy={"book": value, "words": value + 0.1},
                training=value,
                member=MemberRecord(name, label, {"objective.preset": label}),
            )
            _write(ledger, replace(run, **changes))


def _write(ledger: Ledger, made: Made) -> None:
    environments = [
        EnvironmentRecord(name, "made_up", "1", False, {}, [CategoryRecord("easy", True, {})])
        for name in made.environments
    ]
    run = ledger.start_run(
        RunRecord(
            f"uid {made.name}",
            made.name,
            made.seed,
            "tiny",
            made.objective,
            None if made.is_flat else "sequence",
            made.bandit,
            _spec(made),
            environments,
            lineage=None if made.parent is None else LineageRecord(made.parent, 1),
            member=made.member,
            baseline_of=made.baseline_of,
        )
    )
    ledger.record_holdouts(run, _held_out(made, 0))
    ledger.record_boundary(run, _boundary(made, 0, 0))
    step = 0
    for stage, length in enumerate(made.lengths, start=1):
        name = None if made.is_flat else made.trained_in(stage)
        ledger.start_stage(run, StageRecord(stage, name, step, length, 0.25))
        for stage_step in range(1, length + 1):
            step += 1
            ledger.record_step(run, _step(made, step, stage, stage_step, length))
        ledger.record_holdouts(run, _held_out(made, stage))
        ledger.record_boundary(run, _boundary(made, stage, step))
    ledger.set_status(run, made.status)  # type: ignore[arg-type]


def _spec(made: Made) -> dict[str, Any]:
    return {
        "name": made.name,
        "seed": made.seed,
        "policy": {"model": "tiny"},
        "environments": {name: {"type": "made_up"} for name in made.environments},
        "curriculum": {
            "stages": len(made.lengths),
            "scheduler": {"type": "sequence"},
            "bandit": {"type": made.bandit},
            "stage": {"steps": max(made.lengths)},
        },
        "step": {"groups": GROUPS, "group_size": GROUP_SIZE},
        "objective": {"preset": made.objective, "shaper": made.objective},
        "learner": {"lr": 0.001},
        **made.spec,
    }


def _held_out(made: Made, after_stage: int) -> list[HoldoutRecord]:
    is_other = made.other_from is not None and after_stage >= made.other_from
    return [
        HoldoutRecord(
            name, "easy", "anchor", f"{name} {made.tasks}{' other' * (is_other and name == 'book')}", made.items
        )
        for name in made.environments
    ]


def _boundary(made: Made, after_stage: int, step: int) -> BoundaryRecord:
    share = after_stage / len(made.lengths)
    cells = [
        CellRecord(name, category, metric, value, 0.02, made.items, 4)
        for name, accuracy in made.accuracy.items()
        if name in made.looked_at.get(after_stage, made.accuracy)
        for category in (None, "easy")
        for metric, value in (
            ("pass_1", None if accuracy is None else share * accuracy),
            ("entropy_token", 2 - share * (2 - made.entropy)),
        )
    ]
    settings = {"items": made.items, "temperature": 1.0}
    record = BoundaryRecord(after_stage, step, 0.5, settings, cells, stop_reason="budget")
    more = made.more(after_stage)
    return replace(record, **{**more, "cells": [*cells, *more.get("cells", ())]})


def _step(made: Made, step: int, stage: int, stage_step: int, length: int) -> StepRecord:
    ends = made.training if isinstance(made.training, Sequence) else [made.training] * len(made.lengths)
    accuracy = ends[stage - 1] * stage_step / length
    trained = made.trained_in(stage)
    metrics = [
        MetricRecord("accuracy", accuracy, trained, None, 6),
        MetricRecord("accuracy", accuracy, trained, "easy", 6),
        MetricRecord("accuracy", accuracy, n=8),
        MetricRecord("entropy_token", made.entropy, trained, None, 30),
    ]
    others = [name for name in made.environments if name != trained]
    metrics += [MetricRecord("accuracy", 0.99, name, None, 2) for name in others]  # what was replayed
    return StepRecord(step, stage, stage_step, 0.25, 64, GROUPS * GROUP_SIZE, metrics=metrics)
