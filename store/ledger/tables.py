"""The ledger's tables, each declared once: type, meaning and unit of a column stand here and nowhere else.

Rows, queries, exports and their data dictionary follow from these declarations; a column with a meaning is exported.
Migrations create the tables; a test holds the two equal.

Keys are natural where they can be: (run, step, slot) rather than a number. Row 0 of `environment`, `category`
and `holdout`, named `*`, means all of them. JSON is kept as text with sorted keys, times as ISO-8601 UTC text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, Table, Text, UniqueConstraint

DIGITS = "0123456789"


class Json(sa.TypeDecorator[Any]):
    """Plain data as JSON text: the same text on every database, floats exact, any character allowed."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        """Write; None is NULL."""
        if value is None:
            return None
        return _text(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        """Read."""
        return None if value is None else json.loads(value)


class Entries(Json):
    """A list of plain data with an entry a sample, in short, since most entries are alike: half of a step's bytes.

    `8*null` is eight times null, `0110[false,true]` names entries by their place in the list behind; any other list is
    JSON, as all are in older ledgers.
    """

    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        """Write."""
        if value and all(one is value[0] for one in value):
            return f"{len(value)}*{_text(value[0])}"
        names = list(map(repr, value))  # 0 is neither 0.0 nor false
        distinct = dict(zip(names, value, strict=True))
        if len(distinct) == 1:
            return f"{len(names)}*{_text(value[0])}"
        if 2 * len(distinct) > len(names) or len(distinct) > len(DIGITS):
            return _text(value)
        digit = dict(zip(distinct, DIGITS, strict=False))
        return "".join([digit[name] for name in names]) + _text([*distinct.values()])

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        """Read."""
        return None if value is None else read_entries(value)


def read_entries(text: str) -> list[Any]:
    """Read what `Entries` writes."""
    if not text.startswith("["):
        num, star, one = text.partition("*")
        if star and num.isdecimal():
            return [json.loads(one)] * int(num)
    start = text.index("[")
    distinct: list[Any] = json.loads(text[start:])
    return [distinct[int(digit)] for digit in text[:start]] if start else distinct


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value)


_text = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_plain).encode


def visible(text: str) -> str:
    """Make visible what some reader cannot take: NUL (PostgreSQL), half a surrogate pair (whatever is UTF-8)."""
    return text.replace("\0", "\u2400").encode("utf-8", "replace").decode()


class FreeText(sa.TypeDecorator[str]):
    """Text that a model or a program wrote: what some database refuses is made visible instead."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Write what every database takes."""
        return None if value is None else visible(value)


metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    }
)

# --- kinds of columns ------------------------------------------------------------------------------------


def _table(name: str, *items: Any, **options: Any) -> Table:
    return Table(name, metadata, *items, **options)


def _id(name: str) -> Column[int]:
    """The database numbers the rows."""
    return Column(name, Integer, primary_key=True)


def _key(name: str, type_: Any, meaning: str = "", unit: str = "") -> Column[Any]:
    return Column(name, type_, primary_key=True, autoincrement=False, doc=meaning, info={"unit": unit})


def _has(name: str, type_: Any, meaning: str = "", unit: str = "", **info: Any) -> Column[Any]:
    return Column(name, type_, nullable=False, doc=meaning, info={"unit": unit, **info})


def _may(name: str, type_: Any, meaning: str = "", unit: str = "", **info: Any) -> Column[Any]:
    """NULL where there is none; `later`: NULL when the row is written, and filled in afterwards."""
    return Column(name, type_, nullable=True, doc=meaning, info={"unit": unit, **info})


def _to(target: str, meaning: str = "", name: str = "", key: bool = False, null: bool = False) -> Column[int]:
    """Refer to another table. An export has the name behind the key, which row 0 lacks: `null` says it may be that."""
    return Column(
        name or target.partition(".")[2],
        Integer,
        sa.ForeignKey(target),
        primary_key=key,
        autoincrement=False if key else "auto",
        nullable=False,
        doc=meaning,
        info={"nullable": null},
    )


def _entries(name: str, one: str, kind: str, meaning: str, unit: str = "", null: bool = False) -> Column[Any]:
    """A list with an entry a sample, exported with a row a sample; `one` is an entry's name."""
    entry = {"name": one, "kind": kind, "meaning": meaning, "unit": unit, "nullable": null}
    return Column(name, Entries, nullable=False, info={"entry": entry})


_RUN, _ENVIRONMENT, _CATEGORY = "run.run_id", "environment.environment_id", "category.category_id"
_METRIC, _CONFIG = "metric_def.metric_id", "eval_config.eval_config_id"

