"""Every selection of ours runs the published suite, and so does one from outside."""

from __future__ import annotations

import random

import numpy as np

from orchestrator import registry
from orchestrator.selections import (
    adarft,
    boltzmann,
    bots,
    cursor,
    learnability,
    mopps,
    plr,
    pools,
    vcrl,
)
from orchestrator.selections.contracts import Selection
from orchestrator.selections.testing import SelectionSuite


class TestCursor(SelectionSuite):
    def make(self, num_tasks, rng):
        return cursor.create(cursor.Config(), num_tasks, rng)


class TestPools(SelectionSuite):
    def make(self, num_tasks, rng):
        return pools.create(pools.Config(), num_tasks, rng)


class TestMopps(SelectionSuite):
    visits_all = False

    def make(self, num_tasks, rng):
        return mopps.create(mopps.Config(), num_tasks, rng)


class TestMoppsInAnInterval(SelectionSuite):
    visits_all = False

    def make(self, num_tasks, rng):
        return mopps.create(mopps.Config(interval=(0.3, 0.7), keep=1.0), num_tasks, rng)


class TestBots(SelectionSuite):
    def make(self, num_tasks, rng):
        return bots.create(bots.Config(), num_tasks, rng)


class TestBotsWithReferences(SelectionSuite):
    visits_all = False
    sparse_state = False

    def make(self, num_tasks, rng):
        weak = np.arange(num_tasks) % 10 / 20
        weak[::5] = np.nan
        config = bots.Config(weak="weak", strong="strong", temperature=0.1)
        return bots.create(config, num_tasks, rng, {"weak": weak, "strong": weak + 0.4})


class TestLearnability(SelectionSuite):
    def make(self, num_tasks, rng):
        return learnability.create(learnability.Config(refresh=3, size=12), num_tasks, rng)


class TestVcrl(SelectionSuite):
    def make(self, num_tasks, rng):
        return vcrl.create(vcrl.Config(memory=10), num_tasks, rng)


class TestPlr(SelectionSuite):
    def make(self, num_tasks, rng):
        return plr.create(plr.Config(buffer=15), num_tasks, rng)


class TestPlrOfEverything(SelectionSuite):
    def make(self, num_tasks, rng):
        return plr.create(plr.Config(replay=0.9), num_tasks, rng)


class TestAdaRft(SelectionSuite):
    def make(self, num_tasks, rng):
        numbers = {"difficulty": np.arange(num_tasks) * 7919 % 11 * 10.0}
        return adarft.create(adarft.Config(difficulty="level"), num_tasks, rng, numbers)


class TestBoltzmann(SelectionSuite):
    def make(self, num_tasks, rng):
        return boltzmann.create(boltzmann.Config(), num_tasks, rng)


class TestBoltzmannWithoutAFloor(SelectionSuite):
    visits_all = False

    def make(self, num_tasks, rng):
        config = boltzmann.Config(floor=0.0, temperature=0.001)  # weights leave the range of float64
        return boltzmann.create(config, num_tasks, rng)


class Foreign(Selection):
    """What someone else may write: uniform, with nothing of ours but the contract."""

    def draw(self, n):
        return np.array(random.Random(int(self.rng.integers(2**32))).sample(range(self.num_tasks), n), np.int64)

    def learn(self, tried):
        pass


class TestForeign(SelectionSuite):
    def make(self, num_tasks, rng):
        return Foreign(num_tasks, rng)


def test_every_selection_there_is_runs_the_suite() -> None:
    names = {method.name for method in registry.listing("selections")}
    suites = {name.lower() for name in globals() if name.startswith("Test")}
    assert names == {name for name in names if f"test{name}" in suites}
    assert len(names) == 9
