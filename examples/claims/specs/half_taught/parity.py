"""Is the sum of some digits odd or even? A category is how many digits."""

from __future__ import annotations

import numpy as np

from environments import Category, Environment, Score, Task


class Parity(Environment):
    """Two answers, so that half of the guesses are right and nearly every group has a signal."""

    version = "1"
    scores_in_process = True  # comparing two words cannot hang
    max_tokens = 6

    def __init__(self, name: str, digits: list[int]) -> None:
        self.name, self.digits = name, digits

    @property
    def categories(self) -> list[Category]:
        """Those of the spec."""
        return [Category(str(num)) for num in self.digits]

    def size(self, category: str) -> None:
        """Endless: any index is a task."""

    def task(self, category: str, index: int) -> Task:
        """Ask for the parity of a sum."""
        digits = np.random.default_rng([int(category), index]).integers(0, 10, int(category))
        question = f"Odd or even: {' + '.join(map(str, digits))}"
        answer = "odd" if digits.sum() % 2 else "even"
        return Task(self.name, category, index, ({"role": "user", "content": question},), answer=answer)

    def score(self, task: Task, completion: str) -> Score:
        """1 for the word."""
        return Score.of(float(completion.strip() == task.answer))


def create(name: str, digits: list[int]) -> Parity:
    """Build it for `type: "./half_taught/parity.py:create"`."""
    return Parity(name, digits)
