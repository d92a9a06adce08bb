"""An environment that teaches nothing: the reward is a coin, whatever the answer.

    environments:
      coin: {type: "coin:create"}

To a bandit that goes by mean |advantage| it is the best category there is. `curricula_coin.yaml` beside this file puts
it among real ones, to see who falls for it.
"""

from __future__ import annotations

import hashlib

from environments import Category, Environment, Score, Task

WORDS = ("flip", "toss", "throw", "cast", "drop", "spin", "roll", "hurl")


class Coin(Environment):
    """Prompt: a word and a number. Half of all answers are right, which ones has no reason."""

    version = "1"
    scores_in_process = True  # hashing a string cannot hang
    max_tokens = 12  # as for the words beside it: an answer that means nothing need not be long

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def categories(self) -> list[Category]:
        """One: there is nothing to tell apart."""
        return [Category("flip")]

    def size(self, category: str) -> None:
        """Endless: any index is a task."""

    def task(self, category: str, index: int) -> Task:
        """Make task number `index`; it has no answer that is right by any reason."""
        question = {"role": "user", "content": f"{WORDS[index % len(WORDS)]} coin number {index}"}
        return Task(self.name, category, index, (question,))

    def score(self, task: Task, completion: str) -> Score:
        """Look at one bit of a hash: the same answer to the same task is always right, or always wrong."""
        digest = hashlib.sha256(f"{task.key} {completion.strip()}".encode()).digest()
        return Score.of(float(digest[0] % 2))


def create(name: str) -> Coin:
    """What the spec's `type` names."""
    return Coin(name)
