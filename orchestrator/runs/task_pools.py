"""How many tasks there are to train on and to evaluate on, by category: for a plan, so nothing is made at length."""

from __future__ import annotations

from dataclasses import dataclass

from environments import Admission, Environment, Pool, make_task
from environments.pools import TENTHS, belongs

MOST_MADE = 256  # tasks of a category that are made to be counted; those of a larger one are estimated
SHARES: dict[Pool, float] = {pool: TENTHS.count(pool) / len(TENTHS) for pool in TENTHS}


@dataclass(frozen=True)
class CategoryPools:
    """The tasks of one category."""

    name: str
    trainable: bool
    train: int | None  # None: endless
    held_out: int | None  # to evaluate on; of a closed environment its own tasks
    estimated: bool = False
    aside: int = 0  # neither trained on nor evaluated on: what a scheduler may look at, and what is for a study's end
    final: int = 0  # of these what is for a study's end


@dataclass(frozen=True)
class EnvironmentPools:
    """The tasks of one environment."""

    name: str
    type: str
    closed: bool  # evaluated on its own tasks
    categories: tuple[CategoryPools, ...]


def count_pools(environment: Environment, type_: str, admission: Admission) -> EnvironmentPools:
    """Count the tasks of an environment by category."""
    categories = []
    for one in environment.categories:
        size = environment.size(one.name)
        if size is None:
            categories.append(CategoryPools(one.name, one.trainable, None if one.trainable else 0, None))
            continue
        nums, is_estimate = _count(environment, one.name, size, admission)
        final = 0 if environment.closed else nums["final"]
        aside = 0 if environment.closed else nums["select"] + final
        train = one.trainable * nums["train"]
        categories.append(CategoryPools(one.name, one.trainable, train, nums["anchor"], is_estimate, aside, final))
    return EnvironmentPools(environment.name, type_, environment.closed, tuple(categories))


def _count(environment: Environment, category: str, size: int, admission: Admission) -> tuple[dict[Pool, int], bool]:
    """Count the pools of a category that ends, or estimate them where its tasks would have to be made."""
    known = {pool: environment.indices(category, pool) for pool in SHARES}
    if all(indices is not None for indices in known.values()):
        barred = {*admission.barred(environment, category).tolist()}
        return {pool: len({*of.tolist()} - barred) for pool, of in known.items() if of is not None}, False
    if environment.closed:
        return dict.fromkeys(SHARES, size), False
    if size > MOST_MADE:
        return {pool: round(size * share) for pool, share in SHARES.items()}, True
    made = {task.key: task for task in (make_task(environment, category, index) for index in range(size))}
    admitted = [task for task in made.values() if admission.admits(task)]
    return {pool: sum(belongs(environment, task, pool) for task in admitted) for pool in SHARES}, False
