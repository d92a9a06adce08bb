"""Checks of an environment as a whole: its build, what it says of itself, its pools, its side effects."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, get_args

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from environments.checker.findings import CategoryFacts, CheckContext, error_text, quoted
from environments.checker.tasks import make_checked
from environments.contracts import Pool, Task
from environments.pools import pool_of
from environments.scoring import ScoringJob
from environments.sources import category_fault, size_fault
from environments.surroundings import generator_states

SLOW_S = 10.0  # to build
HEAVY_MIB = 1024.0
FAR = (10_000, 2**20, 2**30 + 2**20)  # streams of training tasks begin at an offset below 2^30
FEW = 100  # distinct tasks: ten to evaluate on
NUM_DRAWS = 8  # legal answers a task
GIVEN_AWAY = 0.6  # share by which a task's own legal answers are right more often than other tasks'


def check_build(context: CheckContext) -> None:
    """Build it, and say what that took."""
    context.at("the environment")
    before_mib, begun_at = _resident_mib(), time.monotonic()
    try:
        context.environment = context.source.create()
    except BaseException as error:  # foreign code may raise anything
        context.find("build", f"it cannot be built: {error_text(error)}")
        return
    context.is_built = True
    seconds, mib = time.monotonic() - begun_at, _resident_mib() - before_mib
    context.facts |= {"build_s": seconds, "build_mib": mib}
    if seconds > SLOW_S:
        context.find("build-slow", f"building takes {seconds:.0f} s")
    if mib > HEAVY_MIB:
        context.find("build-heavy", f"building takes {mib / 1024:.1f} GiB")


def _resident_mib() -> float:
    """Resident memory now, MiB; the most so far where the system does not say."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


# Attribute: what it must be, and as a type.
ATTRIBUTES: dict[str, tuple[str, Any]] = {
    "closed": ("True or False", bool),
    "scores_in_process": ("True or False", bool),
    "max_tokens": ("None or a whole number of at least 1", Annotated[int, Field(ge=1)] | None),
    "symbols": ("a tuple of strings", tuple[str, ...]),
}


def check_attributes(context: CheckContext) -> None:
    """Look at version and flags."""
    environment, version = context.environment, context.environment.version
    if not version.strip() or not version.isprintable():
        context.find("version", f"version must be printable and not empty, found {quoted(version)}")
    for name, (expected, type_) in ATTRIBUTES.items():
        try:
            TypeAdapter(type_).validate_python(getattr(environment, name), strict=True)
        except ValidationError:
            found = quoted(getattr(environment, name))
            context.find("attribute", f"{name} must be {expected}, found {found}")
    for flaw in environment.flaws:
        context.find("data-left-out", str(flaw))
    for remark in environment.remarks:
        context.find("data-remark", str(remark))
    flags = {"closed": bool(environment.closed), "scores_in_process": bool(environment.scores_in_process)}
    context.facts |= {"version": version, **flags}


def check_categories(context: CheckContext) -> None:
    """Look at every category, and whether there is something to train on."""
    categories = list(context.environment.categories)
    for category in categories:
        if fault := category_fault(category):
            context.find("category", fault, str(category.name))
        else:
            context.categories.append(category)
    if [c.name for c in context.environment.categories] != [c.name for c in categories]:
        context.find("category-order", "asked twice, the categories come in another order")
    if not any(category.trainable for category in context.categories):
        sentence = "every category is only held out: it will be evaluated and never trained on"
        context.find("not-trainable", sentence)


def check_sizes(context: CheckContext) -> None:
    """Ask every category for its size, and for the tasks at its end."""
    for category in context.categories:
        context.at(f"the size of category {quoted(category.name)}")
        told = context.environment.size(category.name)
        if fault := size_fault(told):
            context.find("size", fault, category.name)
            continue
        size = None if told is None else int(told)  # it may be NumPy's
        context.sizes[category.name] = size
        context.counts[category.name] = CategoryFacts(category.name, category.trainable, size)
        said = "it is endless" if size is None else f"it has {size} tasks"
        for index in FAR if size is None else (size - 1,):
            fault = f"says that {said}, but task {index} fails"
            make_checked(context, category.name, index, "size-honest", fault)


def check_pools(context: CheckContext) -> None:
    """Count the distinct tasks of every category, and those of each pool."""
    for category, facts in context.counts.items():
        if not context.tasks.get(category):
            continue
        is_spent = context.budget()
        pools: dict[str, Pool] = {}  # by content key
        scan = context.limits.scan
        known = [context.environment.indices(category, pool) for pool in get_args(Pool)]
        each = scan if sum(len(some) for some in known if some is not None) <= scan else scan // len(known)
        own = [int(index) for some in known if some is not None for index in some[:each]]
        # the first of every pool where the environment says which those are
        indices = sorted(own) if own else range(min(scan, facts.size or scan))
        num_looked_at = 0
        for index in indices:
            if is_spent():
                break
            num_looked_at += 1
            task = make_checked(context, category, index)
            if not isinstance(task, Task):
                continue  # reported already
            # Pools follow from keys, so they can only meet where an environment makes keys of its own.
            if task.key != Task(task.environment, task.category, task.index, task.messages).key:
                context.find("key", "its key is not the hash of its conversation", category, index)
            pools[task.key] = context.environment.pool(task) or pool_of(task.key)
        counts = Counter(pools.values())
        by_pool = {pool: counts[pool] for pool in get_args(Pool)}
        facts = replace(facts, num_looked_at=num_looked_at, num_distinct=len(pools), pools=by_pool)
        context.counts[category] = facts
        if not context.environment.closed:
            _check_counts(context, facts, is_whole=num_looked_at == len(indices))


