"""What every bandit must do, as a class of tests that outside bandits run too.

class TestMine(BanditSuite):
    def make(self, arms, rng):
        return Mine(arms, rng)
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from orchestrator.bandits.contracts import Bandit, Feedback

ARMS = ("a", "b", "c", "d")


class BanditSuite(ABC):
    """Subclass it as `Test...`, implement `make`, and let pytest collect it."""

    floor = 0.0  # total uniform mass of the bandits that `make` returns
    learns = True  # False: the probabilities never depend on rewards

    @abstractmethod
    def make(self, arms: Sequence[str], rng: np.random.Generator) -> Bandit:
        """Make a fresh bandit over these arms."""

    def _made(self, arms: Sequence[str] = ARMS, seed: int = 0) -> Bandit:
        return self.make(arms, np.random.Generator(np.random.PCG64(seed)))

    def test_probabilities_sum_to_one_and_respect_the_floor(self) -> None:
        """Over a history, at every step."""
        bandit = self._made()
        for _ in range(30):
            probabilities = bandit.probabilities()
            assert set(probabilities) == set(ARMS)
            assert math.isclose(sum(probabilities.values()), 1.0, abs_tol=1e-12)
            assert min(probabilities.values()) >= self.floor / len(ARMS) - 1e-15
            _play(bandit, {"a": 0.5, "b": 0.3, "c": 0.1, "d": 0.0})

    def test_a_pick_carries_the_probability_it_was_drawn_with(self) -> None:
        """And ids are unique over calls made before any feedback."""
        bandit = self._made()
        _play(bandit, {"a": 0.5})
        probabilities = bandit.probabilities()
        picks = bandit.pick(20) + bandit.pick(20)
        assert all(pick.probability == probabilities[pick.arm] for pick in picks[:20])
        assert len({pick.id for pick in picks}) == 40

    def test_reading_draws_nothing(self) -> None:
        """Probabilities, values and state leave the random stream alone."""
        bandit, twin = self._made(), self._made()
        for _ in range(3):
            bandit.probabilities(), bandit.values(), bandit.state()
        assert [p.arm for p in bandit.pick(50)] == [p.arm for p in twin.pick(50)]

    def test_state_survives_json_in_mid_batch(self) -> None:
        """A bandit loaded between pick and learn continues identically."""
        bandit = self._made()
        _play(bandit, {"a": 0.4, "b": 0.2})
        picks = bandit.pick(16)
        copy = self._made(seed=99)
        copy.load_state(json.loads(json.dumps(bandit.state())))
        for one in (bandit, copy):
            one.learn([Feedback(pick, 0.3) for pick in picks])
        assert copy.probabilities() == bandit.probabilities()
        assert copy.pick(32) == bandit.pick(32)
        assert copy.state() == bandit.state()

    def test_the_order_of_the_arms_does_not_matter(self) -> None:
        """The same history gives the same choices."""
        bandit, shuffled = self._made(), self._made(ARMS[::-1])
        for _ in range(5):
            assert _play(bandit, {"a": 0.5, "c": 0.2}) == _play(shuffled, {"a": 0.5, "c": 0.2})

    def test_feedback_counts_once(self) -> None:
        """Doubled and unknown feedback is dropped."""
        bandit, twin = self._made(), self._made()
        picks, same = bandit.pick(8), twin.pick(8)
        bandit.learn([Feedback(pick, 0.5) for pick in picks])
        bandit.learn([Feedback(pick, 0.9) for pick in picks])
        twin.learn([Feedback(pick, 0.5) for pick in same])
        assert bandit.state() == twin.state()

    def test_no_observation_teaches_nothing(self) -> None:
        """num_groups = 0 leaves the probabilities alone, whatever the reward says."""
        bandit = self._made()
        _play(bandit, {"a": 0.4})
        before = bandit.probabilities(), bandit.values()
        bandit.learn([Feedback(pick, math.nan, num_groups=0) for pick in bandit.pick(8)])
        assert (bandit.probabilities(), bandit.values()) == before

    def test_a_non_finite_reward_is_refused_and_changes_nothing(self) -> None:
        """Even when good feedback came with it."""
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
        """A new arm leaves the relative probabilities of the others; late feedback for a retired one is dropped."""
        bandit = self._made()
        _play(bandit, {"a": 0.5, "b": 0.2})
        before = bandit.probabilities()
        bandit.add("e")
        after = bandit.probabilities()
        if self.floor == 0.0:
            assert math.isclose(after["a"] * before["b"], after["b"] * before["a"], rel_tol=1e-9)
        picks = bandit.pick(64)
        bandit.retire("a")
        bandit.learn([Feedback(pick, 0.5) for pick in picks])
        assert set(bandit.probabilities()) == {"b", "c", "d", "e"}
        assert all(pick.arm != "a" for pick in bandit.pick(64))

    def test_picks_are_drawn_with_the_recorded_probabilities(self) -> None:
        """Chi-square of 20 000 draws, at 1e-3."""
        bandit = self._made()
        _play(bandit, {"a": 0.3, "b": 0.1})
        probabilities = bandit.probabilities()
        counts = dict.fromkeys(ARMS, 0)
        for pick in bandit.pick(20_000):
            counts[pick.arm] += 1
        chi2 = sum((counts[a] - 20_000 * p) ** 2 / (20_000 * p) for a, p in probabilities.items() if p > 0)
        assert chi2 < 16.27  # 3 degrees of freedom

    def test_a_change_of_the_best_arm_is_found(self) -> None:
        """Fifty steps on one best arm, then it changes: within thirty steps the new one is the likeliest."""
        if not self.learns:
            return
        bandit = self._made()
        for best in ("a", "d"):
            for _ in range(50 if best == "a" else 30):
                _play(bandit, {best: 0.5})
            probabilities = bandit.probabilities()
            assert max(probabilities, key=lambda arm: probabilities[arm]) == best


def _play(bandit: Bandit, rewards: dict[str, float], n: int = 16) -> list[str]:
    """One step: pick n, learn; arms without a reward earn 0."""
    picks = bandit.pick(n)
    bandit.learn([Feedback(pick, rewards.get(pick.arm, 0.0)) for pick in picks])
    return [pick.arm for pick in picks]
