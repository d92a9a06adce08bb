"""An environment of two turns: guess a number, be told where it lies, guess again.

    environments:
      guess: {type: "guess:create", numbers: [3, 4, 5], tries: 2}

`guess.yaml` beside this file trains on it. A category is how many numbers there are. With two tries the first guess
should leave as little as possible on either side, and the second should listen: who does both finds 3 of 3 numbers, 3
of 4 and 3 of 5, who guesses blindly finds .56, .44 and .36.
"""

from __future__ import annotations

import numpy as np

from environments import Category, Environment, Episode, Score, Task, Turn


class Game(Episode):
    """One number to find. Used once: what was tried before is all its state."""

    def __init__(self, task: Task, tries: int) -> None:
        self.messages, self.secret, self.tries_left = task.messages, int(task.data["secret"]), tries

    def step(self, completion: str) -> Turn:
        """Take a guess. What is no number uses up a try as well."""
        self.tries_left -= 1
        guess = int(completion) if completion.isdecimal() and len(completion) < 4 else None
        if guess == self.secret or not self.tries_left:
            return Turn(score=Score.of(float(guess == self.secret)))
        hint = "a number!" if guess is None else "higher" if guess < self.secret else "lower"
        return Turn(({"role": "user", "content": hint},), done=False)


class Guess(Environment):
    """Prompt: how many numbers there are. Every turn: a number."""

    version = "1"
    scores_in_process = True  # comparing numbers cannot hang
    symbols = ("higher", "lower")  # one token each, where the tokenizer is made on the spot

    def __init__(self, name: str, numbers: list[int], tries: int) -> None:
        self.name, self.counts, self.tries = name, numbers, tries

    @property
    def categories(self) -> list[Category]:
        """One category a count of numbers."""
        return [Category(str(n)) for n in self.counts]

    def size(self, category: str) -> None:
        """Endless: any index is a game."""

    def task(self, category: str, index: int) -> Task:
        """Make game number `index`, which stands in the prompt: every game is a task of its own."""
        secret = int(np.random.default_rng([int(category), index]).integers(1, int(category) + 1))
        question = {"role": "user", "content": f"Game {index}: guess a number from 1 to {category}."}
        return Task(self.name, category, index, (question,), answer=str(secret), data={"secret": secret})

    def start(self, task: Task) -> Episode:
        """Begin a game; `score` is for environments of one turn."""
        return Game(task, self.tries)


def create(name: str, numbers: list[int], tries: int = 2) -> Guess:
    """What the spec's `type` names."""
    return Guess(name, numbers, tries)
