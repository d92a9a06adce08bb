"""An environment in one file: tasks made by a program, for which no file of rows is needed.

The spec names it as `./environment.py:create`; `evergreen check-env` with that name says what is wrong with it.
"""

from __future__ import annotations

import numpy as np

from environments import Category, Environment, Score, Task


class Largest(Environment):
    """Asks for the largest of some numbers. A category is how many there are: an arm of the bandit."""

    version = "1"  # raise it when questions, scores or categories change their meaning
    scores_in_process = True  # comparing two texts can neither hang nor run anything
    max_tokens = 4  # that a reply may have; leave it out for the sampler's own limit

    def __init__(self, name: str, counts: list[int]) -> None:
        self.name, self.counts = name, counts

    @property
    def categories(self) -> list[Category]:
        """What the bandit chooses among."""
        return [Category(str(count)) for count in self.counts]

    def size(self, category: str) -> None:
        """Endless: any index is a task. With a list of tasks, return its length."""

    def task(self, category: str, index: int) -> Task:
        """Make task number `index`: the same one every time, in every process."""
        rng = np.random.default_rng([int(category), index])
        numbers = rng.choice(np.arange(10, 100), int(category), replace=False)
        question = {"role": "user", "content": f"Largest of {' '.join(map(str, numbers))}"}
        return Task(self.name, category, index, (question,), answer=str(max(numbers)))

    def score(self, task: Task, completion: str) -> Score:
        """Judge a reply from 0 to 1; what cannot be read is wrong."""
        return Score.of(float(completion.strip() == task.answer))


def create(name: str, counts: list[int]) -> Largest:
    """What the spec's `type` names; the entry's other keys arrive as arguments."""
    return Largest(name, counts)
