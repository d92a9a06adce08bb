"""The exported tables, in the order of the dictionary. One line here is a column everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator

from store.export.columns import Column, Row, Table
from store.ledger import tables as t

_RUN = Column("run", "text", "name of the run")
_STEP = Column("step", "integer", "from 1, over the whole run", "steps")
_SLOT = Column("slot", "integer", "position in the batch, from 0")
_ENVIRONMENT = Column("environment", "text", "name in the spec")
_CATEGORY = Column("category", "text", "name of the environment's category")
_ALL_ENVIRONMENTS = Column("environment", "text", "name in the spec; null: all of them", nullable=True)
_ALL_CATEGORIES = Column("category", "text", "name; null: the environment as a whole", nullable=True)
_TASK_KEY = Column("task_key", "text", "content key of the task: a hash of its conversation")
_AFTER_STAGE = Column("after_stage", "integer", "the boundary after this stage; 0: before any training")
_AT_BOUNDARY = Column(
    "after_stage", "integer", "the boundary it belongs to; null: it comes from a step", nullable=True
)
_DONE = Column("step", "integer", "steps done by then", "steps")
_ROLE = Column("role", "text", "main: of the stage's own environment; replay: of an earlier one")
_TRAINED_WITH = "the value that was trained with; null: no score"
_CREATED_AT = Column("created_at", "time", "when it was written", "UTC")
_EVAL_CONFIG = Column("eval_config", "text", "hash of the evaluation's settings: only equal ones compare")

RUNS = Table(
    "runs",
    "What was run.",
    "a run",
    [
        _RUN,
        Column("uid", "text", "random name that no other run has, hex"),
        Column("status", "text", "running, stopped, finished or failed; running also when its process died"),
        Column("seed", "integer", "every random stream begins at it"),
        Column("model", "text", "the policy"),
        Column("objective", "text", "the preset"),
        Column("scheduler", "text", "what chose environments; null in flat mode", nullable=True),
        Column("bandit", "text", "what chose categories"),
        Column("study", "text", "the study it is of; null: none", nullable=True),
        Column("setting", "text", "its setting in the study, the same for every seed", nullable=True),
        Column("baseline_of", "text", "the run whose twin with another bandit it is", nullable=True),
        Column("parent", "text", "the run it was forked from; null: none", nullable=True),
        Column("parent_stage", "integer", "forked at the boundary after this stage", nullable=True),
        Column("num_steps", "integer", "steps done", "steps"),
        Column("num_boundaries", "integer", "boundaries measured", "boundaries"),
        Column("created_at", "time", "when it began", "UTC"),
        Column("ended_at", "time", "when it ended; null while it runs", "UTC", nullable=True),
        Column("spec", "json", "the resolved spec, without logins"),
        Column("host", "json", "versions, threads, processor"),
    ],
)

STAGES = Table(
    "stages",
    "What was trained, in turn.",
    "a stage that has begun",
    [
        _RUN,
        Column("stage", "integer", "from 1"),
        _ALL_ENVIRONMENTS,
        Column("start_step", "integer", "steps done before it", "steps"),
        Column("end_step", "integer", "steps done at its end; null while it is open", "steps", nullable=True),
        Column("planned_steps", "integer", "how many it may have; it may end earlier", "steps"),
        Column("replay", "float", "share of every batch for environments that had a stage", "fraction"),
        Column("stop_reason", "text", "why it ended: budget, mastery, ...", nullable=True),
        Column("started_at", "time", "when it began", "UTC"),
        Column("ended_at", "time", "when it ended", "UTC", nullable=True),
    ],
    t.stage,
    ["stage"],
    reads=[
        *("stage", "environment", "start_step", "end_step", "num_steps"),
        *("replay", "stop_reason", "started_at", "ended_at"),
    ],
)

BOUNDARIES = Table(
    "boundaries",
    "When and how the policy was measured between stages.",
    "a boundary",
    [
        _RUN,
        _AFTER_STAGE,
        _DONE,
        Column("seconds", "float", "time it took", "s"),
        _EVAL_CONFIG,
        Column("eval_settings", "json", "the settings behind that hash"),
        _CREATED_AT,
    ],
    t.boundary,
    ["after_stage"],
)

CELLS = Table(
    "cells",
    "What was measured at boundaries: the matrices, in long form.",
    "a metric of the policy after a stage, on an environment or a category",
    [
        _RUN,
        _AFTER_STAGE,
        _ALL_ENVIRONMENTS,
        Column("category", "text", "name; null: mean over the trainable categories", nullable=True),
        Column("metric", "text", "see the list of metrics"),
        Column("split", "text", "anchor: held out; own: a closed environment's; select: a scheduler's"),
        _EVAL_CONFIG,
        Column("holdout", "text", "hash of the keys of the tasks behind it; null for means", nullable=True),
        Column("value", "float", "null: not finite or not defined", "the metric's", nullable=True),
        Column("stderr", "float", "of the mean over tasks", "the metric's", nullable=True),
        Column("num_items", "integer", "tasks behind it", "tasks"),
        Column("samples_per_item", "integer", "samples of each", "samples"),
    ],
    t.eval_cell,
    ["after_stage", "environment_id", "category_id", "metric_id", "split"],
)

ITEMS = Table(
    "items",
    "What the cells were made of.",
    "a task, evaluated at a boundary",
    [
        _RUN,
        _AFTER_STAGE,
        _ENVIRONMENT,
        _CATEGORY,
        Column("item", "integer", "its place among the category's tasks, from 0"),
        _TASK_KEY,
        Column("num_scored", "integer", "samples that could be scored", "samples"),
        Column("num_correct", "integer", "of these correct", "samples"),
        Column("value_sum", "float", "sum of their values", "fraction"),
        Column("entropy_sum", "float", "over the tokens of all samples", "nats"),
        Column("num_tokens", "integer", "of all samples", "tokens"),
    ],
    t.eval_item,
    ["after_stage", "environment_id", "category_id", "item"],
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
    ],
)

STEPS = Table(
    "steps",
    "Every batch and update.",
    "a step",
    [
        _RUN,
        _STEP,
        Column("stage", "integer", "from 1"),
        Column("stage_step", "integer", "from 1 in every stage", "steps"),
        Column("seconds", "float", "time it took", "s"),
        Column("num_tokens", "integer", "written by the policy", "tokens"),
        Column("num_samples", "integer", "in the batch", "samples"),
        _CREATED_AT,
    ],
    t.step,
    ["step"],
)

METRICS = Table(
    "metrics",
    "Every number of training, in long form.",
    "a metric of a step, over the whole batch, an environment or a category",
    [
        _RUN,
        _STEP,
        Column("metric", "text", "see the list of metrics"),
        _ALL_ENVIRONMENTS,
        _ALL_CATEGORIES,
        Column("value", "float", "null: not finite or not defined", "the metric's", nullable=True),
        Column("n", "float", "how many observations it stands for: tokens, groups or samples"),
    ],
    t.step_metric,
    ["step", "metric_id", "environment_id", "category_id"],
)

PICKS = Table(
    "picks",
    "Every decision of a bandit or a scheduler.",
    "a decision: about a slot of a batch, or about a stage",
    [
        _RUN,
        Column("step", "integer", "of a scheduler's pick: the steps done before its stage", "steps"),
        Column("stage", "integer", "from 1"),
        Column("level", "text", "scheduler, category, or flat: one bandit over all arms"),
        Column("slot", "integer", "position in the batch, from 0; 0 for a scheduler"),
        _ROLE,
        _ENVIRONMENT,
        Column("arm", "text", "category; environment for a scheduler; environment/category in flat mode"),
        Column("probability", "float", "with which it was drawn, at the time", "fraction"),
        Column("signal", "float", "reward the bandit was given; null: none", nullable=True),
    ],
    t.pick,
    ["step", "stage", "level", "slot"],
)

GROUPS = Table(
    "groups",
    "Every task that was trained on.",
    "a group: one task and its samples",
    [
        _RUN,
        _STEP,
        _SLOT,
        _ENVIRONMENT,
        _CATEGORY,
        _TASK_KEY,
        Column("task_index", "integer", "number of the task in its category"),
        _ROLE,
        Column("num_samples", "integer", "in the group", "samples"),
        Column("num_scored", "integer", "that could be scored", "samples"),
        Column("num_correct", "integer", "of these correct", "samples"),
        Column("value_sum", "float", "sum of their values", "fraction"),
    ],
    t.task_group,
    ["step", "slot"],
)


def _scores(row: Row) -> Iterator[Row]:
    """Take a group's lists apart: a row a sample."""
    step, slot, *lists = row
    entries = zip(*(json.loads(text) for text in lists), strict=True)
    return ((step, slot, sample, *entry) for sample, entry in enumerate(entries))


