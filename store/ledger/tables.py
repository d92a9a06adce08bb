"""The ledger's tables. Migrations create them; a test holds the two equal.

Keys are natural where they can be: (run, step, slot) rather than a number. Row 0 of `environment`, `category`
and `holdout`, named `*`, means all of them. JSON is kept as text with sorted keys, times as ISO-8601 UTC text.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

ALL = "*"  # the name of row 0


class Json(TypeDecorator[Any]):
    """Plain data as JSON text: the same text on every database, floats exact, any character allowed."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Write; None is NULL."""
        return None if value is None else json.dumps(value, sort_keys=True, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Read."""
        return None if value is None else json.loads(value)


class FreeText(TypeDecorator[str]):
    """Text that a model or a program wrote: what some database refuses is made visible instead."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Write; PostgreSQL takes no NUL, and no UTF-8 database takes half a surrogate pair."""
        return None if value is None else value.replace("\0", "\u2400").encode("utf-8", "replace").decode()


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    }
)


def _key(name: str, *args: Any) -> Column[Any]:
    return Column(name, *(args or (Integer,)), primary_key=True, autoincrement=False)


def _id(name: str) -> Column[int]:
    return Column(name, Integer, primary_key=True)


def _has(name: str, *args: Any) -> Column[Any]:
    return Column(name, *args, nullable=False)


def _may(name: str, *args: Any) -> Column[Any]:
    return Column(name, *args, nullable=True)


def _run() -> ForeignKey:
    return ForeignKey("run.run_id")


def _environment() -> ForeignKey:
    return ForeignKey("environment.environment_id")


def _category() -> ForeignKey:
    return ForeignKey("category.category_id")


# --- what runs are about: shared by all runs -------------------------------------------------------------

environment = Table(
    "environment",
    metadata,
    _id("environment_id"),
    _has("name", Text),
    _has("version", Text),
    _has("type", Text),
    _has("closed", Boolean),
    _has("options", Json),
    _has("fingerprint", Text),  # of type, closed and options: a spec may call two things by one name
    UniqueConstraint("name", "version", "fingerprint"),
)

category = Table(
    "category",
    metadata,
    _id("category_id"),
    _has("environment_id", Integer, _environment()),
    _has("name", Text),
    _has("trainable", Boolean),
    _has("parameters", Json),
    _has("fingerprint", Text),  # of trainable and parameters
    UniqueConstraint("environment_id", "name", "fingerprint"),
)

