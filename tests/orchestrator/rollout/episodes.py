"""Groups as if they had been played, from nothing but scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from environments import Score, Task
from orchestrator.rollout.player import Group, Sample
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


def _sample(
    task: Task, value: float | None, entropies: Sequence[float], finish: str, num_turns: int
) -> Sample:
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
