"""Every bandit and scheduler of ours runs the published suite."""

import numpy as np
import pytest

from orchestrator.bandits import fixed, sec, uniform
from orchestrator.bandits.contracts import Bandit
from orchestrator.bandits.testing import BanditSuite
from orchestrator.schedulers import round_robin, sequence


class TestSec(BanditSuite):
    floor = 0.2

    def make(self, arms, rng):
        return sec.create(sec.Config(), arms, rng)


class TestSecWithoutFloorThatDecays(BanditSuite):
    def make(self, arms, rng):
        return sec.create(sec.Config(floor=0.0, unsampled="decay"), arms, rng)


class TestUniform(BanditSuite):
    learns = False

    def make(self, arms, rng):
        return uniform.create(uniform.Config(), arms, rng)


class TestFixed(BanditSuite):
    learns = False

    def make(self, arms, rng):
        return fixed.create(fixed.Config(weights={"a": 3.0, "b": 1.0}), arms, rng)


class TestABanditFromOutside(BanditSuite):
    """Nothing but the base class is needed."""

    def make(self, arms, rng):
        class Greedy(Bandit):
            def __init__(self):
                super().__init__(arms, rng)
                self.keep(last=0.0)

            def preferences(self):
                weights = 1.0 + 50 * self.last
                return weights / weights.sum()

            def observe(self, seen):
                self.last[seen.at] = seen.reward

        return Greedy()


def rng():
    return np.random.Generator(np.random.PCG64(0))


def test_a_sequence_follows_its_order_and_begins_again():
    scheduler = sequence.create(sequence.Config(order=["b", "a", "b"]), ["a", "b"], rng())
    picks = [scheduler.pick(1)[0] for _ in range(5)]
    assert [pick.arm for pick in picks] == ["b", "a", "b", "b", "a"]
    assert {pick.probability for pick in picks} == {1.0}


def test_a_sequence_of_unknown_environments_is_refused():
    with pytest.raises(ValueError, match="wrods"):
        sequence.create(sequence.Config(order=["wrods"]), ["words"], rng())


def test_round_robin_takes_the_order_of_the_spec():
    scheduler = round_robin.create(round_robin.Config(), ["z", "a", "m"], rng())
    assert [scheduler.pick(1)[0].arm for _ in range(4)] == ["z", "a", "m", "z"]


def test_a_sequence_continues_after_a_restart():
    first = sequence.create(sequence.Config(order=["b", "a"]), ["a", "b"], rng())
    first.pick(1)
    second = sequence.create(sequence.Config(order=["b", "a"]), ["a", "b"], rng())
    second.load_state(first.state())
    assert second.pick(1)[0].arm == "a"


def test_weights_must_leave_an_arm_to_pick():
    with pytest.raises(ValueError, match="not all 0"):
        fixed.create(fixed.Config(weights={"a": 0.0}), ["a"], rng())


def test_without_the_arms_that_have_a_weight_those_left_are_alike():
    """They may all be in quarantine: the probabilities were NaN."""
    bandit = fixed.create(fixed.Config(weights={"a": 1.0}, others=0.0), ["a", "b", "c"], rng())
    assert bandit.probabilities() == {"a": 1.0, "b": 0.0, "c": 0.0}
    bandit.retire("a")
    assert bandit.probabilities() == {"b": 0.5, "c": 0.5}
    bandit.add("a")
    assert bandit.probabilities() == {"a": 1.0, "b": 0.0, "c": 0.0}