def _check_counts(context: CheckContext, facts: CategoryFacts, is_whole: bool) -> None:
    name, pools = facts.name, facts.pools
    kinds = "one task" if facts.num_distinct == 1 else f"{facts.num_distinct} distinct tasks"
    found = f"{kinds} among the first {facts.num_looked_at}"
    if not is_whole and facts.num_distinct < FEW:  # a pool may only seem to be empty
        sentence = f"only {facts.num_looked_at} tasks were counted in the time there was"
        return context.find("scan-short", sentence, name)
    if not pools["train"] and facts.trainable:
        context.find("pool-train", f"no task to train on: {found}, none in the training pool", name)
    if not pools["anchor"]:
        context.find("pool-held-out", f"no task to evaluate on: {found}, none in the pool anchor", name)
    # a held-out file has no part `final`
    is_given = context.environment.pool(context.tasks[name][0]) is not None
    thin = [pool for pool in (("select",) if is_given else ("select", "final")) if not pools[pool]]
    if thin:
        context.find("pool-thin", f"nothing in the pool {' and '.join(thin)}: {found}", name)
    if facts.num_distinct < FEW:
        sentence = f"{found}; {pools['train']} to train on, {pools['anchor']} to evaluate on"
        context.find("few-tasks", sentence, name)


def check_closed(context: CheckContext) -> None:
    """Draw legal answers for the tasks of a closed environment; others have none to draw."""
    for category, tasks in context.tasks.items() if context.environment.closed else ():
        facts = context.counts[category]
        # an endless row of a few tasks can be memorised like any other: do new ones keep coming?
        if context.sizes[category] is None and 2 * facts.num_distinct > facts.num_looked_at:
            sentence = "it is closed but endless: nothing there can be memorised"
            context.find("closed-endless", sentence, category)
        answers = [_draw(context, task) for task in tasks]
        if tasks and all(len(drawn) == NUM_DRAWS for drawn in answers):
            # drawn for a task or for its neighbour: neither may know more
            own = _share_right(context, tasks, answers)
            others = _share_right(context, tasks, [*answers[1:], answers[0]])
            if own - others > GIVEN_AWAY or (own == 1.0 and len({task.answer for task in tasks}) > 1):
                sentence = f"{own:.0%} of a task's legal answers are right, {others:.0%} of another task's"
                context.find("gives-away", sentence, category, excerpt=quoted(answers[0][0]))


def _draw(context: CheckContext, task: Task) -> list[str]:
    """Draw some legal answers; fewer come back when something is wrong with them."""
    context.at(f"legal answers to task {task.index} of category {quoted(task.category)}")
    answers: list[str] = []
    try:
        for seed in range(NUM_DRAWS):
            rngs = (np.random.default_rng(seed) for _ in range(2))
            first, again = (context.environment.legal_answer(task, rng) for rng in rngs)
            if not isinstance(first, str) or not first.strip():
                raise TypeError(f"expected a string with something in it, found {first!r}")
            if first != again:
                raise ValueError("the same generator gives different answers")
            answers.append(first)
    except Exception as error:  # foreign code may raise anything
        context.find_in(task, "legal-answer", f"legal_answer fails: {error_text(error)}")
    return answers


def _share_right(context: CheckContext, tasks: Sequence[Task], answers: Sequence[list[str]]) -> float:
    context.at(f"the scores of legal answers in category {quoted(tasks[0].category)}")
    drawn = [(task, answer) for task, own in zip(tasks, answers, strict=True) for answer in own]
    turns = context.score_elsewhere([ScoringJob(task, (answer,)) for task, answer in drawn])
    return fmean(bool(turn.score and turn.score.correct) for turn in turns)


def surroundings() -> dict[str, Any]:
    """Look at what an environment must leave as it is: generators, working directory, files, variables, signals."""
    directory, files = None, frozenset[str]()
    with suppress(FileNotFoundError):
        directory = os.getcwd()
        # without what Python writes beside a user's module
        files = frozenset(os.listdir(directory)) - {"__pycache__"}
    return {
        **generator_states(),
        "directory": directory,
        "files": files,
        "variables": dict(os.environ),
        "handlers": {one.name: signal.getsignal(one) for one in signal.Signals},
        "timer": signal.getitimer(signal.ITIMER_REAL)[0] > 0,
    }


def side_effects(before: Mapping[str, Any], later: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name what is different later: rule, and what was done."""
    for generator in ("random", "numpy.random"):
        if before[generator] != later[generator]:
            yield "random-state", f"uses or seeds the global generator of {generator}"
    if before["directory"] != later["directory"]:
        yield "directory", "changes the working directory"
    elif new := sorted(later["files"] - before["files"]):
        yield "files", f"leaves files in the working directory, {', '.join(new)}"
    if changed := sorted({name for name, _ in before["variables"].items() ^ later["variables"].items()}):
        yield "variables", f"changes the environment variables {', '.join(changed)}"
    if changed := sorted(name for name, one in before["handlers"].items() if later["handlers"][name] != one):
        yield "signals", f"changes what is done at the signals {', '.join(changed)}"
    if later["timer"] > before["timer"]:
        yield "signals", "leaves a timer running, whose alarm comes later"