_NAME, _NAME_OR_ALL = "name in the spec", "name in the spec; null: all of them"
_OF_CATEGORY = "name of the environment's category"
_STEP = "from 1, over the whole run"
_TASK_KEY = "content key of the task: a hash of its conversation"
_ROLE = "main: of the stage's own environment; replay: of an earlier one"
_ARM = "category; environment for a scheduler; environment/category in flat mode"
_AFTER_STAGE = "the boundary after this stage; 0: before any training"
_AT_BOUNDARY = "the boundary it belongs to; null: it comes from a step"
_CONFIG_HASH = "hash of the evaluation's settings: only equal ones compare"
_UNDEFINED = "null: not finite or not defined"
_VALUE = "the value that was trained with; null: no score"
_CORRECT = "what accuracy counts; null: no score"
_REASON = "why there is no score; null: there is one"


def _written(name: str = "created_at", meaning: str = "when it was written") -> Column[str]:
    return _has(name, Text, meaning, "UTC", kind="time")


# --- what runs are about: shared by all runs -------------------------------------------------------------

environment = _table(
    "environment",
    _id("environment_id"),
    _has("name", Text),
    _has("version", Text),
    _has("type", Text),
    _has("closed", Boolean),
    _has("options", Json),
    _has("fingerprint", Text),  # of type, closed and options: a spec may call two things by one name
    UniqueConstraint("name", "version", "fingerprint"),
)

category = _table(
    "category",
    _id("category_id"),
    _to(_ENVIRONMENT),
    _has("name", Text),
    _has("trainable", Boolean),
    _has("parameters", Json),
    _has("fingerprint", Text),  # of trainable and parameters
    UniqueConstraint("environment_id", "name", "fingerprint"),
)

metric_def = _table(
    "metric_def",
    _id("metric_id"),
    _has("name", Text),
    _has("metric_group", Text),
    _has("unit", Text),
    _has("direction", Integer),
    _has("meaning", Text),
    _has("unhealthy", Text),
    _may("ratio_floor", Double),
    UniqueConstraint("name"),
)

eval_config = _table(
    "eval_config",
    _id("eval_config_id"),
    _has("sha256", Text),
    _has("settings", Json, "the settings behind that hash"),
    UniqueConstraint("sha256"),
)

holdout = _table(
    "holdout",
    _id("holdout_id"),
    _to(_ENVIRONMENT),
    _to(_CATEGORY),
    _has("purpose", Text),  # "anchor", "select", "final"; "own" for a closed environment
    _has("sha256", Text),  # of what tells the tasks: prompts, and truths where they came with them
    _has("num_items", Integer),
    UniqueConstraint("environment_id", "category_id", "purpose", "sha256"),
)

# --- a run and its course --------------------------------------------------------------------------------

run = _table(
    "run",
    _id("run_id"),
    _has("uid", Text, "random name that no other run has, hex"),
    _has("name", Text, "name of the run"),
    _has("seed", BigInteger, "every random stream begins at it"),
    _has("model", Text, "the policy"),
    _has("objective", Text, "the preset"),
    _may("scheduler", Text, "what chose environments; null in flat mode"),
    _has("bandit", Text, "what chose categories"),
    _has("spec", Json, "the resolved spec, without logins"),
    _has("host", Json, "versions, threads, processor"),
    _has("status", Text, "running, stopped, finished or failed; running also when its process died"),
    _written(meaning="when it began"),
    _may("ended_at", Text, "when it ended; null while it runs", "UTC", kind="time", later=True),
    UniqueConstraint("uid"),
    UniqueConstraint("name"),
)

lineage = _table(
    "lineage",  # only runs that were forked from another have a row
    _to(_RUN, key=True),
    _to(_RUN, "the run it was forked from; null: none", "parent_id"),
    _has("parent_stage", Integer, "forked at the boundary after this stage"),
)

study = _table(
    "study",
    _id("study_id"),
    _has("name", Text, "the study it is of; null: none"),
    _has("plan", Json),  # as it is now: seeds and settings may be added
    _has("created_at", Text),
    UniqueConstraint("name"),
)

member = _table(
    "member",  # only runs of a study have a row
    _to(_RUN, key=True),
    _to("study.study_id"),
    _has("setting", Text, "its setting in the study, the same for every seed"),
    _has("changes", Json),  # dotted spec field -> value
)

twin = _table(
    "twin",  # only the baselines of other runs have a row
    _to(_RUN, key=True),
    _to(_RUN, "the run whose twin with other settings it is", "of_id"),
)

