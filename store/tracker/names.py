"""MLflow's names for what the ledger knows, and the values of steps and picks under them.

Metric first, environment last, so that MLflow's UI makes a section a metric. docs/mlflow.md lists all names, and a test
compares what is sent with them.
"""

from __future__ import annotations

import hashlib
import json
import math
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from typing import Any

from store.ledger.query_rows import (
    ArmRow,
    MeasurementRow,
    MetricRow,
    NetworkRow,
    PickRow,
    RunRow,
    StageRow,
    TaskSetRow,
    by_key,
)
from store.metrics import metric as known_metric
from store.records import EVERYTHING, Gaps
from store.report.charts import palette
from store.run_summary import changed_tasks
from store.secrets import without_logins
from store.sentences import other_tasks, what_is_missing

Named = tuple[str, float | None]


# A series an environment, and a series a category: enough to see what happens; the ledger has all of them.
PER_ENVIRONMENT = {
    "reward": "train_reward",
    "accuracy": "train_accuracy",
    "signal": "train_signal",
    "zero_var_groups": "train_zero_var_groups",
    "entropy_token": "entropy_token",
    "truncated_frac": "train_truncated_frac",
    "num_turns": "train_num_turns",
    "tokens_per_s_play": "tokens_per_s_play",
    "eval_pass_1": "eval_pass_1",
    "eval_entropy_token": "eval_entropy_token",
}
PER_CATEGORY = ("reward", "accuracy", "signal", "entropy_token")
SUPPORT = "support_"  # metrics that say by themselves that they are of boundaries
TRAINABILITY = "final/trainability"
HASH = "evergreen.config_hash"  # tag: of the spec that the run goes on with, while its param is what it began with
TASKS_CHANGED, MISSING = "evergreen.tasks_changed", "evergreen.missing"  # tags: see `caveats`

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
_ALLOWED = re.compile(r"[\w.\- :/]+")  # in a metric's name, if it is a path that leads nowhere else
_UNSAFE_OR_DOT = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST = 100  # characters of a part; MLflow takes 250 in all


def slug(text: str, unsafe: re.Pattern[str] = _UNSAFE) -> str:
    """Make a text part of a name: as it is where MLflow allows, else mended, with a hash at its end."""
    if text[:1].isalnum() and len(text) <= _LONGEST and not unsafe.search(text):
        return text
    suffix = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{unsafe.sub('_', text)[:_LONGEST]}-{suffix}"


def _as_allowed(metric: str) -> str:
    """Keep a metric's own name where MLflow takes it, in which a user's parts and measurements may have anything."""
    is_plain = len(metric) <= _LONGEST and _ALLOWED.fullmatch(metric) and posixpath.normpath(metric) == metric
    return metric if is_plain and not metric.startswith(("/", "..")) else slug(metric)


def of_environment(metric: str, environment: str) -> str:
    """Name a series of an environment."""
    return f"{metric}/{slug(environment)}"


def of_category(metric: str, environment: str, category: str) -> str:
    """Name a series of a category. Its part holds no dot, so that the last dot separates the two."""
    return f"{metric}_by_category/{slug(environment)}.{slug(category, _UNSAFE_OR_DOT)}"


def of_matrix(metric: str, environment: str) -> str:
    """Name a metric's series of an environment at boundaries."""
    allowed = _as_allowed(metric)
    return of_environment(allowed if metric.startswith(SUPPORT) else f"R_{allowed}", environment)


@dataclass(frozen=True)
class MlflowValue:
    """A point of a series."""

    name: str
    value: float
    step: int
    at_ms: int  # since 1970


def values(numbers: Mapping[str, float | None], step: int, at: str) -> list[MlflowValue]:
    """Make points; what is missing or not finite is left out, for it would ruin a chart."""
    at_ms = milliseconds(at)
    return [
        MlflowValue(name, float(value), step, at_ms)
        for name, value in numbers.items()
        if value is not None and math.isfinite(value)
    ]


def milliseconds(at: str) -> int:
    """Turn the ledger's times into MLflow's."""
    return round(datetime.fromisoformat(at).timestamp() * 1000)


