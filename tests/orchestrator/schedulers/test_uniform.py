from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from orchestrator.bandits.contracts import Bandit
from orchestrator.bandits.testing import BanditSuite
from orchestrator.schedulers import uniform


class TestUniform(BanditSuite):
    learns = False

    def make(self, arms: Sequence[str], rng: np.random.Generator) -> Bandit:
        return uniform.create(uniform.Config(), arms, rng)


def test_no_environment_is_favoured() -> None:
    scheduler = uniform.create(uniform.Config(), ["words", "book", "maze"], np.random.default_rng(0))
    counts = Counter(scheduler.pick(1)[0].arm for _ in range(600))
    assert all(150 < count < 250 for count in counts.values())