stage = _table(
    "stage",
    _to(_RUN, key=True),
    _key("stage", Integer, "from 1"),
    _to(_ENVIRONMENT, _NAME_OR_ALL, null=True),  # 0 in flat mode
    _has("start_step", Integer, "steps done before it", "steps"),
    _has("num_steps", Integer, "how many it may have; it may end earlier", "steps"),
    _has("replay", Double, "share of every batch for environments that had a stage", "fraction"),
    _may("end_step", Integer, "steps done at its end; null while it is open", "steps", later=True),
    _may("stop_reason", Text, "why it ended: budget, mastery, ...", later=True),
    _written("started_at", "when it began"),
    _may("ended_at", Text, "when it ended", "UTC", kind="time", later=True),
)

step = _table(
    "step",
    _to(_RUN, key=True),
    _key("step", Integer, _STEP, "steps"),
    _has("stage", Integer, "from 1"),
    _has("stage_step", Integer, "from 1 in every stage", "steps"),
    _has("seconds", Double, "time it took", "s"),
    _has("num_tokens", Integer, "written by the policy", "tokens"),
    _has("num_samples", Integer, "in the batch", "samples"),
    _written(),
    sqlite_with_rowid=False,
)

pick = _table(
    "pick",
    _to(_RUN, key=True),
    _key("step", Integer, "of a scheduler's pick: the steps done before its stage", "steps"),
    _key("stage", Integer, "from 1"),
    _key("level", Text, "scheduler, replay (a rule's, of an environment), category, or flat: one over all arms"),
    _key("slot", Integer, "position in the batch, from 0; 0 for a scheduler"),
    _has("role", Text, _ROLE),
    _to(_ENVIRONMENT, _NAME),
    _has("arm", Text, _ARM),
    _has("probability", Double, "with which it was drawn, at the time", "fraction"),
    _may("signal", Double, "mean signal of the slot's groups, of each of which the bandit is told; null: none"),
    sqlite_with_rowid=False,
)

arm_state = _table(
    "arm_state",
    _to(_RUN, key=True),
    _key("step", Integer, _STEP, "steps"),
    _key("bandit", Text, "its environment; `*` for the scheduler or the flat bandit"),
    _key("arm", Text, _ARM),
    _has("probability", Double, "of being picked next", "fraction"),
    _may("value", Double, "the bandit's estimate of its reward; null: none"),
    _has("num_picks", Integer, "times picked up to here", "picks"),
    sqlite_with_rowid=False,
)

task_group = _table(
    "task_group",
    _to(_RUN, key=True),
    _key("step", Integer, _STEP, "steps"),
    _key("slot", Integer, "position in the batch, from 0"),
    _to(_ENVIRONMENT, _NAME),
    _to(_CATEGORY, _OF_CATEGORY),
    _has("task_key", Text, _TASK_KEY),
    _has("task_index", Integer, "number of the task in its category"),
    _has("role", Text, _ROLE),
    _has("num_samples", Integer, "in the group", "samples"),
    _has("num_scored", Integer, "that could be scored", "samples"),
    _has("num_correct", Integer, "of these correct", "samples"),
    _has("value_sum", Double, "sum of their values", "fraction"),
    _entries("scores", "value", "float", _VALUE, "fraction", null=True),
    _entries("correct", "correct", "boolean", _CORRECT, null=True),
    _entries("reasons", "reason", "text", _REASON, null=True),
    _entries("versions", "version", "integer", "of the weights that wrote it"),
    _entries("num_tokens", "num_tokens", "integer", "written by the policy", "tokens"),
    _entries("finishes", "finish", "text", "stop, length, ..."),
)

step_metric = _table(
    "step_metric",
    _to(_RUN, key=True),
    _key("step", Integer, _STEP, "steps"),
    _to(_METRIC, "see the list of metrics", key=True),
    _to(_ENVIRONMENT, _NAME_OR_ALL, key=True, null=True),
    _to(_CATEGORY, "name; null: the environment as a whole", key=True, null=True),
    _may("value", Double, _UNDEFINED, "the metric's"),
    _has("n", Double, "how many observations it stands for: tokens, groups or samples"),
    # By step first: a step's numbers land on one page, 0.25 ms for a hundred. With the series first it is
    # 2.2 ms, and reading one series of 3000 steps takes 24 ms instead of 1.
    sqlite_with_rowid=False,
)

event = _table(
    "event",
    _id("event_id"),
    _to(_RUN),
    _has("step", Integer, "steps done by then", "steps"),
    _may("stage", Integer, "the stage it began with; null: it came later"),
    _may("after_stage", Integer, _AT_BOUNDARY),
    _has("kind", Text, "decision, skipped update, unscorable, resumed, ..."),
    _has("text", FreeText, "what happened"),
    _has("data", Json, "the same for a program"),
    _written(),
    sa.Index(None, "run_id", "step"),
)

