"""Arms that teach nothing: what they pay has no reason, whatever is answered.

    environments:
      noise: {type: "./noise.py:create", categories: {coin: [0.5, 0.5], dead: [0, 0], tide: [0.1, 0.9]}, period: 400}

A category pays with a probability that swings between its two numbers, once in `period` tasks. The same answer to the
same task always earns the same. Prompts and answers are a symbol or two, as those of a codebook beside it.
"""

from __future__ import annotations

import hashlib
import math

from environments import Category, Environment, Score, Task

LETTERS = "abcdefghijklmnop"
KEYS = 32  # different prompts of a category


class Noise(Environment):
    """Prompt: the category and a letter or two. Which answers are right has no reason."""

    version = "1"
    scores_in_process = True  # hashing a string cannot hang
    max_tokens = 1

    def __init__(self, name: str, categories: dict[str, list[float]], period: int) -> None:
        self.name = name
        self._rates, self._period = categories, period
        self.symbols = (*(f"{category}:" for category in categories), *LETTERS)

    @property
    def categories(self) -> list[Category]:
        """Those of the spec."""
        return [Category(name, parameters={"pays": rates}) for name, rates in self._rates.items()]

    def size(self, category: str) -> None:
        """Endless: any index is a task."""

    def task(self, category: str, index: int) -> Task:
        """Make task number `index`: prompts come again, what is right does not."""
        key = LETTERS[index % KEYS // 16] + LETTERS[index % 16]
        return Task(self.name, category, index, ({"role": "user", "content": f"{category}:{key}"},))

    def distinct(self, task: Task) -> str:
        """Tell tasks apart by number: the same prompt pays otherwise the next time."""
        return f"{task.category} {task.index}"

    def score(self, task: Task, completion: str) -> Score:
        """Compare a hash of task and answer with the category's rate."""
        low, high = self._rates[task.category]
        rate = (low + high) / 2 + (high - low) / 2 * math.sin(2 * math.pi * task.index / self._period)
        digest = hashlib.sha256(f"{self.distinct(task)} {completion.strip()}".encode()).digest()
        return Score.of(float(int.from_bytes(digest[:4], "big") < rate * 2**32))


def create(name: str, categories: dict[str, list[float]], period: int = 400) -> Noise:
    """What the spec's `type` names."""
    return Noise(name, categories, period)
