"""Replay by rule: which other environments the replayed groups of a stage come from.

    due      w = sum over the tasks that it has lost of u(age),  u(a) = a / window up to `window`, else window / a
    weakest  w = 1 - accuracy / its best accuracy so far
    p        = (1 - SPREAD) w / (sum of w) + SPREAD / m, over the m others; alike where every weight is 0

A task is solved when most of its samples at a boundary are correct, and lost when it was solved before and no longer
is; its age is the number of stages since the boundary that found it lost, the coming one counted. So `due` comes to an
environment before its losses are too old to be repaired cheaply (the repair window of arXiv 2606.03087; the form of u
and SPREAD are ours). Both rules read what boundaries measured on held-out tasks, which is recorded as looks of
`replay`; what was not measured at a boundary counts as it did before. `random` looks at nothing: all others alike.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.bandits.contracts import Floats
from orchestrator.spec.sections import ReplayRule
from store.metrics import metric
from store.records import CellRecord, HoldoutQueryRecord, ItemRecord
from store.turnover import is_solved

SPREAD = 0.1  # share of replay that is drawn from all others alike: no environment is out of reach, nor its propensity
LEAST = metric("pass_1").ratio_floor or 0.0  # of a best accuracy: below it nothing was learnt that could be lost

NEVER, SOLVED = -2, -1  # of a task; else: after which stage it was found lost


class Replay:
    """What the rules know of the environments, in a state that a checkpoint holds."""

    def __init__(self, rule: ReplayRule, window: int, trainable: Mapping[str, Iterable[str]]) -> None:
        self.rule, self.window = rule, window
        self._trainable = {name: set(categories) for name, categories in trainable.items()}
        self._after = 0  # the stage before the last boundary
        self._tasks: dict[str, dict[str, list[int]]] = {}  # by environment and category, of every task in its order
        self._accuracy: dict[str, float] = {}
        self._best: dict[str, float] = {}

    @property
    def looks(self) -> bool:
        """Whether the rule reads what boundaries measure."""
        return self.rule != "random"

    def observe(
        self, after_stage: int, cells: Sequence[CellRecord], items: Sequence[ItemRecord]
    ) -> list[HoldoutQueryRecord]:
        """Take in what a boundary measured; give the looks that this was."""
        if not self.looks:
            return []
        self._after = after_stage
        of = defaultdict[tuple[str, str], list[ItemRecord]](list)
        for item in items:
            of[item.environment, item.category].append(item)
        for (name, category), own in of.items():
            if category in self._trainable.get(name, ()):
                before = self._tasks.setdefault(name, {}).get(category, [])
                before += [NEVER] * (len(own) - len(before))
                self._tasks[name][category] = [
                    _next(status, item, after_stage) for status, item in zip(before, own, strict=False)
                ]
        looks = []
        for cell in cells:
            is_whole = cell.metric == "pass_1" and cell.category is None and cell.split in ("anchor", "own")
            if is_whole and cell.environment in self._trainable and cell.value is not None:
                name = cell.environment
                self._accuracy[name] = cell.value
                self._best[name] = max(self._best.get(name, 0.0), cell.value)
                looks.append(HoldoutQueryRecord(name, None, cell.split, "replay", self._weight(name)))
        return looks

    def chances(self, others: Sequence[str]) -> Floats:
        """Give the probability with which each of these is drawn for a replayed group, in their order."""
        weights = np.array([self._weight(name) for name in others])
        total = weights.sum()
        shares = weights / total if total > 0 else np.full(len(others), 1 / len(others))
        return (1 - SPREAD) * shares + SPREAD / len(others)

    def why(self, others: Sequence[str]) -> str:
        """Say from where the coming stage replays, and why."""
        chances = self.chances(others).tolist()
        parts = [f"{name} {p:.2f} ({self._because(name)})" for name, p in zip(others, chances, strict=True)]
        return f"{self.rule} replay from {', '.join(parts)}"

    def state(self) -> dict[str, Any]:
        """State as JSON."""
        known = {"accuracy": self._accuracy, "best": self._best}
        return {"after_stage": self._after, "tasks": self._tasks, **known}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self._after = state["after_stage"]
        self._tasks = {name: {c: list(own) for c, own in tasks.items()} for name, tasks in state["tasks"].items()}
        self._accuracy, self._best = dict(state["accuracy"]), dict(state["best"])

    def forget(self, environments: Collection[str]) -> list[str]:
        """Drop what is known of environments whose held-out tasks are others now; names those that were known."""
        known = [name for name in sorted({*self._tasks, *self._accuracy, *self._best}) if name in environments]
        for name in known:
            for of in (self._tasks, self._accuracy, self._best):
                of.pop(name, None)
        return known

    def _ages(self, name: str) -> list[int]:
        statuses = [status for own in self._tasks.get(name, {}).values() for status in own]
        return [self._after + 1 - status for status in statuses if status >= 0]

    def _weight(self, name: str) -> float:
        if self.rule == "due":
            urgencies = (age / self.window if age <= self.window else self.window / age for age in self._ages(name))
            return math.fsum(urgencies)  # exact: a resumed run has another order of categories
        best = self._best.get(name, 0.0)
        return 1 - self._accuracy[name] / best if best >= LEAST else 0.0

    def _because(self, name: str) -> str:
        if name not in (self._tasks if self.rule == "due" else self._accuracy):
            return "not measured"
        if self.rule == "due":
            ages = self._ages(name)
            return f"{len(ages)} lost, the first after stage {self._after + 1 - max(ages)}" if ages else "none lost"
        return f"accuracy {self._accuracy[name]:.2f}, at best {self._best[name]:.2f}"


def _next(status: int, item: ItemRecord, after_stage: int) -> int:
    """Give a task's status after a boundary; without a scored sample it stays."""
    if not item.num_scored:
        return status
    if is_solved(item.num_scored, item.num_correct):
        return SOLVED
    return after_stage if status == SOLVED else status