sample = _table(
    "sample",
    _id("sample_id"),
    _to(_RUN),
    _has("step", Integer, "steps done by then", "steps"),
    _may("after_stage", Integer, _AT_BOUNDARY),
    _has("slot", Integer, "position in the batch, or of the task at a boundary, from 0"),
    _has("sample", Integer, "position in the group, from 0"),
    _to(_ENVIRONMENT, _NAME),
    _to(_CATEGORY, _OF_CATEGORY),
    _has("task_key", Text, _TASK_KEY),
    _has("messages", Json, "the conversation before it: a list of {role, content}"),
    _has("completion", FreeText, "what the policy wrote"),
    _may("value", Double, _VALUE, "fraction"),
    _may("correct", Boolean, _CORRECT),
    _may("reason", FreeText, _REASON),
    sa.Index(None, "run_id", "step"),
)

checkpoint = _table(
    "checkpoint",
    _id("checkpoint_id"),
    _to(_RUN),
    _has("step", Integer),
    _has("num_boundaries", Integer),
    _has("kind", Text),
    _has("folder", Text),
    _has("sha256", Text),
    _has("num_bytes", BigInteger),
    _has("created_at", Text),
    _may("deleted_at", Text, later=True),
    UniqueConstraint("run_id", "folder"),
)

# --- what was measured between stages --------------------------------------------------------------------

boundary = _table(
    "boundary",
    _to(_RUN, key=True),
    _key("after_stage", Integer, _AFTER_STAGE),
    _has("step", Integer, "steps done by then", "steps"),
    _to(_CONFIG, _CONFIG_HASH),
    _has("seconds", Double, "time it took", "s"),
    _written(),
)

eval_cell = _table(
    "eval_cell",
    _to(_RUN, key=True),
    _key("after_stage", Integer, _AFTER_STAGE),
    _to(_ENVIRONMENT, _NAME_OR_ALL, key=True, null=True),
    _to(_CATEGORY, "name; null: mean over the trainable categories", key=True, null=True),
    _to(_METRIC, "see the list of metrics", key=True),
    _key(
        "split",
        Text,
        "anchor: held out; own: a closed environment's; select: a scheduler's; intervened: as anchor, once more after "
        "an intervention; final: set aside for a study's end",
    ),
    _to(_CONFIG, _CONFIG_HASH, key=True),
    _to("holdout.holdout_id", "hash of the keys of the tasks behind it; null for means", key=True, null=True),
    _may("value", Double, _UNDEFINED, "the metric's"),
    _may("stderr", Double, "of the mean over tasks", "the metric's"),
    _has("num_items", Integer, "tasks behind it", "tasks"),
    _has("samples_per_item", Integer, "samples of each", "samples"),
)

eval_item = _table(
    "eval_item",
    _to(_RUN, key=True),
    _key("after_stage", Integer, _AFTER_STAGE),
    _to(_ENVIRONMENT, _NAME, key=True),
    _to(_CATEGORY, _OF_CATEGORY, key=True),
    _key("item", Integer, "its place among the category's tasks, from 0"),
    _has("task_key", Text, _TASK_KEY),
    _has("num_scored", Integer, "samples that could be scored", "samples"),
    _has("num_correct", Integer, "of these correct", "samples"),
    _has("value_sum", Double, "sum of their values", "fraction"),
    _has("entropy_sum", Double, "over the tokens of all samples", "nats"),
    _has("num_tokens", Integer, "of all samples", "tokens"),
    _has("answers", Json, "of each answer the text, how often it was given, and how often right; empty: not kept"),
    sqlite_with_rowid=False,
)

measurement = _table(
    "measurement",  # a look at the policy, and what it cost
    _to(_RUN, key=True),
    _key("after_stage", Integer, _AFTER_STAGE),
    _key("name", Text, "evaluation, or as the spec's `measure` names it"),
    _has("passes", Double, "planned cost: a sample's forward pass is 1, forward and backward 3", "passes"),
    _has("seconds", Double, "time it took", "s"),
)

network_cell = _table(
    "network_cell",
    _to(_RUN, key=True),
    _key("after_stage", Integer, _AFTER_STAGE),
    _to(_METRIC, "see the list of metrics", key=True),
    _key("layer", Integer, "from 0; -1: the whole model"),
    _may("value", Double, _UNDEFINED, "the metric's"),
    sqlite_with_rowid=False,
)

