"""The exported tables, in the order of the dictionary. What a column is follows from the ledger's tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from store.export.rows import Row
from store.ledger import tables as t

# text, and what is text in both formats: "time" is ISO-8601 in UTC, "json" is one JSON value
Kind = Literal["text", "time", "json", "integer", "float", "boolean"]

_KINDS: dict[type[Any], Kind] = {
    sa.Integer: "integer",
    sa.BigInteger: "integer",
    sa.Double: "float",
    sa.Boolean: "boolean",
    t.Json: "json",
}


@dataclass(frozen=True)
class Column:
    """A column, as the data dictionary has it."""

    name: str
    kind: Kind
    meaning: str
    unit: str = ""
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """A tidy table."""

    name: str
    meaning: str
    row: str  # what a row is
    columns: Sequence[Column]
    source: sa.Table | None = None  # of the ledger; None: put together by hand
    reads: Sequence[str] = ()  # what is read of the source
    spread: Callable[[Row], Iterable[Row]] = lambda row: (row,)  # from a row that was read to exported ones


def _column(source: sa.Column[Any], name: str, null: bool | None = None) -> Column:
    """Export a column of the ledger; a key to another table is exported as the name behind it."""
    kind = "text" if source.foreign_keys else source.info.get("kind") or _KINDS.get(type(source.type), "text")
    nullable = bool(source.info.get("nullable", source.nullable) if null is None else null)
    return Column(name, kind, source.doc or "", source.info.get("unit", ""), nullable)


_RUN = _column(t.run.c.name, "run")


def _table(name: str, meaning: str, row: str, source: sa.Table, reads: Sequence[str] = (), **renamed: str) -> Table:
    """Export the columns of the ledger's table that have a meaning, or those of `reads` in that order."""
    known = {column.name.removesuffix("_id"): column for column in source.c if column.doc}
    reads = reads or list(known)
    columns = [_column({**t.NAMES, **known}[one], renamed.get(one, one)) for one in reads]
    return Table(name, meaning, row, [_RUN, *columns], source, reads)


def _of_run(*names: str) -> list[Column]:
    return [_column(t.run.c[name], name) for name in names]


def _samples_of(row: Row) -> Iterable[Row]:
    """Take a group's lists apart: a row a sample."""
    step, slot, *lists = row
    entries = zip(*map(t.read_entries, lists), strict=True)
    return ((step, slot, sample, *entry) for sample, entry in enumerate(entries))


RUNS = Table(
    "runs",
    "What was run.",
    "a run",
    [
        _RUN,
        *_of_run("uid", "status", "seed", "model", "objective", "scheduler", "bandit"),
        _column(t.study.c.name, "study", null=True),
        _column(t.member.c.setting, "setting", null=True),
        _column(t.twin.c.of_id, "baseline_of", null=True),
        _column(t.lineage.c.parent_id, "parent", null=True),
        _column(t.lineage.c.parent_stage, "parent_stage", null=True),
        Column("num_steps", "integer", "steps done", "steps"),
        Column("num_boundaries", "integer", "boundaries measured", "boundaries"),
        *_of_run("created_at", "ended_at", "spec", "host"),
    ],
)

CARRY_OVER = Table(
    "carry_over",
    "What the matrices come to, as in reports, `compare` and MLflow.",
    "a number of carry-over at a boundary: of the run so far, or (`switch/`) of the stage before it alone",
    [
        _RUN,
        Column("after_stage", "integer", "the boundary after this stage, from 1"),
        Column("name", "text", "see the list of numbers of carry-over"),
        Column("value", "float", "null: not defined there", nullable=True),
        Column("num_terms", "integer", "environments, or stages, that it is the mean of"),
        Column(
            "of_terms", "integer", "those it would be of: more, where a boundary left some out or no entropy was left"
        ),
    ],
)

PICKS = _table(
    "picks",
    "Every decision of a bandit or a scheduler.",
    "a decision: about a slot of a batch, or about a stage",
    t.pick,
)

GROUPS = _table("groups", "Every task that was trained on.", "a group: one task and its samples", t.task_group)

_ENTRIES = {c.name: Column(**c.info["entry"]) for c in t.task_group.c if "entry" in c.info}

TABLES = (
    RUNS,
    _table(
        "stages",
        "What was trained, in turn.",
        "a stage that has begun",
        t.stage,
        [
            *("stage", "environment", "start_step", "end_step", "num_steps"),
            *("replay", "stop_reason", "started_at", "ended_at"),
        ],
        num_steps="planned_steps",
    ),
    _table(
        "boundaries",
        "When and how the policy was measured between stages.",
        "a boundary",
        t.boundary,
        ["after_stage", "step", "seconds", "eval_config", "eval_settings", "created_at"],
    ),
    _table(
        "cells",
        "What was measured at boundaries: the matrices, in long form.",
        "a metric of the policy after a stage, on an environment or a category",
        t.eval_cell,
    ),
    CARRY_OVER,
    _table("items", "What the cells were made of.", "a task, evaluated at a boundary", t.eval_item),
    _table("measurements", "What looking at the policy cost.", "a measurement at a boundary", t.measurement),
    _table(
        "network",
        "What was measured of the network itself.",
        "a metric of a layer or of the whole model at a boundary",
        t.network_cell,
    ),
    _table(
        "probes",
        "Copies of the policy that were trained for some steps and thrown away, to see how well it still learns.",
        "a probe: what a copy was trained on at a boundary, with one seed",
        t.probe,
    ),
    _table("probe_points", "Their curves.", "a metric of a probe's copy after some of its steps", t.probe_point),
    _table(
        "interventions",
        "Changes of the policy between stages that no gradient made.",
        "an intervention",
        t.intervention,
    ),
    _table(
        "holdout_queries",
        "Looks at held-out tasks that could change a decision.",
        "a look at a boundary",
        t.holdout_query,
        ["after_stage", "environment", "holdout", "asker", "value"],
    ),
    _table(
        "transitions",
        "From stage to stage; nothing in flat mode.",
        "a stage that began after another",
        t.transition,
    ),
    _table("steps", "Every batch and update.", "a step", t.step),
    _table(
        "metrics",
        "Every number of training, in long form.",
        "a metric of a step, over the whole batch, an environment or a category",
        t.step_metric,
    ),
    PICKS,
    GROUPS,
    Table(
        "scores",
        "Every sample that was trained on, without its text; `groups` has its task.",
        "a sample",
        [
            *GROUPS.columns[:3],  # run, step, slot
            Column("sample", "integer", "position in the group, from 0"),
            *_ENTRIES.values(),
        ],
        t.task_group,
        ["step", "slot", *_ENTRIES],
        _samples_of,
    ),
    _table(
        "arms",
        "What the bandits knew. Not kept for a step with more than 200 arms.",
        "an arm after a step",
        t.arm_state,
    ),
    _table("events", "Decisions and incidents, in words.", "an event", t.event),
    _table(
        "samples",
        "Completions kept to be read: some of every step and boundary, not all.",
        "a completion",
        t.sample,
    ),
)
