"""An environment as a user might write it, whose behaviour stands in a file: broken now, mended later.

The file holds a character of `tests.environments.fakes`, or `cannot make tasks`, or `cannot be built`.
"""

from __future__ import annotations

from pathlib import Path

from environments import Category, Environment, Score, Task
from tests.environments.fakes import BEHAVIOURS


class Moody(Environment):
    """Repeat a number, if the mood allows."""

    version = "1"

    def __init__(self, name: str, mood: Path, in_process: bool) -> None:
        self.name, self.mood, self.scores_in_process = name, mood, in_process

    @property
    def categories(self) -> list[Category]:
        return [Category("easy"), Category("hard")]

    def size(self, category: str) -> int | None:
        return None

    def task(self, category: str, index: int) -> Task:
        if self.mood.read_text() == "cannot make tasks":
            raise OSError("tasks.csv is gone")
        return Task(self.name, category, index, ({"role": "user", "content": f"{category} {index}"},), str(index))

    def score(self, task: Task, completion: str) -> Score:
        score: Score = BEHAVIOURS[self.mood.read_text()](task, completion)
        return score


def create(name: str, mood: str, in_process: bool = True) -> Moody:
    if Path(mood).read_text() == "cannot be built":
        raise OSError("tasks.csv is gone")
    return Moody(name, Path(mood), in_process)
