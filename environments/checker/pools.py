"""Check of the split: every pool has tasks, and none is in two.

A task's pool follows from its content key, the hash of its conversation, unless the environment was given a held-out
file; so pools can only meet where an environment makes keys of its own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import get_args

from environments.checker.context import CheckContext
from environments.checker.findings import CategoryFacts
from environments.checker.tasks import made
from environments.contracts import Pool, Task
from environments.pools import pool_of

FEW = 100  # distinct tasks: ten to evaluate on


def check_pools(bench: CheckContext) -> None:
    """Count the distinct tasks of every category, and those of each pool."""
    for category, facts in bench.counts.items():
        if bench.tasks.get(category):
            counted = _count(bench, facts)
            bench.counts[category] = counted
            if not bench.environment.closed:
                _judge(bench, counted)


def _count(bench: CheckContext, facts: CategoryFacts) -> CategoryFacts:
    is_spent = bench.budget()
    pools: dict[str, Pool] = {}
    indices = _looked_at(bench, facts)
    num_looked_at = len(indices)
    for number, index in enumerate(indices):
        if is_spent():
            num_looked_at = number
            break
        task = made(bench, facts.name, index)
        if not isinstance(task, Task):
            continue  # told already
        if task.key != Task(task.environment, task.category, task.index, task.messages).key:
            bench.find("key", "its key is not the hash of its conversation", facts.name, index)
        pools[task.key] = bench.environment.pool(task) or pool_of(task.key)
    counts = Counter(pools.values())
    return replace(
        facts,
        num_looked_at=num_looked_at,
        num_distinct=len(pools),
        pools={pool: counts[pool] for pool in get_args(Pool)},
    )


def _looked_at(bench: CheckContext, facts: CategoryFacts) -> list[int]:
    """Choose what is counted: the first tasks; the first of every pool where the environment says which those are."""
    scan = bench.limits.scan
    known = [bench.environment.indices(facts.name, pool) for pool in get_args(Pool)]
    own = [indices[: scan // len(known)] for indices in known if indices is not None]
    if own:
        return sorted(int(index) for indices in own for index in indices)
    return list(range(min(scan, facts.size or scan)))


def _judge(bench: CheckContext, facts: CategoryFacts) -> None:
    name, pools = facts.name, facts.pools
    kinds = "one task" if facts.num_distinct == 1 else f"{facts.num_distinct} distinct tasks"
    found = f"{kinds} among the first {facts.num_looked_at}"
    is_whole = facts.num_looked_at >= len(_looked_at(bench, facts))
    if not is_whole and facts.num_distinct < FEW:  # a pool may only seem to be empty
        bench.find("scan-short", f"only {facts.num_looked_at} tasks were counted in the time there was", name)
        return
    if not pools["train"] and facts.trainable:
        bench.find("pool-train", f"no task to train on: {found}, none in the training pool", name)
    if not pools["anchor"]:
        bench.find("pool-held-out", f"no task to evaluate on: {found}, none in the pool anchor", name)
    is_given = bench.environment.pool(bench.tasks[name][0]) is not None  # a held-out file has no part `final`
    thin = [pool for pool in (("select",) if is_given else ("select", "final")) if not pools[pool]]
    if thin:
        bench.find("pool-thin", f"nothing in the pool {' and '.join(thin)}: {found}", name)
    if facts.num_distinct < FEW:
        bench.find(
            "few-tasks", f"{found}; {pools['train']} to train on, {pools['anchor']} to evaluate on", name
        )
