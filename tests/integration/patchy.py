"""An environment whose answers can be scored but for those of the categories that a file names, as long as it does."""

from __future__ import annotations

from pathlib import Path

from environments import Environment, Score, Task
from tests.environments.fakes import Fake


class Patchy(Fake):
    def __init__(self, name: str, path: Path) -> None:
        super().__init__(name, "noisy", ["easy", "hard"], [], None, 10**6, in_process=True)
        self.path = path

    def score(self, task: Task, completion: str) -> Score:
        if {self.name, f"{self.name}/{task.category}"} & set(self.path.read_text().split()):
            raise RuntimeError("the judge is away")
        return super().score(task, completion)


def create(name: str, path: str) -> Environment:
    return Patchy(name, Path(path))