SCORES = Table(
    "scores",
    "Every sample that was trained on, without its text; `groups` has its task.",
    "a sample",
    [
        _RUN,
        _STEP,
        _SLOT,
        Column("sample", "integer", "position in the group, from 0"),
        Column("value", "float", _TRAINED_WITH, "fraction", nullable=True),
        Column("correct", "boolean", "what accuracy counts; null: no score", nullable=True),
        Column("reason", "text", "why there is no score; null: there is one", nullable=True),
        Column("version", "integer", "of the weights that wrote it"),
        Column("num_tokens", "integer", "written by the policy", "tokens"),
        Column("finish", "text", "stop, length, ..."),
    ],
    t.task_group,
    ["step", "slot"],
    reads=["step", "slot", "scores", "correct", "reasons", "versions", "num_tokens", "finishes"],
    spread=_scores,
)

ARMS = Table(
    "arms",
    "What the bandits knew. Not kept for a step with more than 200 arms.",
    "an arm after a step",
    [
        _RUN,
        _STEP,
        Column("bandit", "text", "its environment; `*` for the scheduler or the flat bandit"),
        Column("arm", "text", "category; environment for a scheduler; environment/category in flat mode"),
        Column("probability", "float", "of being picked next", "fraction"),
        Column("value", "float", "the bandit's estimate of its reward; null: none", nullable=True),
        Column("num_picks", "integer", "times picked up to here", "picks"),
    ],
    t.arm_state,
    ["step", "bandit", "arm"],
)

