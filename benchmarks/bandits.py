"""What a choice costs: pick and learn of a batch of 256, for every bandit and every selection of tasks.

    python -m benchmarks.bandits            a thousand arms; a million tasks; exits 1 where a goal is missed
    python -m benchmarks.bandits --arms 100 --tasks 10000

Median of the middle repeats, one thread, milliseconds. Goals: a millisecond for rules that draw from weights, two for
index rules, 25 for Thompson sampling; ten milliseconds and 100 MB for a million tasks.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

from orchestrator import registry
from orchestrator.bandits.contracts import ArmInfo, Bandit, Feedback
from orchestrator.bandits.index_rule import IndexRule
from orchestrator.selections.contracts import Selection, TaskResult

BATCH, REPEATS = 256, 40
IN_TIME = {
    "thompson": 25.0,
    "beta_thompson": 25.0,
    "beta_thompson_tree": 25.0,
    "linucb": 2.0,
}  # ms; index rules 2, all others 1
OPTIONS: dict[str, dict[str, Any]] = {"fixed": {"others": 1.0}}
MOST_TASKS_MS, MOST_TASKS_MB = 10.0, 100.0


def made(name: str, num_arms: int) -> Bandit:
    """Make a bandit over arms of four features, a size and a level each."""
    config = registry.config_class("bandits", name)(**OPTIONS.get(name, {}))
    arms = [f"arm{k:06}" for k in range(num_arms)]
    rng = np.random.default_rng(0)
    about = {arm: ArmInfo(100, {f"x{j}": float(rng.random()) for j in range(4)}) for arm in arms}
    bandit: Bandit = registry.create("bandits", config, arms=arms, rng=np.random.default_rng(0))
    bandit.introduce(about, num_steps=1000)
    return bandit


def milliseconds(work: Callable[[], None]) -> float:
    """Time one call, median of many after a warm-up."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times[REPEATS // 4 :])


def of_bandit(name: str, num_arms: int) -> tuple[float, float]:
    """Time a bandit's pick and learn: milliseconds, and the goal."""
    bandit, rng = made(name, num_arms), np.random.default_rng(1)

    def step() -> None:
        rewards = rng.random(BATCH).tolist()
        bandit.learn([Feedback(pick, r / 2, score=r) for pick, r in zip(bandit.pick(BATCH), rewards, strict=True)])

    goal = IN_TIME.get(name, 2.0 if isinstance(bandit, IndexRule) else 1.0)
    return milliseconds(step), goal


def of_selection(name: str, num_tasks: int) -> tuple[float, float]:
    """Time a selection's choose and learn among so many tasks: milliseconds, and megabytes it holds."""
    options = {"difficulty": "difficulty"} if name == "adarft" else {}
    config = registry.config_class("selections", name)(**options)
    numbers, rng = np.random.default_rng(2).random(num_tasks) * 100, np.random.default_rng(1)
    given = {"numbers": {"difficulty": numbers}} if name == "adarft" else {}
    tracemalloc.start()
    selection: Selection = registry.create(
        "selections", config, num_tasks=num_tasks, rng=np.random.default_rng(0), **given
    )

    def step() -> None:
        clock, positions = selection.clock, selection.choose(BATCH).tolist()
        passed = rng.binomial(8, 0.5, len(positions)) / 8
        selection.learn(
            [TaskResult(at, clock, p, 8, 2 * p * (1 - p)) for at, p in zip(positions, passed.tolist(), strict=True)]
        )

    for _ in range(REPEATS // 4):
        step()
    megabytes = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return milliseconds(step), megabytes


def main(arguments: list[str] | None = None) -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--arms", type=int, default=1000, help="of a bandit")
    parser.add_argument("--tasks", type=int, default=1_000_000, help="of a selection")
    options = parser.parse_args(arguments)
    missed = []
    print(f"pick and learn of {BATCH} with {options.arms:,} arms, milliseconds")
    for method in registry.listing("bandits"):
        took, goal = of_bandit(method.name, options.arms)
        late = " <- over its goal" if took > goal else ""
        missed += [method.name] * bool(late)
        print(f"  {method.name:20} {took:7.2f}   goal {goal:g}{late}", flush=True)
    print(f"choose and learn of {BATCH} among {options.tasks:,} tasks, milliseconds and most megabytes")
    for method in registry.listing("selections"):
        if method.name == "cursor":
            continue  # it holds two integers, and makes the tasks themselves
        took, megabytes = of_selection(method.name, options.tasks)
        late = " <- over its goal" if took > MOST_TASKS_MS or megabytes > MOST_TASKS_MB else ""
        missed += [method.name] * bool(late)
        print(f"  {method.name:20} {took:7.2f}   {megabytes:6.1f} MB{late}", flush=True)
    print("every goal is met" if not missed else f"over their goals: {', '.join(missed)}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
