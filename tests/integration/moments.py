"""An environment that says when it is built and when it first scores, and takes its time: for signals sent then."""

from __future__ import annotations

import time
from pathlib import Path

from environments import Category, Environment, Score, Task


class Watched(Environment):
    """Leaves `built-N` in a folder as it is built for the Nth time, and `scored` with its first score."""

    version = "1"
    scores_in_process = True
    categories = (Category("easy"),)

    def __init__(self, name: str, folder: str, waits: str, seconds: float) -> None:
        self.name, self._folder, self._waits, self._seconds = name, Path(folder), waits, seconds
        self._reach(f"built-{1 + len(list(self._folder.glob('built-*')))}")

    def size(self, category: str) -> int | None:
        return None

    def task(self, category: str, index: int) -> Task:
        return Task(self.name, category, index, ({"role": "user", "content": str(index)},), str(index % 10))

    def score(self, task: Task, completion: str) -> Score:
        if not (self._folder / "scored").exists():
            self._reach("scored")
        return Score.of(float(completion.strip() == task.answer))

    def _reach(self, moment: str) -> None:
        (self._folder / moment).touch()
        if moment == self._waits:
            time.sleep(self._seconds)


def create(name: str, folder: str, waits: str, seconds: float = 1.0) -> Watched:
    """Build it."""
    return Watched(name, folder, waits, seconds)


def wait_for(path: Path, patience_s: float = 60.0) -> None:
    """Wait until a file is there."""
    deadline = time.monotonic() + patience_s
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.005)
