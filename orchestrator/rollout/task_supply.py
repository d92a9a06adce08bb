"""Whether there are tasks for what a run does: to train on in every category, to measure in every environment.

Asked before a run is entered anywhere. A pool that is measured and empty would give a run without a number in the
end, so it is refused; a category without one is reported.
"""

from __future__ import annotations

from collections.abc import Mapping

from environments import Admission, Environment, Pool, TaskStream, first_tasks
from orchestrator import random_streams
from orchestrator.errors import UserError
from orchestrator.schedulers.rewards import rewards_of
from orchestrator.spec import Spec

FEW = 4  # tasks of a category that are looked for, where all that are measured would take long
REASONS = 5  # named
USES = {"anchor": "to be evaluated on", "select": "to be looked at by the scheduler"}


def evaluated_pools(spec: Spec) -> list[Pool]:
    """Name what boundaries evaluate: the `select` pool only when a scheduler asks for it."""
    asks_for_scores = rewards_of(spec.curriculum.scheduler).reward != "advantage"
    return ["anchor", "select"] if asks_for_scores else ["anchor"]


def evaluated_categories(environment: Environment, pool: Pool) -> list[str]:
    """Name the categories that a pool is evaluated in; one that is only held out is no business of a scheduler's."""
    return [one.name for one in environment.categories if one.trainable or pool == "anchor"]


def check_supply(spec: Spec, environments: Mapping[str, Environment], admission: Admission) -> list[str]:
    """Refuse what could not be trained on or measured; give what else there is to say of categories.

    Raises:
        EnvironmentFault: a category has no task to train on.
        UserError: an environment has none in a pool that will be measured.
    """
    remarks = []
    for name, environment in environments.items():
        for category in environment.categories:
            if category.trainable:
                seed = random_streams.integer(spec.seed, "tasks", name, category.name)
                TaskStream(environment, category.name, seed, admission).draw(1)
        for pool in evaluated_pools(spec):
            if pool == "anchor" or not environment.closed:
                categories, num = evaluated_categories(environment, pool), spec.evaluate.items
                # the fewer are looked for, the fewer are made
                looked_for = dict.fromkeys((min(FEW, num), num))
                empty = [
                    category
                    for category in categories
                    if not any(first_tasks(environment, category, pool, n, admission) for n in looked_for)
                ]
                if empty and len(empty) == len(categories):
                    raise UserError(_refusal(environment, pool, admission))
                use = f"{USES[pool]} (pool {pool})"
                remarks += [
                    f"{name}: category {category} has no task {use}, and no score" for category in empty
                ]
    return remarks


def _refusal(environment: Environment, pool: Pool, admission: Admission) -> str:
    """Say that a pool is empty, why as far as that is known, the commonest first, and what to do."""
    flaws = sorted([*admission.flaws(environment.name), *environment.flaws], key=lambda flaw: -flaw.num_rows)
    why = "".join(f"\n  {reason}" for reason in flaws[:REASONS])
    found = f"what cannot be used:{why}\n" if why else "none of its tasks falls to that pool; "
    instead = ", or take a scheduler whose `reward` is advantage" if pool == "select" else ""
    return (
        f"environment {environment.name}: no task {USES[pool]} (pool {pool}), so it would never be measured: {found}"
        f"mend its data, or give it more tasks (a tenth is held out for this, or half of a `holdout` file){instead}"
    )
