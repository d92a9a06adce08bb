"""How many tasks there are to train on and to evaluate on, by category: for a plan, so nothing is made at length."""

from __future__ import annotations

from dataclasses import dataclass

from environments import Admission, Environment, Pool, make_task
from environments.pools import belongs

MOST_MADE = 256  # tasks of a category that are made to be counted; those of a larger one are estimated
SHARES: dict[Pool, float] = {"train": 0.7, "anchor": 0.1}


@dataclass(frozen=True)
class CategoryPools:
    """The tasks of one category."""

    name: str
    trainable: bool
    train: int | None  # None: endless
    held_out: int | None  # to evaluate on; of a closed environment its own tasks
    estimated: bool = False


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
        train, is_estimate = _count(environment, one.name, "train", size, admission)
        held_out, _ = _count(environment, one.name, "anchor", size, admission)
        categories.append(CategoryPools(one.name, one.trainable, one.trainable * train, held_out, is_estimate))
    return EnvironmentPools(environment.name, type_, environment.closed, tuple(categories))


def _count(environment: Environment, category: str, pool: Pool, size: int, admission: Admission) -> tuple[int, bool]:
    """Count a pool of a category that ends, or estimate it where its tasks would have to be made."""
    known = environment.indices(category, pool)
    if known is not None:
        return len({*known.tolist()} - {*admission.barred(environment, category).tolist()}), False
    if environment.closed:
        return size, False
    if size > MOST_MADE:
        return round(size * SHARES[pool]), True
    tasks = (make_task(environment, category, index) for index in range(size))
    return len({task.key for task in tasks if belongs(environment, task, pool) and admission.admits(task)}), False
