"""The tests that every bandit must pass, as a class that outside bandits run too.

class TestMine(BanditSuite):
    def make(self, arms, rng):
        return Mine(arms, rng)
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.bandits.contracts import Bandit, Feedback, Pick

ARMS = ("a", "b", "c", "d")
CHI_SQUARE = 16.27  # 3 degrees of freedom, at 1e-3


class BanditSuite(ABC):
    """Subclass it as `Test...`, implement `make`, and let pytest collect it; the attributes say what a rule promises.

    Rewards of the tests lie in [0, 1], and so do scores.
    """

    floor = 0.0  # total uniform mass of the bandits that `make` returns
    learns = True  # False: the probabilities never depend on feedback
    in_order = False  # True: the order in which the arms are given means something
    in_turn = False  # True: the slots of one batch are filled one after the other, not independently
    keeps_ratios = True  # False: a new arm may change the relative probabilities of the others
    num_draws = 20_000  # of the chi-square test; less for a rule that is slow in single draws

    @abstractmethod
    def make(self, arms: Sequence[str], rng: np.random.Generator) -> Bandit:
        """Make a fresh bandit over these arms."""

    def _made(self, arms: Sequence[str] = ARMS, seed: int = 0) -> Bandit:
        return self.make(arms, np.random.Generator(np.random.PCG64(seed)))

    def test_probabilities_sum_to_one_and_respect_the_floor(self) -> None:
        bandit = self._made()
        for _ in range(30):
            probabilities = bandit.probabilities()
            assert set(probabilities) == set(ARMS)
            assert math.isclose(sum(probabilities.values()), 1.0, abs_tol=1e-12)
            assert min(probabilities.values()) >= self.floor / len(ARMS) - 1e-15
            _play(bandit, {"a": 0.5, "b": 0.3, "c": 0.1, "d": 0.0})

    def test_a_pick_carries_the_probability_it_was_drawn_with(self) -> None:
        bandit = self._made()
        _play(bandit, {"a": 0.5})
        probabilities = bandit.probabilities()
        first, second = bandit.pick(20), bandit.pick(20)
        for pick in first[: 1 if self.in_turn else 20]:
            assert math.isclose(pick.probability, probabilities[pick.arm], rel_tol=1e-12)
        assert all(0 < pick.probability <= 1 + 1e-12 for pick in first + second)
        assert len({pick.id for pick in first + second}) == 40

    def test_reading_draws_nothing(self) -> None:
        bandit, twin = self._made(), self._made()
        for _ in range(3):
            bandit.probabilities(), bandit.values(), bandit.state()
        assert [p.arm for p in bandit.pick(50)] == [p.arm for p in twin.pick(50)]

    def test_the_same_seed_and_feedback_give_the_same_draws(self) -> None:
        bandit, twin = self._made(seed=5), self._made(seed=5)
        for _ in range(10):
            assert _play(bandit, {"a": 0.5, "c": 0.2}) == _play(twin, {"a": 0.5, "c": 0.2})

    def test_state_survives_json_in_mid_batch(self) -> None:
        bandit = self._made()
        for _ in range(3):
            _play(bandit, {"a": 0.4, "b": 0.2})
        picks = bandit.pick(16)
        copy = self._made(seed=99)
        copy.load_state(json.loads(json.dumps(bandit.state())))
        for _ in range(3):
            for one in (bandit, copy):
                one.learn([_feedback(pick, 0.3) for pick in picks])
            assert (copy.probabilities(), copy.values()) == (bandit.probabilities(), bandit.values())
            picks = copy.pick(32)
            assert picks == bandit.pick(32)
            assert copy.state() == bandit.state()

    def test_a_state_of_arrays_goes_on_alike(self) -> None:
        bandit, copy, other = self._made(), self._made(seed=98), self._made(seed=99)
        for _ in range(3):
            _play(bandit, {"a": 0.4, "b": 0.2})
        expected = bandit.state()
        bandit.as_arrays = True
        state = bandit.state()
        bandit.as_arrays = False
        _play(bandit, {"a": 0.1})  # what was given is a copy
        bandit.load_state(expected)
        picks = bandit.pick(32)
        for one, saved in ((copy, state), (other, json.loads(json.dumps(state, default=np.ndarray.tolist)))):
            one.load_state(saved)
            assert json.dumps(one.state()) == json.dumps(expected)
            assert one.pick(32) == picks

    def test_the_order_of_the_arms_does_not_matter(self) -> None:
        if self.in_order:
            return
        bandit, shuffled = self._made(), self._made(ARMS[::-1])
        for _ in range(5):
            assert _play(bandit, {"a": 0.5, "c": 0.2}) == _play(shuffled, {"a": 0.5, "c": 0.2})

    def test_witnessing_teaches_what_picking_does(self) -> None:
        bandit, other = self._made(seed=1), self._made(seed=2)
        for step in range(6):
            picks = bandit.pick(16)
            before = other.rng.bit_generator.state
            assert other.witness([pick.arm for pick in picks], [pick.probability for pick in picks]) == picks
            assert other.rng.bit_generator.state == before
            for one in (bandit, other):
                one.learn([_feedback(pick, 0.1 * step if pick.arm == "b" else 0.05) for pick in picks])
            assert (other.probabilities(), other.values()) == (bandit.probabilities(), bandit.values())
            assert _without_generators(other.state()) == _without_generators(bandit.state())

    def test_feedback_counts_once(self) -> None:
        bandit, twin = self._made(), self._made()
        picks, same = bandit.pick(8), twin.pick(8)
        bandit.learn([_feedback(pick, 0.5) for pick in picks])
        bandit.learn([_feedback(pick, 0.9) for pick in picks])
        bandit.learn([Feedback(Pick("999.0", "a", 0.5, 999), 0.9)])
        twin.learn([_feedback(pick, 0.5) for pick in same])
        assert bandit.state() == twin.state()

    def test_late_feedback_is_taken_in_whatever_its_order(self) -> None:
        bandit, twin = self._made(), self._made()
        batches = [bandit.pick(8) for _ in range(4)]
        assert batches == [twin.pick(8) for _ in range(4)]
        feedback = [_feedback(pick, 0.1 * (i + 1)) for i, batch in enumerate(batches) for pick in batch]
        bandit.learn(feedback)
        twin.learn([item for i in (2, 0, 3, 1) for item in feedback[8 * i : 8 * i + 8]])
        assert bandit.state() == twin.state()
        assert not bandit.state()["pending"]

    def test_no_observation_teaches_nothing(self) -> None:
        bandit, twin = self._made(), self._made()
        for one in (bandit, twin):
            _play(one, {"a": 0.4})
        picks, same = bandit.pick(8), twin.pick(8)
        assert picks == same
        bandit.learn([Feedback(pick, math.nan, num_groups=0) for pick in picks])
        assert (bandit.probabilities(), bandit.values()) == (twin.probabilities(), twin.values())

    def test_picks_that_are_taken_back_are_not_waited_for_or_counted(self) -> None:
        bandit, twin = self._made(), self._made()
        for one in (bandit, twin):
            _play(one, {"a": 0.4})
        before = bandit.num_picks
        bandit.take_back(bandit.pick(8))
        twin.pick(8)
        assert (bandit.probabilities(), bandit.values()) == (twin.probabilities(), twin.values())
        assert bandit.num_picks == before
        assert not bandit.state()["pending"]

    def test_a_non_finite_reward_is_refused_and_changes_nothing(self) -> None:
        bandit = self._made()
        picks = bandit.pick(2)
        before = bandit.state()
        for bad in (math.nan, math.inf):
            try:
                bandit.learn([Feedback(picks[0], 0.5), Feedback(picks[1], bad)])
            except ValueError:
                assert bandit.state() == before
            else:
                raise AssertionError(f"a reward of {bad} was accepted")

    def test_arms_come_and_go(self) -> None:
        bandit = self._made()
        for _ in range(3):
            _play(bandit, {"a": 0.5, "b": 0.2})
        before = bandit.probabilities()
        bandit.add("e")
        after = bandit.probabilities()
        assert set(after) == {*ARMS, "e"}
        if self.keeps_ratios and self.floor == 0.0:
            assert math.isclose(after["a"] * before["b"], after["b"] * before["a"], rel_tol=1e-9)
        picks = bandit.pick(64)
        bandit.retire("a")
        bandit.learn([_feedback(pick, 0.5) for pick in picks])
        probabilities = bandit.probabilities()
        assert set(probabilities) == {"b", "c", "d", "e"}
        assert math.isclose(sum(probabilities.values()), 1.0, abs_tol=1e-12)
        assert all(pick.arm != "a" for pick in bandit.pick(64))
        copy = self._made()
        copy.load_state(json.loads(json.dumps(bandit.state())))
        assert copy.pick(16) == bandit.pick(16)

    def test_without_feedback_nothing_changes(self) -> None:
        """Who reads probabilities and values may keep them until something is picked or learnt."""
        bandit = self._made()
        _play(bandit, {"a": 0.3, "b": 0.1})
        before = json.dumps([bandit.state(), bandit.probabilities(), bandit.values()])
        bandit.learn([])
        assert json.dumps([bandit.state(), bandit.probabilities(), bandit.values()]) == before

    def test_picks_are_drawn_with_the_recorded_probabilities(self) -> None:
        """Chi-square over many first picks of the same state, at 1e-3."""
        bandit = self._made()
        for _ in range(2):
            _play(bandit, {"a": 0.3, "b": 0.1})
        probabilities = bandit.probabilities()
        counts = dict.fromkeys(ARMS, 0)
        for arm in self._first_arms(bandit):
            counts[arm] += 1
        num = sum(counts.values())
        chi2 = sum((counts[a] - num * p) ** 2 / (num * p) for a, p in probabilities.items() if p > 0)
        assert chi2 < CHI_SQUARE
        assert all(probabilities[arm] > 0 for arm, count in counts.items() if count)

    def test_every_slot_is_drawn_with_its_recorded_probability(self) -> None:
        """The mean of 1 / probability is the number of arms that can be drawn, also where slots are filled in turn."""
        bandit = self._made()
        _play(bandit, {"a": 0.3, "b": 0.1})
        inverse = [1 / pick.probability for _ in range(60) for pick in bandit.pick(16)]
        spread = max(float(np.std(inverse)), 1e-9) / math.sqrt(len(inverse))
        assert 1 - 1e-9 <= float(np.mean(inverse)) <= len(ARMS) + 4 * spread

    def test_a_change_of_the_best_arm_is_found(self) -> None:
        """Fifty steps on one best arm, then it changes: within thirty steps the new one is the likeliest."""
        if not self.learns:
            return
        bandit = self._made()
        for best in ("a", "d"):
            for _ in range(50 if best == "a" else 30):
                self.teach(bandit, best)
            probabilities = bandit.probabilities()
            assert max(probabilities, key=lambda arm: probabilities[arm]) == best

    def teach(self, bandit: Bandit, best: str) -> None:
        """Play one step in which `best` is the arm to pick; overridden where a rule does not go by rewards."""
        _play(bandit, {best: 0.5})

    def _first_arms(self, bandit: Bandit) -> list[str]:
        if not self.in_turn:
            return [pick.arm for pick in bandit.pick(self.num_draws)]
        state, arms = bandit.state(), []
        for seed in range(self.num_draws // 10):
            bandit.load_state(state)
            bandit.rng = np.random.Generator(np.random.PCG64(seed))
            arms.append(bandit.pick(1)[0].arm)
        return arms


def _without_generators(state: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_generators(value) if isinstance(value, Mapping) else value
        for name, value in state.items()
        if name != "rng"
    }


def _feedback(pick: Pick, reward: float) -> Feedback:
    return Feedback(pick, reward, score=min(1.0, reward))


def _play(bandit: Bandit, rewards: Mapping[str, float], n: int = 16) -> list[str]:
    """One step: pick n, learn; arms without a reward earn 0."""
    picks = bandit.pick(n)
    bandit.learn([_feedback(pick, rewards.get(pick.arm, 0.0)) for pick in picks])
    return [pick.arm for pick in picks]
