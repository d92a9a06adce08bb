"""The story of a run, from its ledger alone: plain facts for a person (`show`) and for a program (`show --json`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from store import checkpoints, outcomes, rollout_summary
from store.entropy_law import fit
from store.errors import CannotFit
from store.home import Home
from store.ledger import Ledger
from store.ledger.query_rows import CellRow
from store.lock import holder
from store.objective_summary import NOTHING, composed
from store.records import EVERYTHING
from store.sentences import what_is_missing

MATRICES = ("pass_1", "pass_4", "entropy_token")
PARTS = ("draw", "play", "score", "wait", "update", "other")  # of a step's time

Facts = dict[str, Any]
Matrix = dict[str, dict[str, float | None]]  # after stage i -> environment j -> value


def tell(ledger: Ledger, home: Home, name: str) -> Facts:
    """Collect what there is to say about a run, and the hashes that prove it: those read everything."""
    folder = home.run_folder(name)
    told = facts(ledger, folder, name)
    return {**told, **_digests(ledger, name, folder, is_whole=told["missing"] is None)}


def facts(ledger: Ledger, folder: Path, name: str) -> Facts:
    """Collect what there is to say about a run; quick enough to be asked at every boundary."""
    read = ledger.reading
    run, spec = read.run(name), read.spec(name)
    cells = {metric: read.matrix(name, metric) for metric in MATRICES}
    matrices = {metric: _matrix(of) for metric, of in cells.items()}
    begun = read.stages(name)
    stages = [asdict(stage) for stage in begun]
    carried = outcomes.matrices(cells["pass_1"], cells["entropy_token"], begun)
    return {
        "name": name,
        "status": status(run.status, folder),
        "folder": str(folder),
        "parent": {"name": run.parent, "after_stage": run.parent_stage} if run.parent else None,
        "study": {"name": run.study, "setting": run.setting} if run.study else None,
        "baseline_of": run.baseline_of,
        "baseline": _baseline(ledger, name, matrices["pass_1"]),
        "model": run.model,
        "objective": run.objective,
        "composition": dict(composed(spec.get("objective") or {})),
        "scheduler": run.scheduler,
        "bandit": run.bandit,
        "seed": run.seed,
        "num_steps": run.num_steps,
        "planned_steps": _planned_steps(spec["curriculum"], stages),
        "planned_stages": spec["curriculum"]["stages"],
        "num_boundaries": run.num_boundaries,
        "missing": what_is_missing(read.gaps(name)),
        "seconds": _seconds(ledger, name),
        "environments": _environments(matrices, cells["pass_1"]),
        "matrices": matrices,
        "carry_over": outcomes.of_run(carried),
        "switches": [
            {"stage": stage, "environment": name, **outcomes.of_switch(carried, stage)}
            for stage, name in enumerate(carried.trained, start=1)
        ],
        "laws": _laws(spec.get("objective") or {}, matrices),
        "stages": stages,
        "arms": _arms(ledger, name, has_scheduler=run.scheduler is not None),
        "allocation": [asdict(row) for row in read.allocation(name)],
        "taught": [asdict(row) for row in read.taught(name, _reward(spec))],
        "played": rollout_summary.tell(read, name),
        "unscorable": [asdict(row) for row in read.unscorable(name)],
        "last_metrics": {
            number.metric: number.value for number in read.last_metrics(name) if number.environment is None
        },
        "events": [asdict(event) for event in read.events(name)],
    }


def status(recorded: str, folder: Path) -> str:
    """Say how a run stands; one that says it runs while nobody holds it was killed."""
    return "killed" if recorded == "running" and holder(folder) is None else recorded


def newest_checkpoint(ledger: Ledger, name: str, folder: Path) -> Path | None:
    """Find the newest whole checkpoint's folder."""
    record, _ = checkpoints.newest_valid(folder, ledger.reading.checkpoints(name))
    return folder / record.folder if record else None


def _reward(spec: Mapping[str, Any]) -> str:
    """What the objective reads of a score; earlier specs did not say, and it was the value."""
    return str((spec.get("objective") or {}).get("reward", "value"))


def _planned_steps(curriculum: Mapping[str, Any], stages: Sequence[Facts]) -> int:
    """Steps of the whole run, at most: stages that are over count as they were."""
    last = stages[-1] if stages else None
    left = curriculum["stages"] - (last["stage"] if last else 0)
    if last is None:
        done = 0
    elif last["end_step"] is None:
        done = last["start_step"] + last["num_steps"]
    else:
        done = last["end_step"]
    return int(done + left * curriculum["stage"]["steps"])


