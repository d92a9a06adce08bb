"""Groups as if they had been played, from nothing but scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from environments import Score, Task
from orchestrator.playing import Group, Sample
from policies.samplers.contracts import Generation, Span


def group(
    values: Sequence[float | None],
    environment: str = "words",
    category: str = "3",
    entropies: Sequence[float] = (0.5, 1.5),
    finish: str = "stop",
) -> Group:
    """Make a group with these values, None for a sample that could not be scored; two tokens a sample."""
    task = Task(environment, category, 7, ({"role": "user", "content": f"{category}?"},), "yes")
    return Group(task, tuple(_sample(value, entropies, finish) for value in values))


def _sample(value: float | None, entropies: Sequence[float], finish: str) -> Sample:
    num = len(entropies)
    generation = Generation(
        ids=tuple(range(num)),
        logprobs=np.full(num, -0.5, np.float32),
        entropies=np.array(entropies, np.float32),
        finish="stop" if finish == "stop" else "length",
        spans=(Span(4, 0, num),),
    )
    score = Score.unscorable("timed out") if value is None else Score.of(value)
    return Sample(np.array([9, 8, 7]), generation, "no", score)
