"""What an environment must leave as it was: global generators, the working directory and its files, variables."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class SideEffects:
    """A look at the process."""

    python_state: Any
    numpy_state: Any
    directory: str | None  # None: it is gone
    files: frozenset[str]  # names in it
    variables: dict[str, str]

    @classmethod
    def now(cls) -> SideEffects:
        """Look."""
        _, keys, *position = np.random.get_state(legacy=True)
        numpy_state = (np.asarray(keys).tobytes(), *position)
        directory = _directory()
        listed = frozenset() if directory is None else frozenset(os.listdir(directory))
        files = listed - {"__pycache__"}  # Python's own doing, where a user's module is imported from here
        return cls(random.getstate(), numpy_state, directory, files, dict(os.environ))

    def changes(self, later: SideEffects) -> Iterator[tuple[str, str]]:
        """Name what is different later: rule, and what was done."""
        if self.python_state != later.python_state:
            yield "random-state", "uses or seeds the global generator of random"
        if self.numpy_state != later.numpy_state:
            yield "random-state", "uses or seeds the global generator of numpy.random"
        if self.directory != later.directory:
            yield "directory", "changes the working directory"
        elif later.files - self.files:
            yield (
                "files",
                f"leaves files in the working directory, {', '.join(sorted(later.files - self.files))}",
            )
        names = self.variables.keys() | later.variables.keys()
        changed = sorted(n for n in names if self.variables.get(n) != later.variables.get(n))
        if changed:
            yield "variables", f"changes the environment variables {', '.join(changed)}"


def _directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None