metric_def = Table(
    "metric_def",
    metadata,
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

eval_config = Table(
    "eval_config",
    metadata,
    _id("eval_config_id"),
    _has("sha256", Text),
    _has("settings", Json),
    UniqueConstraint("sha256"),
)

holdout = Table(
    "holdout",
    metadata,
    _id("holdout_id"),
    _has("environment_id", Integer, _environment()),
    _has("category_id", Integer, _category()),
    _has("purpose", Text),  # "anchor", "select", "final"; "own" for a closed environment
    _has("sha256", Text),  # of the task keys
    _has("num_items", Integer),
    UniqueConstraint("environment_id", "category_id", "purpose", "sha256"),
)

# --- a run and its course --------------------------------------------------------------------------------

run = Table(
    "run",
    metadata,
    _id("run_id"),
    _has("uid", Text),
    _has("name", Text),
    _has("seed", BigInteger),
    _has("model", Text),
    _has("objective", Text),
    _may("scheduler", Text),  # NULL in flat mode
    _has("bandit", Text),
    _has("spec", Json),
    _has("host", Json),
    _has("status", Text),  # "running", "stopped", "finished", "failed"
    _has("created_at", Text),
    _may("ended_at", Text),
    UniqueConstraint("uid"),
    UniqueConstraint("name"),
)

lineage = Table(
    "lineage",  # only runs that were forked from another have a row
    metadata,
    _key("run_id", Integer, _run()),
    _has("parent_id", Integer, _run()),
    _has("parent_stage", Integer),  # it began at the boundary after this stage of its parent
)

study = Table(
    "study",
    metadata,
    _id("study_id"),
    _has("name", Text),
    _has("plan", Json),  # as it is now: seeds and settings may be added
    _has("created_at", Text),
    UniqueConstraint("name"),
)

member = Table(
    "member",  # only runs of a study have a row
    metadata,
    _key("run_id", Integer, _run()),
    _has("study_id", Integer, ForeignKey("study.study_id")),
    _has("setting", Text),  # a label, the same for every seed
    _has("changes", Json),  # dotted spec field -> value
)

twin = Table(
    "twin",  # only the baselines of other runs have a row
    metadata,
    _key("run_id", Integer, _run()),
    _has("of_id", Integer, _run()),
)

stage = Table(
    "stage",
    metadata,
    _key("run_id", Integer, _run()),
    _key("stage"),
    _has("environment_id", Integer, _environment()),  # 0 in flat mode
    _has("start_step", Integer),
    _has("num_steps", Integer),  # as planned
    _has("replay", Double),
    _may("end_step", Integer),  # NULL while the stage is open
    _may("stop_reason", Text),
    _has("started_at", Text),
    _may("ended_at", Text),
)

step = Table(
    "step",
    metadata,
    _key("run_id", Integer, _run()),
    _key("step"),
    _has("stage", Integer),
    _has("stage_step", Integer),
    _has("seconds", Double),
    _has("num_tokens", Integer),
    _has("num_samples", Integer),
    _has("created_at", Text),
    sqlite_with_rowid=False,
)

pick = Table(
    "pick",
    metadata,
    _key("run_id", Integer, _run()),
    _key("step"),  # a scheduler's pick: the steps done before its stage
    _key("stage"),
    _key("level", Text),
    _key("slot"),
    _has("role", Text),
    _has("environment_id", Integer, _environment()),
    _has("arm", Text),
    _has("probability", Double),
    _may("signal", Double),
    sqlite_with_rowid=False,
)

arm_state = Table(
    "arm_state",
    metadata,
    _key("run_id", Integer, _run()),
    _key("step"),
    _key("bandit", Text),
    _key("arm", Text),
    _has("probability", Double),
    _may("value", Double),
    _has("num_picks", Integer),
    sqlite_with_rowid=False,
)

task_group = Table(
    "task_group",
    metadata,
    _key("run_id", Integer, _run()),
    _key("step"),
    _key("slot"),
    _has("environment_id", Integer, _environment()),
    _has("category_id", Integer, _category()),
    _has("task_key", Text),
    _has("task_index", Integer),
    _has("role", Text),
    _has("num_samples", Integer),
    _has("num_scored", Integer),
    _has("num_correct", Integer),
    _has("value_sum", Double),
    _has("scores", Json),  # from here on lists, one entry a sample
    _has("correct", Json),
    _has("reasons", Json),
    _has("versions", Json),
    _has("num_tokens", Json),
    _has("finishes", Json),
)

step_metric = Table(
    "step_metric",
    metadata,
    _key("run_id", Integer, _run()),
    _key("step"),
    _key("metric_id", Integer, ForeignKey("metric_def.metric_id")),
    _key("environment_id", Integer, _environment()),
    _key("category_id", Integer, _category()),
    _may("value", Double),  # NULL: not finite
    _has("n", Double),
    # By step first: a step's numbers land on one page, 0.25 ms for a hundred. With the series first it is
    # 2.2 ms, and reading one series of 3000 steps takes 24 ms instead of 1.
    sqlite_with_rowid=False,
)

event = Table(
    "event",
    metadata,
    _id("event_id"),
    _has("run_id", Integer, _run()),
    _has("step", Integer),
    _may("stage", Integer),  # set when it came with a stage's start
    _may("after_stage", Integer),  # set when it came with a boundary
    _has("kind", Text),
    _has("text", FreeText),
    _has("data", Json),
    _has("created_at", Text),
    Index(None, "run_id", "step"),
)

sample = Table(
    "sample",
    metadata,
    _id("sample_id"),
    _has("run_id", Integer, _run()),
    _has("step", Integer),
    _may("after_stage", Integer),  # set when it was made at a boundary
    _has("slot", Integer),
    _has("sample", Integer),
    _has("environment_id", Integer, _environment()),
    _has("category_id", Integer, _category()),
    _has("task_key", Text),
    _has("messages", Json),
    _has("completion", FreeText),
    _may("value", Double),
    _may("correct", Boolean),
    _may("reason", FreeText),
    Index(None, "run_id", "step"),
)

checkpoint = Table(
    "checkpoint",
    metadata,
    _id("checkpoint_id"),
    _has("run_id", Integer, _run()),
    _has("step", Integer),
    _has("num_boundaries", Integer),
    _has("kind", Text),
    _has("folder", Text),
    _has("sha256", Text),
    _has("num_bytes", BigInteger),
    _has("created_at", Text),
    _may("deleted_at", Text),
    UniqueConstraint("run_id", "folder"),
)

# --- what was measured between stages --------------------------------------------------------------------

boundary = Table(
    "boundary",
    metadata,
    _key("run_id", Integer, _run()),
    _key("after_stage"),
    _has("step", Integer),
    _has("eval_config_id", Integer, ForeignKey("eval_config.eval_config_id")),
    _has("seconds", Double),
    _has("created_at", Text),
)

eval_cell = Table(
    "eval_cell",
    metadata,
    _key("run_id", Integer, _run()),
    _key("after_stage"),
    _key("environment_id", Integer, _environment()),
    _key("category_id", Integer, _category()),
    _key("metric_id", Integer, ForeignKey("metric_def.metric_id")),
    _key("split", Text),
    _key("eval_config_id", Integer, ForeignKey("eval_config.eval_config_id")),
    _key("holdout_id", Integer, ForeignKey("holdout.holdout_id")),
    _may("value", Double),
    _may("stderr", Double),
    _has("num_items", Integer),
    _has("samples_per_item", Integer),
)

eval_item = Table(
    "eval_item",
    metadata,
    _key("run_id", Integer, _run()),
    _key("after_stage"),
    _key("environment_id", Integer, _environment()),
    _key("category_id", Integer, _category()),
    _key("item"),  # its place among the category's items
    _has("task_key", Text),
    _has("num_scored", Integer),
    _has("num_correct", Integer),
    _has("value_sum", Double),
    _has("entropy_sum", Double),
    _has("num_tokens", Integer),
    _has("answers", Json),
    sqlite_with_rowid=False,
)
