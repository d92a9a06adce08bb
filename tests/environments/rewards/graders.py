"""Functions that users bring as rewards, good and bad, and an environment that scores with any reward."""

import random
import sys
import time
from typing import Any

from environments import Category, Environment, Score, Task
from environments.rewards import Attempt, make_reward


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    """verl's."""
    return {
        "score": float(solution_str.endswith(ground_truth)),
        "length": len(solution_str),
        "source": data_source,
        "hard": (extra_info or {}).get("hard", False),
    }


def old_compute_score(solution_str, ground_truth, method="strict", format_score=0.1):
    return 1.0 if solution_str == ground_truth else format_score


def one_word(completions, **kwargs):
    """TRL's, for conversations."""
    return [float(len(completion[0]["content"].split()) == 1) for completion in completions]


def plain_length(completions, prompts, unit=10.0, **kwargs):
    """TRL's, for plain text."""
    return [min(len(completion), unit) / unit if prompt else 0.0
            for completion, prompt in zip(completions, prompts, strict=True)]  # fmt: skip


def only_sums(completions, kind, solution):
    """TRL's, for some of the rows, and without **kwargs."""
    return [float(c[0]["content"] == s) if k == "sum" else None
            for c, k, s in zip(completions, kind, solution, strict=True)]  # fmt: skip


def near(attempt: Attempt, most: float = 10.0) -> float:
    """Ours: the distance to the truth as a loss, from -most to 0."""
    return -min(abs(float(attempt.answer or "inf") - attempt.truth), most)


def parts(attempt: Attempt) -> Score:
    return Score.of(0.5, True, style=0.25)


async def later(completions, **kwargs):
    return [1.0 for _ in completions]


def unknown_words(reply, truth):
    return 1.0


def wants_state(completions, trainer_state):
    return [1.0]


def wants_more(solution_str, ground_truth, tokenizer):
    return 1.0


def only_by_place(attempt, /):
    return 1.0


class Instance:
    def __call__(self, attempt: Attempt) -> float:
        return 1.0


instance = Instance()
no_function = 3


def bad(attempt: Attempt) -> Any:
    """Does whatever the answer says."""
    match attempt.answer:
        case "raise":
            raise KeyError("no such column")
        case "hang":
            while True:
                time.sleep(0.01)
        case "print":
            print("\x1b[31mlook at me" * 1000)
            return 1.0
        case "exit":
            sys.exit(0)
        case "negative":
            return -1
        case "nan":
            return float("nan")
        case "text":
            return "1.0"
        case "none":
            return None
        case "tensor":
            return random.Random(0)
    return 0.5


class Graded(Environment):
    """One task, scored by a reward."""

    version = "1"

    def __init__(self, name: str, reward: Any) -> None:
        self.name, self._reward = name, make_reward(reward)
        self.scores_in_process = self._reward.in_process

    @property
    def categories(self) -> list[Category]:
        return [Category("all")]

    def size(self, category: str) -> int:
        return 1

    def task(self, category: str, index: int) -> Task:
        return Task(self.name, category, index, ({"role": "user", "content": "?"},), data={"truth": "1"})

    def score(self, task: Task, completion: str) -> Score:
        return self._reward.score(Attempt(completion, completion, task.data["truth"], task.messages))


def create(name: str, reward: Any) -> Graded:
    return Graded(name, reward)


def shortness(solution_str, ground_truth, extra_info=None):
    """How short an answer is, which a random policy can be more or less."""
    return 1 / (1 + len(solution_str))