def of_step(numbers: Iterable[MetricRow]) -> Iterator[Named]:
    """Name a step's training metrics; those that no name is for stay in the ledger."""
    for number in numbers:
        metric, environment, category = number.metric, number.environment, number.category
        if environment is None:
            group = "time" if known_metric(metric).group == "time" else "train"
            yield f"{group}/{_as_allowed(metric)}", number.value
        elif category is None:
            if metric in PER_ENVIRONMENT:
                yield of_environment(PER_ENVIRONMENT[metric], environment), number.value
        elif metric in PER_CATEGORY:
            yield of_category(metric, environment, category), number.value


def of_network(numbers: Iterable[NetworkRow]) -> Iterator[Named]:
    """Name a boundary's numbers of the network: the whole model's, and of many layers the middle and the last."""
    for metric, own in by_key(numbers, lambda row: row.metric).items():
        layers = sorted((row for row in own if row.layer >= 0), key=lambda row: row.layer)
        for row in own:
            if row.layer < 0:
                yield f"net/{slug(metric)}", row.value
        if layers:
            yield f"net/{slug(metric)}_mid", layers[(len(layers) - 1) // 2].value
            yield f"net/{slug(metric)}_last", layers[-1].value


def of_measurements(costs: Iterable[MeasurementRow]) -> Iterator[Named]:
    """Name what looking cost at a boundary."""
    for cost in costs:
        yield f"looking_seconds/{slug(cost.name)}", cost.seconds
        yield f"looking_passes/{slug(cost.name)}", cost.passes


def of_bandits(arms: Iterable[ArmRow], is_flat: bool) -> Iterator[tuple[str, float]]:
    """Name the probabilities of categories; the flat bandit's arms are called environment/category."""
    for arm in arms:
        if arm.bandit != EVERYTHING:
            yield of_category("bandit_prob", arm.bandit, arm.arm), arm.probability
        elif is_flat:
            environment, _, category = arm.arm.partition("/")
            yield of_category("bandit_prob", environment, category), arm.probability


def of_pick(pick: PickRow, drawn_from: Mapping[str, float], arms: Sequence[ArmRow]) -> Iterator[Named]:
    """Name what a scheduler knew when it picked a stage.

    `drawn_from` are the probabilities at the pick. Estimates and counts stand in its arms as they were after the
    stage's first step: nothing has moved them since.
    """
    for arm in arms:
        chance = pick.probability if arm.arm == pick.arm else drawn_from.get(arm.arm)
        yield of_environment("bandit_prob", arm.arm), chance
        yield of_environment("bandit_index", arm.arm), arm.value
        yield of_environment("bandit_pulls", arm.arm), arm.num_picks


# --- what runs are filtered and compared by: params, tags, and a line that says what a run is ---


Spec = Mapping[str, Any]
Words = dict[str, str]

ALL = "all"  # the environment of a stage in flat mode
SETTING = "evergreen.setting"
SEED = "seed"  # a tag beside the param: MLflow puts the mean of a numeric param into the row of a group
COLOUR = "mlflow.runColor"
COLOURS = {  # those of the report's lines
    "c1": "#1f5fa8", "c2": "#b8500f", "c3": "#13795b", "c4": "#8a3f9c", "c5": "#a8284f", "c6": "#6f6400",
    "c7": "#3c4a5c", "c8": "#7c4a2d", "c0": "#8b9097",
}  # fmt: skip

_FROM_SPEC = {
    "mode": "curriculum.mode",
    "base_model": "policy.model",
    "algo": "objective.estimator",
    "lr": "learner.lr",
    "lr_schedule": "learner.schedule.type",
    "groups": "step.groups",
    "group_size": "step.group_size",
    "temperature": "sampler.temperature",
    "stage_budget_steps": "curriculum.stage.steps",
    "opt_state": "curriculum.boundary.optimizer",
}
# What does not make a run a different experiment: where it is kept and what it runs on. The seed has its own param.
_NOT_HASHED = ("name", "seed", "tracker", "ledger", "checkpoint", "resources")


def params(run: RunRow, spec: Spec) -> Words:
    """Say what a run was set to; the same for its stages, so that filters work on both."""
    found = {name: _at(spec, path) for name, path in _FROM_SPEC.items()}
    replay = _at(spec, "curriculum.stage.replay")
    by_rule = replay if isinstance(replay, Mapping) else {"share": replay, "rule": None}
    found |= {
        "replay_frac": by_rule["share"],
        "replay_rule": by_rule["rule"],
        "model": run.model,
        "objective": run.objective,
        "scheduler": run.scheduler or "none",
        "bandit": run.bandit,
        "seed": run.seed,
        "n_envs": len(spec.get("environments", {})) or None,
        "config_hash": config_hash(spec),
    }
    return {name: without_logins(str(value)) for name, value in found.items() if value is not None}


def stage_params(stage: StageRow, spec: Spec) -> Words:
    """Say what a stage was about."""
    name = stage.environment or ALL
    family = _at(spec.get("environments", {}).get(name), "type")
    return {"stage_idx": str(stage.stage), "env": name} | ({"env_family": str(family)} if family else {})


def config_hash(spec: Spec) -> str:
    """Hash a spec: equal for runs that differ in seed, name and place only."""
    content = {key: value for key, value in spec.items() if key not in _NOT_HASHED}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def tags(run: RunRow, spec: Spec, store_uri: str) -> Words:
    """Name a run, where its ledger is, and the spec that it goes on with."""
    lineage = {"evergreen.forked_from": f"{run.parent} after stage {run.parent_stage}"} if run.parent else {}
    if run.study is not None:
        lineage |= {"evergreen.study": run.study}
    own = {"evergreen.kind": "curriculum", "evergreen.run_uid": run.uid, "evergreen.store_uri": store_uri}
    return own | lineage | {HASH: config_hash(spec)}


def caveats(sets: Iterable[TaskSetRow], lost: Gaps) -> Words:
    """Say whether numbers tell of other tasks as well as of the policy, and what a lost ledger took along."""
    changed = changed_tasks(sets)
    return {TASKS_CHANGED: other_tasks(changed) if changed else "no", MISSING: what_is_missing(lost) or "nothing"}


def setting(run: RunRow) -> str:
    """Name what runs are grouped by: a study's label, else what chose and what trained."""
    return run.setting or ", ".join(filter(None, (run.objective, run.bandit, run.scheduler)))


def looks(run: RunRow, runs: Iterable[RunRow]) -> Words:
    """Group a run with those of its setting, by seed, in one colour: settings in the order of their first runs."""
    settings = list(dict.fromkeys(setting(one) for one in runs if one.study == run.study))
    own = setting(run)
    return {SETTING: own, SEED: str(run.seed), COLOUR: COLOURS[palette(settings, settings)[own]]}


def stage_tags(run: RunRow, stage: StageRow, parent_id: str, trainer: str) -> Words:
    """Name a stage and hang it under its curriculum; of one that a fork has from another run, name that `trainer`."""
    inherited = {"evergreen.inherited_from": trainer} if trainer != run.name else {}
    return {
        "evergreen.kind": "stage",
        "evergreen.run_uid": run.uid,
        "evergreen.stage": str(stage.stage),
        "mlflow.parentRunId": parent_id,
        "mlflow.note.content": f"Stage {stage.stage} of `{run.name}`: {stage.environment or 'all environments'}",
        **inherited,
    }


def note(run: RunRow, spec: Spec) -> str:
    """Say in a line what a run is. MLflow shows it as Markdown, so what a spec may hold is set as code."""
    environments = ", ".join(f"`{_plain(name)}`" for name in sorted(spec.get("environments", {})))
    who = f"scheduler {run.scheduler}, bandit {run.bandit}" if run.scheduler else f"one bandit, {run.bandit}"
    return f"`{_plain(run.model)}` on {environments}; {who}; objective {_plain(run.objective)}"


def stage_name(run: RunRow, stage: StageRow) -> str:
    """Name a stage so that stages sort in order, and a narrow column still shows which one it is."""
    return f"{stage.stage:02} {stage.environment or ALL} ({run.name})"


def _at(spec: Any, path: str) -> Any:
    """Follow dotted keys; None where a spec of another time has none."""
    return reduce(lambda at, key: at.get(key) if isinstance(at, Mapping) else None, path.split("."), spec)


def _plain(text: str) -> str:
    """Keep a text from ending its line or its code span."""
    return " ".join(text.replace("`", "'").split())
