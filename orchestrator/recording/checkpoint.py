"""What a checkpoint holds: every component of a run that a later step depends on, by name and version."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path

from environments import NoTasks
from orchestrator.components import Components
from orchestrator.measurements.contracts import Measurement
from orchestrator.progress import Progress
from orchestrator.recording.saved_state import EXPECTED, MAY_BE
from orchestrator.rollout import batch as rollout_batch
from policies.host_copies import HostCopies
from policies.objectives.objective import CONTROLLERS
from store.checkpoints import INTERVENED, OPTIMIZER, Component, OpenCheckpoint, json_component
from store.records import CheckpointKind
from store.sentences import listed

OF_MISSING = ("environment", "category", "reason")
THINNED = "the optimiser, whose state `checkpoint.boundaries` did not keep"


def name_of(at: Progress, kind: CheckpointKind = "boundary") -> str:
    """Name the folder of a checkpoint of this position; an intervention's lies beside that of its boundary."""
    return f"step-{at.step:06d}-boundary-{at.num_boundaries:03d}{INTERVENED if kind == 'intervention' else ''}"


def components(parts: Components, progress: Progress, aside: Path, copies: HostCopies | None = None) -> list[Component]:
    """Collect the state of all parts, ready to be written: now, or with `copies` while the run goes on.

    `aside`: where other ranks write their shares, in the run's folder. What measurements keep and the reference policy
    move at boundaries only, so they are not copied.
    """
    played = parts.rollouts.await_under_way()  # first: while it is played it may draw tasks
    weights = None if copies is None else copies.of("weights", parts.policy.state())
    made = [
        Component("weights", EXPECTED["weights"], partial(parts.policy.save, weights=weights)),
        json_component("policy", EXPECTED["policy"], {"version": parts.policy.version}),
        json_component(
            "objective",
            EXPECTED["objective"],
            {"objective": parts.objective.state(), "entropy": parts.entropy.state()},
        ),
        json_component("choice", EXPECTED["choice"], {**parts.choice.state(), "task_sets": parts.task_sets}),
        json_component("tasks", EXPECTED["tasks"], parts.tasks.state()),
        json_component("progress", EXPECTED["progress"], progress.state()),
    ]
    if parts.learner.reference is not None:
        made.append(Component("reference", MAY_BE["reference"], parts.learner.reference.save))
    if keepers := _keepers(parts):
        made.append(Component("measurements", MAY_BE["measurements"], partial(_save_measurements, keepers)))
    if played is not None:
        made.append(Component("under_way", MAY_BE["under_way"], partial(rollout_batch.save, played)))
    if (missing := parts.rollouts.missing) is not None:
        told = {"message": str(missing), **{name: getattr(missing, name) for name in OF_MISSING}}
        made.append(json_component("missing", MAY_BE["missing"], told))
    # last: other ranks begin to write theirs, and rank 0 waits for them when it has written all else
    made.append(Component(OPTIMIZER, EXPECTED["optimizer"], parts.learner.optimizer.snapshot(aside, copies)))
    return made


def restore(
    parts: Components, progress: Progress, opened: OpenCheckpoint, told: Collection[str] | None = None
) -> list[str]:
    """Put every part where the checkpoint left it. The policy's weights were loaded already.

    Names the parts that begin anew, because a fork made them others or the checkpoint has them no more.
    `told`: what the ledger was told of the run, such as why it stopped; None: everything.
    """
    parts.policy.version = opened.read_json("policy")["version"]
    objective = opened.read_json("objective")
    choice = opened.read_json("choice")
    anew = parts.choice.load_state(choice)
    anew += parts.choice.forget(_on_other_tasks(parts, choice.get("task_sets", {})))  # earlier versions kept no sets
    if OPTIMIZER in opened.components:
        parts.learner.optimizer.load(opened.components[OPTIMIZER])
    else:
        parts.learner.optimizer.reset()
        anew.append(THINNED)
    types = parts.spec.objective.controller_types
    # earlier versions told the types here, and the state of an objective no more of its controllers
    if objective.get("controllers", types) == types:
        anew += parts.objective.load_state(objective["objective"])
    else:
        anew.append(CONTROLLERS)
    if reread := parts.entropy.load_state(objective["entropy"]):
        for name in reread:
            parts.objective.of(name).rescale_controllers()
        anew.append(f"the reading of entropy in {listed(reread)}, whose next values are the start")
    anew += parts.tasks.load_state(opened.read_json("tasks"))
    progress.load_state(opened.read_json("progress"))
    if parts.learner.reference is not None:
        if "reference" in opened.components:
            parts.learner.reference.load(opened.components["reference"])
        else:
            anew.append("the reference policy")
    if "under_way" in opened.components:
        parts.rollouts.put_back(rollout_batch.load(opened.components["under_way"], parts.environments))
    if "missing" in opened.components:
        parts.rollouts.put_back_missing(NoTasks(**opened.read_json("missing")))
    if "measurements" in opened.components:
        for name, one in _keepers(parts).items():
            if (folder := opened.components["measurements"] / name).is_dir():
                one.load(folder)
    progress.num_unscorable_steps = 0  # whatever stopped the run may be mended by now
    parts.guards.restore(progress, told)
    return anew


def _on_other_tasks(parts: Components, before: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    """Name the environments whose held-out tasks are not those of a checkpoint, by pool.

    A fork may look at fewer pools. Checkpoints of earlier versions know tasks by their prompts alone.
    """
    now, by_prompt = parts.task_sets, parts.task_sets_by(lambda task: task.key)
    return {
        pool: [
            name
            for name, digest in own.items()
            if name in now[pool] and digest not in (now[pool][name], by_prompt[pool][name])
        ]
        for pool, own in before.items()
        if pool in now
    }


def _keepers(parts: Components) -> dict[str, Measurement]:
    """Name the measurements that keep something from one boundary to the next."""
    return {one.name: one for one in parts.measurements if type(one).save is not Measurement.save}


def _save_measurements(keepers: Mapping[str, Measurement], folder: Path) -> None:
    for name, one in keepers.items():
        own = folder / name
        own.mkdir()
        one.save(own)
