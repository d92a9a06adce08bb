"""An environment that breaks its contract in one way, given by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from environments.contracts import Category, Environment, Score, Task

CATEGORIES: dict[str, Any] = {
    "a name that is a number": [Category(1)],  # type: ignore[arg-type]
    "a name without a letter": [Category(" ")],
    "a name on two lines": [Category("x\ny")],
    "a name with half a character": [Category("\ud800")],
    "a long name": [Category(250 * "x")],
    "parameters that are no JSON": [Category("a", parameters={"x": np.float32(2)})],
}
SIZES: dict[str, Any] = {"a size that is no whole number": 200.5, "no tasks": 0, "a size of NumPy's": np.int64(200)}
TASKS: dict[str, dict[str, Any]] = {
    "no messages": {"messages": ()},
    "content that is no text": {"messages": ({"role": "user", "content": 3},)},
    "a message that is a text": {"messages": ("hello",)},
    "another environment's task": {"environment": "another"},
    "another index": {"index": 7},
    "an answer that is no text": {"answer": 3},
}


class Broken(Environment):
    version, scores_in_process = "1", True

    def __init__(self, name: str, how: str) -> None:
        self.name, self.how = name, how

    @property
    def categories(self) -> Any:
        made = CATEGORIES.get(self.how, [Category("a"), Category("b")])
        return self._one_by_one(made) if self.how == "categories of a generator" else made

    def _one_by_one(self, made: list[Category]) -> Iterator[Category]:
        yield from made

    def size(self, category: str) -> Any:
        if self.how == "a size that raises":
            raise KeyError(category)
        return SIZES.get(self.how, 200)

    def task(self, category: str, index: int) -> Task:
        fields = {"environment": self.name, "messages": ({"role": "user", "content": f"{category}{index}"},)}
        return Task(**{"category": category, "index": index, "answer": "1", **fields, **TASKS.get(self.how, {})})

    def score(self, task: Task, completion: str) -> Score:
        return Score.of(float(completion == "1"))


def create(name: str, how: str) -> Broken:
    return Broken(name, how)