probe = _table(
    "probe",
    _to(_RUN, key=True),
    _key("after_stage", Integer, _AFTER_STAGE),
    _key("kind", Text, "supervised, rl, random_labels or linear"),
    _key("task", Text, "what the copy was trained on: an environment, or what the kind makes itself"),
    _key("seed", Integer, "of the probe's own streams, from 0"),
    _has("sha256", Text, "hash of the protocol: only equal ones compare"),
    _has("protocol", Json, "the settings behind that hash"),
    _has("seconds", Double, "time it took", "s"),
)

probe_point = _table(
    "probe_point",
    _to(_RUN, key=True),
    _key("after_stage", Integer, _AFTER_STAGE),
    _key("kind", Text, "of the probe"),
    _key("task", Text, "of the probe"),
    _key("seed", Integer, "of the probe"),
    _key("step", Integer, "optimiser steps of the copy; 0: before any", "steps"),
    _to(_METRIC, "see the list of metrics", key=True),
    _may("value", Double, _UNDEFINED, "the metric's"),
    sqlite_with_rowid=False,
)

intervention = _table(
    "intervention",
    _to(_RUN, key=True),
    _key("after_stage", Integer, "at the boundary after this stage, once that was measured"),
    _key("number", Integer, "its place among the spec's interventions, from 0"),
    _has("step", Integer, "steps done by then", "steps"),
    _has("kind", Text, "as the spec names it"),
    _has("params", Json, "its options"),
    _has("why", Text, "the trigger, with the value that it read"),
    _has("checkpoint_before", Text, "folder of the checkpoint before it"),
    _has("checkpoint_after", Text, "folder of the checkpoint after it"),
    _written(),
)

holdout_query = _table(
    "holdout_query",  # every look at held-out tasks that can change a decision
    _id("holdout_query_id"),
    _to(_RUN),
    _has("after_stage", Integer, _AFTER_STAGE),
    _to("holdout.holdout_id", "hash of the keys of the tasks; null for several sets together", null=True),
    _to(_ENVIRONMENT, _NAME_OR_ALL, null=True),
    _has("asker", Text, "who may decide by it: scheduler, intervention, replay, final"),
    _may("value", Double, "what was answered", "the metric's"),
    sa.Index(None, "run_id", "after_stage"),
)

# --- views: read like tables, made by `schema.py` and the migrations -------------------------------------

transition = Table(
    "v_transition",
    sa.MetaData(),
    Column("run_id", Integer, primary_key=True),
    _has("from_stage", Integer, "the stage that ended"),
    _key("to_stage", Integer, "the stage that began"),
    _has("from_environment", Text, "name in the spec"),
    _has("to_environment", Text, "name in the spec"),
    _has("step", Integer, "steps done by then", "steps"),
    _may(
        "gap_steps",
        Integer,
        "since the last stage of the environment that began ended, replayed or not since; null: it had none",
        "steps",
    ),
)

# --- names in the place of keys --------------------------------------------------------------------------

NAMES: Mapping[str, Column[Any]] = {  # what a key of another table stands for
    "environment": environment.c.name,
    "category": category.c.name,
    "metric": metric_def.c.name,
    "eval_config": eval_config.c.sha256,
    "eval_settings": eval_config.c.settings,
    "holdout": holdout.c.sha256,
}


def key_of(name: str) -> Column[int]:
    """Return the key that a name stands for, as in `environment.environment_id`."""
    (key,) = NAMES[name].table.primary_key
    return key


def name_or_null(name: str) -> sa.Label[Any]:
    """Select a name; row 0, all of them, has none."""
    return sa.case((key_of(name) != 0, NAMES[name])).label(name)


def with_names(table: Table) -> sa.FromClause:
    """Join a table with those that its keys refer to and that have a name."""
    source: sa.FromClause = table
    for other in (environment, category, metric_def, eval_config, holdout):
        (key,) = other.primary_key
        if other is not table and key.name in table.c:
            source = source.join(other, key == table.c[key.name])
    return source


def trained(metrics: sa.FromClause) -> sa.FromClause:
    """Join training metrics with each ended stage that they are of: its environment's, categories together.

    By the environment's name, as it has another key where its version changed in mid-run; of a flat stage, which has
    key 0, the whole batch.
    """
    row, own, of_stage = step_metric.c, environment.alias(), environment.alias()
    is_inside = sa.and_(
        *(stage.c.run_id == row.run_id, row.step > stage.c.start_step, row.step <= stage.c.end_step),
        row.category_id == 0,
    )
    found = metrics.join(stage, is_inside).join(of_stage, of_stage.c.environment_id == stage.c.environment_id)
    is_same = sa.and_(own.c.environment_id == row.environment_id, own.c.name == of_stage.c.name)
    return found.join(own, is_same)
