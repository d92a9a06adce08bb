"""An environment of endless episodes whose steps a file counts, and which draw from generators in several ways."""

from __future__ import annotations

import os
import random
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from environments import Category, Environment, Episode, Score, Task, Turn

HELD_BYTES, HELD_FILES = 40 * 2**20, 10  # of an episode that holds much


class Counted(Environment):
    version = "1"

    def __init__(self, name: str, path: str, way: str, in_process: bool) -> None:
        self.name, self.path, self.way, self.scores_in_process = name, Path(path), way, in_process

    @property
    def categories(self) -> list[Category]:
        return [Category("all")]

    def size(self, category: str) -> int | None:
        return None

    def task(self, category: str, index: int) -> Task:
        return Task(self.name, category, index, ({"role": "user", "content": f"begin {index}"},))

    def start(self, task: Task) -> Episode:
        return Steps(self, task)


class Steps(Episode):
    """Replies tell what was heard and drawn; some completions do what they say."""

    def __init__(self, environment: Counted, task: Task) -> None:
        self.messages, self.path, self.way = task.messages, environment.path, environment.way
        self.heard: list[str] = []
        self.held: Any = None
        if self.way == "seeded":
            self._seed(task.index)
        elif self.way == "holding memory":
            self.held = bytes(HELD_BYTES)
        elif self.way == "holding files":
            self.held = [socket.socket() for _ in range(HELD_FILES)]
        elif self.way == "holding a folder":
            self.held = tempfile.TemporaryDirectory(dir=self.path.parent)

    def step(self, completion: str) -> Turn:
        with self.path.open("a") as file:
            file.write("x")
        if completion == "crash" and not self.path.with_suffix(".crashed").exists():
            self.path.with_suffix(".crashed").touch()
            os._exit(3)
        while completion == "wait" and not self.path.with_suffix(".go").exists():
            time.sleep(0.01)
        if completion == "raise":
            raise ValueError("not that")
        self.heard.append(completion)
        if completion == "end":
            return Turn(score=Score.of(1.0, heard=float(len(self.heard))))
        return Turn(({"role": "user", "content": f"{self.heard} {self._drawn()}"},), done=False)

    def _drawn(self) -> list[float]:
        if self.way == "seeded in each step":
            self._seed(len(self.heard))
        is_late = self.way == "late" and len(self.heard) > 2
        if is_late or self.way in ("seeded", "seeded in each step", "unseeded"):
            return [random.random(), float(np.random.normal())]
        return []

    @staticmethod
    def _seed(seed: int) -> None:
        random.seed(seed)
        np.random.seed(seed)


def create(name: str, path: str, way: str = "still", in_process: bool = False) -> Environment:
    return Counted(name, path, way, in_process)
