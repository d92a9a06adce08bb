"""Changes to the example run: what each digest must see, and what it must not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from store.records import (
    AnswerCount,
    BoundaryRecord,
    EventRecord,
    HoldoutRecord,
    MetricRecord,
    RunRecord,
    StageRecord,
    StepRecord,
)
from tests.store.ledger.example import Change

Record = TypeVar("Record", bound=Any)


def first(records: Sequence[Record], **changes: Any) -> list[Record]:
    """Change the first of some records."""
    return [replace(records[0], **changes), *records[1:]]


def at_step_2(part: str, **changes: Any) -> Change:
    """Change the first pick, group, ... of step 2."""
    return _at(StepRecord, "step", 2, part, changes)


def with_spread(record: Any) -> Any:
    """Say of every step that half of the groups of a category of words had no spread, and a quarter of those of gcd."""
    if not isinstance(record, StepRecord):
        return record
    name = record.groups[0].environment
    share, n = {"words": (0.5, 2), "gcd": (0.25, 4)}[name]
    categories = sorted({group.category for group in record.groups})
    keys = [(None, None), (name, None), *((name, category) for category in categories)]
    told = [MetricRecord("zero_var_groups", share, *key, n) for key in keys]
    return replace(record, metrics=[*record.metrics, *told])


def at_boundary_1(part: str, **changes: Any) -> Change:
    """Change the first cell, item or sample of boundary 1."""
    return _at(BoundaryRecord, "after_stage", 1, part, changes)


def _at(kind: type[Any], place: str, index: int, part: str, changes: dict[str, Any]) -> Change:
    def change(record: Any) -> Any:
        if not isinstance(record, kind) or getattr(record, place) != index:
            return record
        return replace(record, **{part: first(getattr(record, part), **changes)})

    return change


def _each(kind: type[Any], **changes: Any) -> Change:
    return lambda record: replace(record, **changes) if isinstance(record, kind) else record


def _time_metric(record: Any) -> Any:
    if not isinstance(record, StepRecord):
        return record
    return replace(record, metrics=[*record.metrics, MetricRecord("seconds_play", 0.5)])


def _interim(record: Any) -> Any:
    if not isinstance(record, StepRecord) or record.step != 2:
        return record
    return replace(record, metrics=[*record.metrics, MetricRecord("eval_pass_1", 0.5)])


def _backwards(record: Any) -> Any:
    parts = {
        StepRecord: ("picks", "groups", "metrics", "arms"),
        BoundaryRecord: ("cells", "items", "network", "probes"),
    }
    turned = {part: getattr(record, part)[::-1] for part in parts.get(type(record), ())}
    return replace(record, **turned)


TRAINED = {
    "pick probability": at_step_2("picks", probability=0.3),
    "pick arm": at_step_2("picks", arm="4"),
    "pick role": at_step_2("picks", role="replay"),
    "signal": at_step_2("picks", signal=None),
    "task": at_step_2("groups", task_key="another"),
    "category": at_step_2("groups", category="4"),
    "value": at_step_2("groups", values=[1.0, 0.5]),
    "last bit of a value": at_step_2("groups", values=[1.0 - 2**-53, None]),
    "correct": at_step_2("groups", correct=[False, None]),
    "reason": at_step_2("groups", reasons=[None, "crashed"]),
    "weight version": at_step_2("groups", versions=[1, 0]),
    "tokens": at_step_2("groups", num_tokens=[5, 8]),
    "finish": at_step_2("groups", finishes=["stop", "stop"]),
    "metric": at_step_2("metrics", value=0.5),
    "metric count": at_step_2("metrics", n=2.0),
    "stage length": _each(StageRecord, num_steps=4),
    "replay": _each(StageRecord, replay=0.3),
    "scheduler's pick": _each(StageRecord, pick=None),
    "scheduler's reward": _each(BoundaryRecord, signal=None),
    "stop reason": _each(BoundaryRecord, stop_reason="stopped"),
}
MEASURED = {
    "cell": at_boundary_1("cells", value=0.5),
    "standard error": at_boundary_1("cells", stderr=None),
    "item": at_boundary_1("items", num_correct=3),
    "item's task": at_boundary_1("items", task_key="another"),
    "item's answers": at_boundary_1("items", answers=[AnswerCount("b", 2, 1)]),
    "sample at a boundary": at_boundary_1("samples", completion="another"),
    "sample in training": at_step_2("samples", completion="another"),
    "generation settings": _each(BoundaryRecord, eval_config={"temperature": 0.5}),
    "evaluation inside a stage": _interim,
    "holdout": _each(HoldoutRecord, sha256="of other tasks"),
    "number of the network": at_boundary_1("network", value=0.5),
    "layer": at_boundary_1("network", layer=7),
    "a probe's seed": at_boundary_1("probes", seed=7),
    "a probe's curve": at_boundary_1("probes", points=[]),
    "who looked at held-out tasks": at_boundary_1("queries", asker="scheduler"),
    "what was answered": at_boundary_1("queries", value=0.5),
}
LEFT_OUT = {
    "order of writing": _backwards,
    "times": _each(StepRecord, seconds=9.0),
    "time of evaluation": _each(BoundaryRecord, seconds=9.0),
    "time metric": _time_metric,
    "host": _each(RunRecord, host={"threads": 2}),
    "what looking cost": _each(BoundaryRecord, measurements=()),
    "events": _each(StepRecord, events=[EventRecord("resumed", "at another time")]),
}
