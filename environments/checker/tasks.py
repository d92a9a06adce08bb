"""Checks of tasks: their form, and that they are the same whenever and wherever they are made."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator, Mapping
from dataclasses import FrozenInstanceError
from statistics import median
from typing import TypeGuard

from environments.checker import fingerprints
from environments.checker.context import CheckContext, Prints
from environments.checker.findings import shown, told
from environments.contracts import Environment, Message, Task

ROLES = ("system", "user", "assistant")
SLOW_MS = 500.0
HEAVY_BYTES = 2**20
FAILED = object()  # in place of a task that could not be made
LONG_TOKEN = 8  # characters: few tokens of common vocabularies are longer


def check_tasks(bench: CheckContext) -> None:
    """Make the first tasks of every category and look at each; later checks use those that are well formed."""
    seconds: list[float] = []
    for category, size in bench.sizes.items():
        is_spent = bench.budget()
        bench.tasks[category], bench.prints[category] = [], {}
        for index in range(min(bench.limits.tasks, size or bench.limits.tasks)):
            if index > 1 and is_spent():
                break
            begun_at = time.monotonic()
            task = made(bench, category, index)
            seconds.append(time.monotonic() - begun_at)
            if _is_usable(task, bench, category, index):
                bench.tasks[category].append(task)
                bench.prints[category][str(index)] = fingerprints.of_task(task)
    bench.facts["task_ms"] = median(seconds) * 1000 if seconds else None
    if seconds and median(seconds) * 1000 > SLOW_MS:
        bench.find("task-slow", f"making a task takes {median(seconds):.1f} s")
    if any(bench.tasks.values()) and all(
        task.answer is None for tasks in bench.tasks.values() for task in tasks
    ):
        bench.find("no-answer", "no task has a reference answer")


def made(bench: CheckContext, category: str, index: int) -> object:
    """Make a task; `FAILED`, and a finding, where that fails."""
    bench.at(f"task {index} of category {shown(category)}")
    try:
        return bench.environment.task(category, index)
    except BaseException as error:  # foreign code may raise anything
        bench.find("task-fails", f"it cannot be made: {told(error)}", category, index)
        return FAILED


def _is_usable(task: object, bench: CheckContext, category: str, index: int) -> TypeGuard[Task]:
    """Add what is wrong with a task; say whether other checks can work with it."""
    if task is FAILED:
        return False
    fault = next(_form_faults(task, bench.environment.name, category, index), None)
    if fault or not isinstance(task, Task):
        bench.find("task-form", str(fault), category, index)
        return False
    if not any(message["content"].strip() for message in task.messages if message["role"] != "system"):
        bench.find("prompt-empty", "it asks nothing: every message is empty", category, index)
    elif task.messages[-1]["role"] != "user":
        bench.find(
            "last-message",
            f"its last message is the {task.messages[-1]['role']}'s, not the user's",
            category,
            index,
        )
    _check_frozen(bench, task)
    return _check_pickle(bench, task)


def _form_faults(task: object, environment: str, category: str, index: int) -> Iterator[str]:
    if not isinstance(task, Task):
        yield f"task() returned {shown(type(task).__name__)}, not an environments.Task"
        return
    for name, expected in (("environment", environment), ("category", category), ("index", index)):
        value = getattr(task, name)
        if not isinstance(value, type(expected)) or value != expected:
            yield f"its {name} must be {shown(expected)}, found {shown(repr(value))}"
    if not isinstance(task.messages, tuple) or not task.messages:
        yield f"its messages must be a tuple of at least one, found {shown(repr(task.messages))}"
        return
    yield from (fault for message in task.messages if (fault := message_fault(message)))
    if task.answer is not None and not isinstance(task.answer, str):
        yield f"its answer must be a string or None, found {shown(repr(task.answer))}"
    if not isinstance(task.data, Mapping):
        yield f"its data must be a map, found {shown(type(task.data).__name__)}"


def message_fault(message: Message) -> str | None:
    """Say what is wrong with a message, if something is."""
    if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
        return f"a message must be a map of role and content, found {shown(repr(message))}"
    if message["role"] not in ROLES:
        return f"a message's role must be one of {', '.join(ROLES)}, found {shown(message['role'])}"
    content: object = message["content"]
    if not isinstance(content, str):
        return f"a message's content must be a string, found {shown(repr(content))}"
    if any("\ud800" <= character <= "\udfff" for character in content):
        return f"a message holds half a character, which no file can hold, found {shown(content)}"
    return None


def _check_frozen(bench: CheckContext, task: Task) -> None:
    try:
        task.index = task.index  # type: ignore[misc]
    except FrozenInstanceError:
        return
    bench.find("task-frozen", "its fields can be changed", task.category, task.index)


def _check_pickle(bench: CheckContext, task: Task) -> bool:
    try:
        sent = pickle.dumps(task)
        arrived: Task = pickle.loads(sent)
    except Exception as error:  # foreign data may fail in any way
        bench.find("task-pickle", f"it cannot be pickled: {told(error)}", task.category, task.index)
        return False
    if len(sent) > HEAVY_BYTES:
        bench.find("task-heavy", f"it takes {len(sent) / 2**20:.0f} MiB pickled", task.category, task.index)
    if fingerprints.of_task(arrived) != fingerprints.of_task(task):
        bench.find("task-pickle", "unpickled, it is another task", task.category, task.index)
    return True


def check_made_again(bench: CheckContext) -> None:
    """Make the same tasks again, in another order, by the same environment and by a second build of it."""
    _compare(bench, bench.environment, bench.prints, "made again in another order")
    bench.at("the environment, a second time")
    _compare(bench, bench.source.create(), bench.prints, "made by a second build")


def check_made_elsewhere(bench: CheckContext, prints: Prints) -> None:
    """Make the tasks that another process made, in another order."""
    bench.at("the environment")
    _compare(bench, bench.source.create(), prints, "made in another process")


def _compare(bench: CheckContext, environment: Environment, prints: Prints, how: str) -> None:
    for category, tasks in reversed(list(prints.items())):
        is_spent = bench.budget()
        for number, (index, expected) in enumerate(reversed(list(tasks.items()))):
            if number > 1 and is_spent():
                break
            bench.at(f"task {index} of category {shown(category)}")
            found = fingerprints.of_task(environment.task(category, int(index)))
            differing = [
                part for part, a, b in zip(fingerprints.PARTS, expected, found, strict=True) if a != b
            ]
            if differing:
                bench.find(
                    "task-same",
                    f"{how}, it has another {' and another '.join(differing)}",
                    category,
                    int(index),
                )


def check_budget(bench: CheckContext) -> None:
    """Compare `max_tokens` with the length of the reference answers."""
    most = bench.environment.max_tokens
    answered = [task for tasks in bench.tasks.values() for task in tasks if task.answer is not None]
    if not isinstance(most, int) or not answered:
        return
    longest = max(answered, key=lambda task: len(task.answer or ""))
    length = len(longest.answer or "")
    if length > most:
        rule = "max-tokens" if length > LONG_TOKEN * most else "max-tokens-tight"
        sentence = f"max_tokens is {most}, its answer has {length} characters"
        bench.find(rule, sentence, longest.category, longest.index, shown(longest.answer))
