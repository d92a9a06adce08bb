"""Which tasks may be played: whoever knows what the policy can read says so, and all who look for tasks ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from environments.contracts import Environment, Flaw, Task


@dataclass(frozen=True)
class PassedOver:
    """Tasks of an environment that were met and not admitted."""

    num: int
    first: str  # which the first of them was, and why, for people

    @property
    def text(self) -> str:
        """In words, without the number: more will come."""
        return f"tasks with prompts too long are left out as they are met; the first: {self.first}"


class Admission:
    """Admits every task. What a subclass says of a task depends on the task alone, so that a resumed run agrees."""

    def admits(self, task: Task) -> bool:
        """Say whether a task may be trained on and measured."""
        return True

    def barred(self, environment: Environment, category: str) -> NDArray[np.int64]:
        """Give the indices of a category that are known not to be admitted, ascending.

        All of them, where the environment knows its pools without making tasks (`Environment.indices`).
        """
        return np.empty(0, np.int64)

    def flaws(self, environment: str) -> Sequence[Flaw]:
        """Say why what is `barred` in an environment is, as it says itself what is wrong with its data."""
        return ()

    def take_passed_over(self) -> Mapping[str, PassedOver]:
        """Give what was met and not admitted since it was last asked, by environment; without what is `barred`."""
        return {}


ALL = Admission()
