"""Rosters: the training tasks of a category as a list that never changes, for whoever chooses among them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np
from numpy.typing import NDArray

from environments.admission import ALL, Admission
from environments.contracts import Environment
from environments.pools import STALE, belongs, make_task
from environments.tables.throttle import Throttle
from environments.task_streams import all_held_out, first_index


def training_roster(
    environment: Environment,
    category: str,
    seed: int,
    most: int,
    tell: Callable[[str], None] | None = None,
    admission: Admission = ALL,
) -> NDArray[np.int64]:
    """List the indices of a category's training tasks that are admitted, ascending; the same for the same arguments.

    All of them, where the environment knows them without making tasks. Otherwise tasks are made, up to `most` different
    ones as `Environment.distinct` tells: of a category that ends, out of all its indices in an order that the seed
    decides; of an endless one from where its stream begins, until `STALE` indices in a row bring no new task. `tell`
    hears how far it is where that takes long.

    Raises:
        EnvironmentFault: there is no training task.
    """
    known = environment.indices(category, "train")
    if known is None:
        say = Throttle(tell or (lambda text: None))
        known = np.array(sorted(_different(environment, category, seed, most, say, admission)), np.int64)
    else:
        known = np.setdiff1d(known, admission.barred(environment, category), assume_unique=True)
    if not len(known):
        raise all_held_out(environment, category)
    return known


def _different(
    environment: Environment, category: str, seed: int, most: int, say: Throttle, admission: Admission
) -> list[int]:
    size = environment.size(category)
    indices = count(first_index(seed)) if size is None else np.random.default_rng(seed).permutation(size)
    found: list[int] = []
    seen: set[str] = set()
    num_stale = 0
    for index in map(int, indices):
        if len(found) == most or (size is None and num_stale > STALE):
            break
        if say.is_time():
            say(
                f"{environment.name}/{category}: {len(found):,} of up to {most:,} tasks to choose among found"
            )
        task = make_task(environment, category, index)
        num_stale += 1
        if (key := environment.distinct(task)) not in seen:
            seen.add(key)
            num_stale = 0
            if belongs(environment, task, "train") and admission.admits(task):
                found.append(index)
    return found
