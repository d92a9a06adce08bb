"""What the evaluation has just played, as those read it that look at the same samples again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from environments import Environment
from orchestrator.measurements.contracts import HeldOut
from orchestrator.played_group import Group


def by_environment(played: Sequence[Group]) -> dict[str, list[Group]]:
    """Give the groups of every environment, from its categories in turn, each in the order of its tasks."""
    categories: dict[str, dict[str, list[Group]]] = defaultdict(lambda: defaultdict(list))
    for group in played:
        categories[group.task.environment][group.task.category].append(group)
    return {
        name: [group for turn in zip_longest(*own.values()) for group in turn if group is not None]
        for name, own in categories.items()
    }


def num_tasks(held_out: Mapping[str, HeldOut]) -> dict[str, int]:
    """Count the tasks that every environment is evaluated on."""
    return {name: sum(map(len, categories.values())) for name, categories in held_out["anchor"].items()}


def split_of(environment: Environment) -> str:
    """Name the pool that these tasks are of: a closed environment is evaluated on its own."""
    return "own" if environment.closed else "anchor"