def _laws(objective: Mapping[str, Any], matrices: Mapping[str, Matrix]) -> dict[str, Facts]:
    """What accuracy each environment's entropy bought, where nothing acts on entropy and the boundaries can tell."""
    parts = dict(composed(objective))
    acting = {"plans", "shaper", "shapers", "terms"} & parts.keys()
    if acting or parts.get("controllers", parts.get("controller", NOTHING)) != NOTHING:
        return {}
    entropy, accuracy = matrices["entropy_token"], matrices["pass_1"]
    found: dict[str, Facts] = {}
    for name in dict.fromkeys(name for row in entropy.values() for name in row):
        pairs = [(row.get(name), accuracy.get(stage, {}).get(name)) for stage, row in entropy.items()]
        points = [(h, r) for h, r in pairs if h is not None and r is not None]
        with suppress(CannotFit):  # too few boundaries yet, or an entropy that never moved
            law = fit([h for h, _ in points], [r for _, r in points])
            rise = law.rise(points[-1][0])
            found[name] = {**asdict(law), "ceiling": law.ceiling, "rise": rise, "num_points": len(points)}
    return found


def _digests(ledger: Ledger, name: str, folder: Path, is_whole: bool) -> Facts:
    """Hash the run; a record with gaps has no digest, which would be that of another run."""
    newest = newest_checkpoint(ledger, name, folder) if is_whole else None
    if newest is None:
        return {"digest": None, "digest_all": None}
    weights = checkpoints.weights_sha256(newest)
    return {
        "digest": ledger.reading.digest(name, weights),
        "digest_all": ledger.reading.digest_all(name, weights),
    }


def _matrix(cells: list[CellRow]) -> Matrix:
    """Arrange the environments' own cells by stage; categories are left out."""
    matrix: Matrix = {}
    for cell in cells:
        if cell.category is None and cell.environment is not None:
            matrix.setdefault(str(cell.after_stage), {})[cell.environment] = cell.value
    return matrix


def _environments(matrices: Mapping[str, Matrix], cells: list[CellRow]) -> Facts:
    """Compare every environment's first and last boundary, in the order of the spec."""
    closed = {cell.environment for cell in cells if cell.split == "own"}
    stderr = {(c.after_stage, c.environment): c.stderr for c in cells if c.category is None}
    facts: Facts = {}
    for name in dict.fromkeys(cell.environment for cell in cells if cell.environment is not None):
        accuracy, entropy = (
            _first_and_last(matrices[metric], name) for metric in ("pass_1", "entropy_token")
        )
        last = max((int(i) for i in matrices["pass_1"]), default=0)
        facts[name] = {
            "closed": name in closed,
            "accuracy_start": accuracy[0],
            "accuracy_end": accuracy[1],
            "accuracy_change": _difference(accuracy),
            "accuracy_stderr": stderr.get((last, name)),
            "entropy_start": entropy[0],
            "entropy_end": entropy[1],
        }
    return facts


def _baseline(ledger: Ledger, name: str, accuracy: Matrix) -> Facts | None:
    """Compare a run with its twin, at the last boundary that both have measured."""
    twin = ledger.reading.baseline(name)
    if twin is None:
        return None
    other = _matrix(ledger.reading.matrix(twin, "pass_1"))
    both = sorted(accuracy.keys() & other.keys(), key=int)
    ends = (accuracy[both[-1]], other[both[-1]]) if both else ({}, {})
    return {
        "name": twin,
        "bandit": ledger.reading.run(twin).bandit,
        "after_stage": int(both[-1]) if both else None,
        "accuracy": ends[1],
        "accuracy_change": {name: _difference((ends[1].get(name), value)) for name, value in ends[0].items()},
    }


def _first_and_last(matrix: Matrix, name: str) -> tuple[float | None, float | None]:
    """Look an environment up at its first boundary, which is a later one if it joined at a fork, and at the last."""
    values = [matrix[i][name] for i in sorted(matrix, key=int) if name in matrix[i]]
    return (values[0], values[-1]) if values else (None, None)


def _difference(pair: tuple[float | None, float | None]) -> float | None:
    return None if pair[0] is None or pair[1] is None else pair[1] - pair[0]


def _arms(ledger: Ledger, name: str, has_scheduler: bool) -> list[Facts]:
    """Say where every arm's probability began, went and ended."""
    return [
        {**asdict(path), "is_scheduler": path.bandit == EVERYTHING and has_scheduler}
        for path in ledger.reading.arm_paths(name)
    ]


def _seconds(ledger: Ledger, name: str) -> Facts:
    """Seconds by part over all steps, and of all evaluations."""
    sums = ledger.reading.sums(name, [f"seconds_{part}" for part in PARTS])
    spent = {part: sums.get(f"seconds_{part}", 0.0) for part in PARTS}
    spent["evaluate"] = sum(boundary.seconds for boundary in ledger.reading.boundaries(name))
    return spent
