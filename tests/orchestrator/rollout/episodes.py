"""Groups as if they had been played, from nothing but scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from environments import Score, Task
from orchestrator.bandits.contracts import Pick
from orchestrator.played_group import Group, PlayedGroup, Sample, Slot
from policies.samplers.contracts import Span

PROMPT = (9, 8, 7)


def group(
    values: Sequence[float | None],
    environment: str = "words",
    category: str = "3",
    entropies: Sequence[float] = (0.5, 1.5),
    finish: str = "stop",
    num_turns: int = 1,
) -> Group:
    """Make a group with these values, None for a sample that could not be scored; two tokens a sample."""
    task = Task(environment, category, 7, ({"role": "user", "content": f"{category}?"},), "yes")
    return Group(task, tuple(_sample(task, value, entropies, finish, num_turns) for value in values))


def in_slot(played: Group, slot: Slot | None = None, **worth: Any) -> PlayedGroup:
    """Put a group into a slot, a main one of its own category if none is given; `worth`: its signal, score, ..."""
    name, category = played.task.environment, played.task.category
    slot = slot or Slot(0, name, category, "main", "category", name, Pick("0.0", category, 1.0, 0))
    return PlayedGroup(played.task, played.samples, slot, **worth)


def earning(
    category: str, correct: Sequence[bool], raw_signal: float | None, has_spread: bool | None = None
) -> PlayedGroup:
    """Make a group of a stage's own environment that is worth so much; no answers: none could be scored."""
    values = [float(one) for one in correct] or [None]
    return in_slot(group(values, category=category), raw_signal=raw_signal, has_spread=has_spread)


def of_task(task: Task, score: float | None, signal: float | None = None, num: int = 8) -> PlayedGroup:
    """Make a group of a task: its mean score, its signal, and so many scored samples."""
    slot = Slot(0, task.environment, task.category, "main", "category", task.environment, Pick("0.0", "", 1.0, 0))
    samples = group([None if score is None else 0.0] * num).samples
    return PlayedGroup(task, samples, slot, signal=signal, score=score)


def _sample(task: Task, value: float | None, entropies: Sequence[float], finish: str, num_turns: int) -> Sample:
    start, end = len(PROMPT), len(PROMPT) + len(entropies)
    mask = np.arange(end) >= start
    return Sample(
        ids=np.array([*PROMPT, *range(len(entropies))]),
        mask=mask,
        logprobs=np.where(mask, -0.5, 0).astype(np.float32),
        entropies=np.array([0.0] * start + list(entropies), np.float32),
        spans=(Span(4, start, end),),
        messages=task.messages,
        completion="no",
        num_turns=num_turns,
        finish="stop" if finish == "stop" else "length",
        score=Score.unscorable("timed out") if value is None else Score.of(value),
    )
