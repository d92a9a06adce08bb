"""What MLflow filters and compares runs by: params, tags, and a line that says what a run is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import reduce
from typing import Any

from store.ledger.query_rows import RunRow, StageRow
from store.secrets import without_logins

Spec = Mapping[str, Any]
Words = dict[str, str]

ALL = "all"  # the environment of a stage in flat mode

_FROM_SPEC = {
    "mode": "curriculum.mode",
    "base_model": "policy.model",
    "algo": "objective.estimator",
    "lr": "learner.lr",
    "groups": "step.groups",
    "group_size": "step.group_size",
    "temperature": "sampler.temperature",
    "stage_budget_steps": "curriculum.stage.steps",
    "replay_frac": "curriculum.stage.replay",
    "opt_state": "curriculum.boundary.optimizer",
}
# What does not make a run a different experiment: where it is kept and what it runs on. The seed has its own param.
_NOT_HASHED = ("name", "seed", "tracker", "ledger", "checkpoint", "resources")


def params(run: RunRow, spec: Spec) -> Words:
    """Say what a run was set to; the same for its stages, so that filters work on both."""
    found = {name: _at(spec, path) for name, path in _FROM_SPEC.items()}
    found |= {
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


def tags(run: RunRow, store_uri: str) -> Words:
    """Name a run and where its ledger is."""
    lineage = {"evergreen.forked_from": f"{run.parent} after stage {run.parent_stage}"} if run.parent else {}
    if run.study is not None:
        lineage |= {"evergreen.study": run.study, "evergreen.setting": run.setting or ""}
    return {
        "evergreen.kind": "curriculum",
        "evergreen.run_uid": run.uid,
        "evergreen.store_uri": store_uri,
        **lineage,
    }


def stage_tags(run: RunRow, stage: StageRow, parent_id: str) -> Words:
    """Name a stage and hang it under its curriculum."""
    return {
        "evergreen.kind": "stage",
        "evergreen.run_uid": run.uid,
        "evergreen.stage": str(stage.stage),
        "mlflow.parentRunId": parent_id,
        "mlflow.note.content": f"Stage {stage.stage} of `{run.name}`: {stage.environment or 'all environments'}",
    }


def note(run: RunRow, spec: Spec) -> str:
    """Say in a line what a run is. MLflow shows it as Markdown, so what a spec may hold is set as code."""
    environments = ", ".join(f"`{_plain(name)}`" for name in sorted(spec.get("environments", {})))
    who = f"scheduler {run.scheduler}, bandit {run.bandit}" if run.scheduler else f"one bandit, {run.bandit}"
    return f"`{_plain(run.model)}` on {environments}; {who}; objective {_plain(run.objective)}"


def stage_name(run: RunRow, stage: StageRow) -> str:
    """Name a stage so that stages sort in order."""
    return f"{run.name} {stage.stage:02} {stage.environment or ALL}"


def _at(spec: Any, path: str) -> Any:
    """Follow dotted keys; None where a spec of another time has none."""
    return reduce(lambda at, key: at.get(key) if isinstance(at, Mapping) else None, path.split("."), spec)


def _plain(text: str) -> str:
    """Keep a text from ending its line or its code span."""
    return " ".join(text.replace("`", "'").split())
