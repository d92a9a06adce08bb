"""An environment in one file: sort the letters of a word.

    environments:
      letters: {type: "custom_environment:create", lengths: [3, 4, 5]}

`custom_environment.yaml` beside this file trains on it.
"""

from __future__ import annotations

import numpy as np

from environments import Category, Environment, Score, Task

ALPHABET = "abcdefgh"


class SortLetters(Environment):
    """Prompt: some letters. Answer: the same letters in order. A category is a length."""

    version = "1"  # raise it when prompts, scores or categories change meaning
    scores_in_process = True  # comparing two strings cannot hang

    def __init__(self, name: str, lengths: list[int]) -> None:
        self.name, self.lengths = name, lengths

    @property
    def categories(self) -> list[Category]:
        """One category a length; the bandit chooses among them."""
        return [Category(str(length)) for length in self.lengths]

    def size(self, category: str) -> None:
        """Endless: any index is a task."""

    def task(self, category: str, index: int) -> Task:
        """Make task number `index`: the same one every time."""
        rng = np.random.default_rng([int(category), index])
        letters = "".join(rng.choice(list(ALPHABET), int(category)))
        question = {"role": "user", "content": f"Sort these letters: {letters}"}
        return Task(self.name, category, index, (question,), answer="".join(sorted(letters)))

    def score(self, task: Task, completion: str) -> Score:
        """Give 1 for the right order, else the share of letters in their place, at most .5."""
        places = sum(a == b for a, b in zip(completion.strip(), task.answer or "", strict=False))
        right = completion.strip() == task.answer
        return Score.of(1.0 if right else 0.5 * places / int(task.category), correct=right)


def create(name: str, lengths: list[int]) -> SortLetters:
    """What the spec's `type` names; its other options arrive as keyword arguments."""
    return SortLetters(name, lengths)
