"""Codebook: keys and answer symbols paired at random; nothing in a prompt helps, the answers must be found.

The smallest honest test of plasticity: a stage teaches one book, the next stage another with the same keys and new
answers, and a policy whose entropy has collapsed no longer finds them. Prompt: the book's name and two letters,
three tokens where each of `symbols` is one. Reply: one symbol. The environment is closed: its point is to be
memorised, so it is evaluated on its own tasks, and a warm start learns the form of an answer, never the answer.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import product
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from environments.contracts import Category, Environment, Score, Task
from environments.options import Options

SOURCE = "Evergreen's plasticity reference, section 11"

LETTERS = ascii_lowercase[:16]  # of the keys
ANSWERS = ascii_uppercase + digits + ascii_lowercase[16:] + "!#$%&()*+-./<=>?@^"  # 64, none a key letter


def _digest(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


# Every pair of letters, in an order that looks random and is the same for all books.
KEYS = sorted(map("".join, product(LETTERS, repeat=2)), key=lambda key: _digest(f"key {key}"))


class Config(Options):
    """Options of a codebook."""

    book: str | None = Field(default=None, min_length=1)
    """Name of the book, which decides the answers; null: the environment's name."""
    named: bool = True
    """Whether prompts carry the book's name; if not, books contradict each other: same prompts, new answers."""
    categories: dict[str, Annotated[int, Field(ge=2, le=len(ANSWERS))]] = Field(
        default={"4": 4, "16": 16}, min_length=1
    )
    """Category name: number n of answer symbols; its answers are among the first n."""
    keys: int = Field(default=64, ge=1, le=len(KEYS))
    """Number of keys of each category. Categories share no key as long as all fit into 256."""
    repeats: bool = False
    """Draw the keys with replacement: one that comes twice has two answers, of which one prompt can ask for either."""
    order: Literal["epochs", "anew"] = "epochs"
    """`epochs`: every key once before any comes again; `anew`: any of them for every task. A batch never has one twice
    as long as there are enough."""


class Codebook(Environment):
    """A book for each category: `keys` keys, each with one of the first n answer symbols.

    Keys depend on the place of the category alone, so books have the same keys; answers on book, category and key.
    When categories must share keys (more than 256 in all), prompts carry the category too: no two contradict.
    """

    version = "1"
    closed = True
    scores_in_process = True
    max_tokens = 1

    def __init__(self, name: str, config: Config) -> None:
        self.name = name
        self._config = config
        self._book = config.book or name
        num_categories = len(config.categories)
        self._crowded = num_categories * config.keys > len(KEYS) or (config.repeats and num_categories > 1)
        labels = dict.fromkeys(self._label(category) for category in config.categories)
        self._tasks = {category: self._write(category) for category in config.categories}
        self.symbols = (*labels, *LETTERS, *ANSWERS[: max(config.categories.values())])

    @property
    def categories(self) -> list[Category]:
        return [Category(name, parameters={"symbols": n}) for name, n in self._config.categories.items()]

    def size(self, category: str) -> int | None:
        return None if self._config.order == "anew" else self._config.keys

    def task(self, category: str, index: int) -> Task:
        if self._config.order == "epochs":
            return self._tasks[category][index]
        drawn = self._tasks[category][_digest(f"draw {index}") % self._config.keys]
        return replace(drawn, index=index)

    def distinct(self, task: Task) -> str:
        """Tell tasks apart by prompt and answer: a key that was drawn twice asks for two things."""
        return f"{task.key} {task.answer}"

    def score(self, task: Task, completion: str) -> Score:
        return Score.of(float(completion.strip() == task.answer))

    def legal_answer(self, task: Task, rng: np.random.Generator) -> str:
        """Draw one of the category's answer symbols, all alike."""
        return ANSWERS[int(rng.integers(self._config.categories[task.category]))]

    def _write(self, category: str) -> list[Task]:
        num_keys, num_symbols = self._config.keys, self._config.categories[category]
        start = list(self._config.categories).index(category) * num_keys
        tasks = []
        for index, place in enumerate(range(start, start + num_keys)):
            # all different up to 256, or drawn (64 draws hold 57, as many as are expected)
            key = KEYS[(_digest(f"key at {place}") if self._config.repeats else place) % len(KEYS)]
            asked = f"{key} {index}" if self._config.repeats else key
            answer = ANSWERS[_digest(f"{self._book} {category} {asked}") % num_symbols]
            prompt = ({"role": "user", "content": self._label(category) + key},)
            tasks.append(Task(self.name, category, index, prompt, answer))
        return tasks

    def _label(self, category: str) -> str:  # what a prompt begins with: a single symbol
        book = self._book if self._config.named else "book"
        return f"{book}.{category}:" if self._crowded else f"{book}:"


def create(name: str, config: Config) -> Codebook:
    return Codebook(name, config)
