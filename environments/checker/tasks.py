"""Checks of tasks: their form, and that they are the same whenever and wherever they are made."""

from __future__ import annotations

import pickle
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import FrozenInstanceError
from statistics import median
from typing import TypeGuard

from environments.checker.findings import CheckContext, Prints, error_text, quoted
from environments.contracts import ROLES, TOOLS, Environment, Message, Task
from environments.fingerprints import fingerprint

SLOW_MS = 500.0
HEAVY_BYTES = 2**20
FAILED = object()  # in place of a task that could not be made
PARTS = ("conversation", "answer", "data")  # of a task, as `task_fingerprints` gives them
LONG_TOKEN = 8  # characters: few tokens of common vocabularies are longer


def check_tasks(context: CheckContext) -> None:
    """Make the first tasks of every category and look at each; later checks use those that are well formed."""
    seconds: list[float] = []
    for category, size in context.sizes.items():
        is_spent = context.budget()
        context.tasks[category], context.prints[category] = [], {}
        for index in range(min(context.limits.tasks, size or context.limits.tasks)):
            if index > 1 and is_spent():
                break
            begun_at = time.monotonic()
            task = make_checked(context, category, index)
            seconds.append(time.monotonic() - begun_at)
            if _is_usable(task, context, category, index):
                context.tasks[category].append(task)
                context.prints[category][str(index)] = task_fingerprints(task)
    context.facts["task_ms"] = median(seconds) * 1000 if seconds else None
    if seconds and median(seconds) * 1000 > SLOW_MS:
        context.find("task-slow", f"making a task takes {median(seconds):.1f} s")
    made_tasks = [task for tasks in context.tasks.values() for task in tasks]
    if made_tasks and all(task.answer is None for task in made_tasks):
        context.find("no-answer", "no task has a reference answer")


def make_checked(
    context: CheckContext,
    category: str,
    index: int,
    rule: str = "task-fails",
    fault: str = "it cannot be made",
) -> object:
    """Make a task; `FAILED`, and a finding, where that fails."""
    context.at(f"task {index} of category {quoted(category)}")
    try:
        return context.environment.task(category, index)
    except BaseException as error:  # foreign code may raise anything
        context.find(rule, f"{fault}: {error_text(error)}", category, index)
        return FAILED


def _is_usable(task: object, context: CheckContext, category: str, index: int) -> TypeGuard[Task]:
    """Add what is wrong with a task; say whether other checks can work with it."""
    if task is FAILED:
        return False
    fault = _form_fault(task, context.environment.name, category, index)
    if fault or not isinstance(task, Task):
        context.find("task-form", str(fault), category, index)
        return False
    if not any(message["content"].strip() for message in task.messages if message["role"] not in ("system", TOOLS)):
        context.find("prompt-empty", "it asks nothing: every message is empty", category, index)
    elif (role := task.messages[-1]["role"]) != "user":
        context.find("last-message", f"its last message is the {role}'s, not the user's", category, index)
    with suppress(FrozenInstanceError):
        task.index = task.index  # type: ignore[misc]
        context.find("task-frozen", "its fields can be changed", category, index)
    try:
        sent = pickle.dumps(task)
        arrived: Task = pickle.loads(sent)
    except Exception as error:  # foreign data may fail in any way
        context.find("task-pickle", f"it cannot be pickled: {error_text(error)}", category, index)
        return False
    if len(sent) > HEAVY_BYTES:
        context.find("task-heavy", f"it takes {len(sent) / 2**20:.0f} MiB pickled", category, index)
    if task_fingerprints(arrived) != task_fingerprints(task):
        context.find("task-pickle", "unpickled, it is another task", category, index)
    return True


def _form_fault(task: object, environment: str, category: str, index: int) -> str | None:
    if not isinstance(task, Task):
        return f"task() returned {quoted(type(task).__name__)}, not an environments.Task"
    for name, expected in (("environment", environment), ("category", category), ("index", index)):
        value = getattr(task, name)
        if not isinstance(value, type(expected)) or value != expected:
            return f"its {name} must be {quoted(expected)}, found {quoted(repr(value))}"
    if not isinstance(task.messages, tuple) or not task.messages:
        return f"its messages must be a tuple of at least one, found {quoted(repr(task.messages))}"
    if fault := conversation_fault(task.messages):
        return fault
    if task.answer is not None and not isinstance(task.answer, str):
        return f"its answer must be a string or None, found {quoted(repr(task.answer))}"
    if not isinstance(task.data, Mapping):
        return f"its data must be a map, found {quoted(type(task.data).__name__)}"
    return None


def conversation_fault(messages: Sequence[Message]) -> str | None:
    """Say what is wrong with what the policy reads first, if something is."""
    faults = (message_fault(one, ROLES if place else (TOOLS, *ROLES)) for place, one in enumerate(messages))
    return next(filter(None, faults), None)


def message_fault(message: Message, roles: Sequence[str] = ROLES) -> str | None:
    """Say what is wrong with a message, if something is."""
    if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
        return f"a message must be a map of role and content, found {quoted(repr(message))}"
    if message["role"] not in roles:
        return f"a message's role must be one of {', '.join(roles)}, found {quoted(message['role'])}"
    content: object = message["content"]
    if not isinstance(content, str):
        return f"a message's content must be a string, found {quoted(repr(content))}"
    if any("\ud800" <= character <= "\udfff" for character in content):
        return f"a message holds half a character, which no file can hold, found {quoted(content)}"
    return None


def check_made_again(context: CheckContext) -> None:
    """Make the same tasks again, in another order, by the same environment and by a second build of it."""
    _compare(context, context.environment, context.prints, "made again in another order")
    context.at("the environment, a second time")
    _compare(context, context.source.create(), context.prints, "made by a second build")


def check_made_elsewhere(context: CheckContext, prints: Prints) -> None:
    """Make the tasks that another process made, in another order."""
    context.at("the environment")
    _compare(context, context.source.create(), prints, "made in another process")


def _compare(context: CheckContext, environment: Environment, prints: Prints, how: str) -> None:
    for category, tasks in reversed(list(prints.items())):
        is_spent = context.budget()
        for number, (index, expected) in enumerate(reversed(list(tasks.items()))):
            if number > 1 and is_spent():
                break
            context.at(f"task {index} of category {quoted(category)}")
            found = task_fingerprints(environment.task(category, int(index)))
            differing = [part for part, a, b in zip(PARTS, expected, found, strict=True) if a != b]
            if differing:
                sentence = f"{how}, it has another {' and another '.join(differing)}"
                context.find("task-same", sentence, category, int(index))


def check_budget(context: CheckContext) -> None:
    """Compare `max_tokens`, the environment's or the spec's for it, with the length of the reference answers."""
    most = context.source.episodes.get("max_tokens", context.environment.max_tokens)
    answered = [task for tasks in context.tasks.values() for task in tasks if task.answer is not None]
    if not isinstance(most, int) or not answered:
        return
    longest = max(answered, key=lambda task: len(task.answer or ""))
    if (length := len(longest.answer or "")) > most:
        rule = "max-tokens" if length > LONG_TOKEN * most else "max-tokens-tight"
        sentence = f"max_tokens is {most}, its answer has {length} characters"
        context.find_in(longest, rule, sentence, quoted(longest.answer))


def task_fingerprints(task: Task) -> list[str]:
    """Fingerprint the conversation (with its key), the answer and the data of a task."""
    return [fingerprint((task.key, task.messages)), fingerprint(task.answer), fingerprint(task.data)]
