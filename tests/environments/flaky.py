"""An environment that fails a number of times, by a file that counts, and then scores."""

from __future__ import annotations

import os
from pathlib import Path

from environments import Environment, Score, Task
from tests.environments.fakes import Fake


class Flaky(Fake):
    def __init__(self, name: str, path: Path, failures: int, way: str) -> None:
        super().__init__(name, "generous", ["easy"], [], None, 10**6, in_process=False)
        self.path, self.failures, self.way = path, failures, way

    def score(self, task: Task, completion: str) -> Score:
        done = self.path.stat().st_size if self.path.exists() else 0
        if done < self.failures:
            with self.path.open("a") as file:
                file.write("x")
            if self.way == "crash":
                os._exit(3)
            raise {"connection": ConnectionResetError, "value": ValueError}[self.way]("the judge is away")
        return super().score(task, completion)


def create(name: str, path: str, failures: int, way: str) -> Environment:
    return Flaky(name, Path(path), failures, way)
