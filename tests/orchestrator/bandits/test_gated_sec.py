"""SEC behind the gate: noise is seen through, learning is not."""

import math

import numpy as np
import pytest

from orchestrator.bandits import gated_sec, sec
from orchestrator.bandits.contracts import Bandit, Feedback
from orchestrator.bandits.testing import ARMS, BanditSuite
from tests.orchestrator.bandits.steps import seen


class TestGatedSec(BanditSuite):
    floor = 0.1

    def make(self, arms, rng):
        return gated_sec.create(gated_sec.Config(), arms, rng)

    def teach(self, bandit: Bandit, best: str) -> None:
        """The best arm's pass rate climbs, the others' stay where they are; every arm earns its mean |advantage|."""
        self.rates = getattr(self, "rates", dict.fromkeys(ARMS, 0.1))
        self.rates[best] += 0.016
        picks = bandit.pick(16)
        told = [(pick, self.rates[pick.arm]) for pick in picks]
        bandit.learn([Feedback(pick, 2 * p * (1 - p), score=p) for pick, p in told])


def bandit(**options):
    return gated_sec.create(gated_sec.Config(**options), ["a", "b"], np.random.default_rng(0))


def test_the_averages_are_plain_means_at_first_then_exponential():
    one = bandit(horizons=[20.0])
    one.observe(seen({0: 0.4}, num_groups=8, score={0: 0.2}))
    assert (one.fast_20[0], one.slow_20[0], one.num_scored[0]) == (0.2, 0.2, 8)
    one.observe(seen({0: 0.4}, step=1, num_groups=16, score={0: 0.6}))
    fast = 0.2 + (16 / 24) * 0.4  # more than 1 - exp(-16 / 20)
    slow = 0.2 + (16 / 24) * (fast - 0.2)
    assert (one.fast_20[0], one.slow_20[0]) == (pytest.approx(fast), pytest.approx(slow))
    one.observe(seen({0: 0.4}, step=2, num_groups=32, score={0: 0.5}))
    faster = fast + (1 - math.exp(-32 / 20)) * (0.5 - fast)  # more than 32 / 56
    assert one.fast_20[0] == pytest.approx(faster)
    assert one.slow_20[0] == pytest.approx(slow + (32 / 56) * (faster - slow))
    assert (one.fast_20[1], one.num_scored[1]) == (0.0, 0.0), "an arm that was not picked keeps everything"


@pytest.mark.parametrize("num_groups", [1, 4, 16])
def test_movement_is_in_standard_deviations_of_standing_still(num_groups):
    """Where nothing moves z has mean square 1, or less where a step brings many groups: v / 3h is the variance."""
    one, rng, squares = bandit(horizons=[50.0]), np.random.default_rng(num_groups), []
    for step in range(40_000 // num_groups):
        score = rng.binomial(8 * num_groups, 0.5) / (8 * num_groups)
        one.observe(seen({0: 0.4}, step=step, num_groups=num_groups, score={0: score}))
        if step * num_groups > 500:
            squares.append(one.movement()[0] ** 2)
    assert {1: 0.85, 4: 0.75, 16: 0.4}[num_groups] < np.mean(squares) < 1.15
    assert one.spread[0] == pytest.approx(0.25 / 8, rel=0.6)


def test_the_gate_is_open_at_first_and_closed_where_nothing_moves():
    one = bandit(grace=10.0, learning_rate=1.0)
    one.observe(seen({0: 0.4}, num_groups=10, score={0: 0.5}))
    assert one.q[0] == pytest.approx(0.4)
    one.observe(seen({0: 0.4}, step=1, num_groups=10, score={0: 0.5}))
    assert one.q[0] == 0.0, "no movement, nothing counts"
    one.observe(seen({0: 0.4}, step=2, num_groups=10, score={0: 0.53}))
    assert one.q[0] == pytest.approx(0.4 * (one.movement()[0] / 2) ** 2)
    assert 0 < one.movement()[0] < 2
    for step in range(3, 13):
        one.observe(seen({0: 0.4}, step=step, num_groups=10, score={0: 0.5 + 0.03 * step}))
    assert one.q[0] == pytest.approx(0.4)


@pytest.mark.parametrize("slope", [0.0005, 0.005])
def test_fast_and_slow_learning_pass_the_gate_and_coins_do_not(slope):
    """From .1 to .6 within a hundred groups, or a thousand; fifty coins beside it."""
    names = ["learning", *(f"z{k:02}" for k in range(50))]
    one = gated_sec.create(gated_sec.Config(grace=50.0), names, np.random.default_rng(0))
    rng, opened = np.random.default_rng(3), []
    for step in range(round(0.5 / slope / 4)):
        passing = [0.1 + slope * 4 * step] + [0.5] * 50
        score = dict(enumerate(rng.binomial(32, passing) / 32))
        one.observe(seen(dict.fromkeys(range(51), 0.4), step=step, num_groups=4, score=score))
        if one.num_scored[0] > 50:
            opened.append(one.gate())
    gates = np.mean(opened, axis=0)
    assert gates[0] > 0.75
    assert np.mean(gates[1:]) < 0.4


def test_an_arm_without_scores_is_never_gated():
    one, plain = bandit(), sec.create(sec.Config(floor=0.1), ["a", "b"], np.random.default_rng(0))
    for step in range(20):
        one.observe(seen({0: 0.4, 1: 0.1}, step=step, num_groups=16))
        plain.observe(seen({0: 0.4, 1: 0.1}, step=step, num_groups=16))
    assert one.probabilities() == plain.probabilities()


def test_a_coin_is_left_for_what_is_being_learned():
    """The coin has the larger |advantage| at every step, and SEC goes for it."""
    names = ["coin", "skill"]
    gated = gated_sec.create(gated_sec.Config(), names, np.random.default_rng(1))
    plain = sec.create(sec.Config(), names, np.random.default_rng(1))
    coin = np.random.default_rng(2)
    for step in range(60):
        passed = {"coin": lambda: coin.binomial(8, 0.5) / 8, "skill": lambda step=step: 0.05 + 0.003 * step}
        for one in (gated, plain):
            told = [(pick, passed[pick.arm]()) for pick in one.pick(32)]
            one.learn([Feedback(pick, 2 * p * (1 - p), score=p) for pick, p in told])
    assert gated.probabilities()["coin"] < 0.35 < 0.6 < plain.probabilities()["coin"]