EVENTS = Table(
    "events",
    "Decisions and incidents, in words.",
    "an event",
    [
        _RUN,
        _DONE,
        Column("stage", "integer", "the stage it began with; null: it came later", nullable=True),
        _AT_BOUNDARY,
        Column("kind", "text", "decision, skipped update, unscorable, resumed, ..."),
        Column("text", "text", "what happened"),
        Column("data", "json", "the same for a program"),
        _CREATED_AT,
    ],
    t.event,
    ["step", "event_id"],
)

SAMPLES = Table(
    "samples",
    "Completions kept to be read: some of every step and boundary, not all.",
    "a completion",
    [
        _RUN,
        _DONE,
        _AT_BOUNDARY,
        Column("slot", "integer", "position in the batch, or of the task at a boundary, from 0"),
        Column("sample", "integer", "position in the group, from 0"),
        _ENVIRONMENT,
        _CATEGORY,
        _TASK_KEY,
        Column("messages", "json", "the conversation before it: a list of {role, content}"),
        Column("completion", "text", "what the policy wrote"),
        Column("value", "float", _TRAINED_WITH, "fraction", nullable=True),
        Column("correct", "boolean", "what accuracy counts; null: no score", nullable=True),
        Column("reason", "text", "why there is no score; null: there is one", nullable=True),
    ],
    t.sample,
    ["step", "sample_id"],
)

TABLES = (
    RUNS,
    STAGES,
    BOUNDARIES,
    CELLS,
    CARRY_OVER,
    ITEMS,
    STEPS,
    METRICS,
    PICKS,
    GROUPS,
    SCORES,
    ARMS,
    EVENTS,
    SAMPLES,
)
