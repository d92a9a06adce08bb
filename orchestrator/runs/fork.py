"""Runs made from another: a fork goes on from its boundary with another spec, a twin differs in the bandit alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.errors import SpecError, UserError
from orchestrator.spec import Spec, load_spec
from store import checkpoints
from store.files import new_folder
from store.ledger import Ledger
from store.records import CheckpointRecord

FIXED = {  # what a fork shares with its parent, and why
    "policy": "its weights are the parent's",
    "warm_start": "it lies behind the parent's first step",
    "evaluate": "its boundaries must compare with the parent's",
    "ledger": "it holds the parent's history",
}


def forked_spec(
    parent: Spec, source: str | Path | Mapping[str, Any] | Spec | None, overrides: Sequence[str], stage: int
) -> Spec:
    """Read the spec of a fork: the parent's with overrides, or another one. Raises SpecError if it cannot go on."""
    default = parent.model_copy(update={"name": f"{parent.name}-fork"})
    spec = load_spec(default if source is None else source, overrides)
    shared = [
        one.kept() | {"ledger": one.kept()["ledger"]["url"]} for one in (spec, parent)
    ]  # however one logs in
    problems = [
        f"{section}: a fork keeps its parent's, because {why}"
        for section, why in FIXED.items()
        if shared[0][section] != shared[1][section]
    ]
    for name, environment in parent.environments.items():
        if name not in spec.environments:
            problems.append(f"environments.{name}: the parent has it, and so must a fork")
        elif spec.environments[name] != environment:
            problems.append(
                f"environments.{name}: is not the parent's any more; give a changed one a new name"
            )
    if spec.curriculum.mode != parent.curriculum.mode:
        problems.append(f"curriculum.mode: the parent is {parent.curriculum.mode}, and so must a fork be")
    if spec.curriculum.stages <= stage:
        problems.append(
            f"curriculum.stages: {spec.curriculum.stages} leaves nothing to do after stage {stage}; say more"
        )
    if problems:
        raise SpecError("\n".join(problems))
    return spec


def twin_of(spec: Spec) -> Spec:
    """Write the spec of a run's twin, its baseline: another bandit, which reads its signal the same way."""
    assert spec.baseline is not None
    raw = spec.model_dump(mode="json", by_alias=True)
    bandit = raw["curriculum"]["bandit"]
    signal = {key: bandit[key] for key in ("signal", "signal_reward") if key in bandit}
    raw["curriculum"]["bandit"] = {"type": spec.baseline, **signal}
    return load_spec({**raw, "name": f"{spec.name}-{spec.baseline}", "baseline": None})


def boundary_checkpoint(ledger: Ledger, folder: Path, run: str, stage: int) -> CheckpointRecord:
    """Find the whole checkpoint of a run's boundary after a stage; UserError says which there are."""
    boundaries = [r for r in ledger.reading.checkpoints(run) if r.kind == "boundary"]
    for record in boundaries:
        if record.num_boundaries == stage + 1:
            checkpoints.verify(folder / record.folder, record.sha256)
            return record
    there = ", ".join(str(r.num_boundaries - 1) for r in reversed(boundaries)) or "none"
    raise UserError(f"{run} has no checkpoint of the boundary after stage {stage}; there are: {there}")


def adopt_checkpoint(record: CheckpointRecord, parent: Path, folder: Path) -> None:
    """Give a run's folder another's checkpoint. Its files never change, so where the disk can, they are shared."""

    def link_or_copy(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without links
            shutil.copy2(source, target)

    with new_folder(folder / record.folder) as aside:
        shutil.copytree(parent / record.folder, aside, copy_function=link_or_copy, dirs_exist_ok=True)
