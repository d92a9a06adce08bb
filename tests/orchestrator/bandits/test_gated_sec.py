"""SEC behind the gate: noise is seen through, learning is not."""

import json
import math

import numpy as np
import pytest

from orchestrator.bandits import gated_sec, sec
from orchestrator.bandits.contracts import Bandit, Feedback
from orchestrator.bandits.testing import ARMS, BanditSuite
from tests.orchestrator.bandits.steps import played, seen


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


def bandit(arms=("a", "b"), **options):
    return gated_sec.create(gated_sec.Config(**options), arms, np.random.default_rng(0))


def test_the_averages_are_plain_means_at_first_then_exponential():
    one = bandit(horizons=[20.0])
    one.observe(seen({0: 0.4}, num_groups=8, score={0: 0.2}))
    assert (one.fast_20[0], one.lead_20[0], one.num_scored[0]) == (0.2, 0.0, 8)
    one.observe(seen({0: 0.4}, step=1, num_groups=16, score={0: 0.6}))
    fast = 0.2 + (16 / 24) * 0.4  # more than 1 - exp(-16 / 20)
    slow = 0.2 + (16 / 24) * (fast - 0.2)
    assert (one.fast_20[0], one.lead_20[0]) == (pytest.approx(fast), pytest.approx(fast - slow))
    one.observe(seen({0: 0.4}, step=2, num_groups=32, score={0: 0.5}))
    faster = fast + (1 - math.exp(-32 / 20)) * (0.5 - fast)  # more than 32 / 56
    slower = slow + (32 / 56) * (faster - slow)
    assert (one.fast_20[0], one.lead_20[0]) == (pytest.approx(faster), pytest.approx(faster - slower))
    assert (one.fast_20[1], one.num_scored[1]) == (0.0, 0.0), "an arm that was not picked keeps everything"


@pytest.mark.parametrize("sizes", [[1] * 300, [16] * 40, [3, 40, 1, 7, 25] * 8, [200, 1, 1]])
def test_what_the_lead_scatters_follows_from_the_sizes_of_the_steps(sizes):
    """Against the weights of the steps in it: an arm for each, that scores 1 in that step and 0 in the others."""
    one = bandit([f"{k:03}" for k in range(len(sizes))], horizons=[50.0])
    for step, n in enumerate(sizes):
        one.observe(played(np.repeat(np.eye(len(sizes))[step][:, None], n, axis=1), step))
    assert one.lead_var_50 == pytest.approx((one.lead_50**2 / sizes).sum(), rel=1e-9)


def test_the_lead_scatters_as_a_mean_at_first_and_by_its_horizon_in_the_end():
    one = bandit(horizons=[50.0])
    scattered = {}
    for step in range(2000):
        one.observe(seen({0: 0.4}, step=step, score={0: 0.5}))
        scattered[step + 1] = one.lead_var_50[0]
    assert scattered[50] == pytest.approx(1 / 50, rel=0.1)
    assert scattered[2000] == pytest.approx(1 / 150, rel=0.02)
    assert scattered[150] > 1.3 / 150, "larger than either in between"


NOISE = [(0.5, 8, 1), (0.5, 8, 4), (0.5, 8, 16), (0.1, 8, 4), (0.02, 4, 8), (0.5, 1, 4)]


@pytest.mark.parametrize(("rate", "group_size", "num_groups"), NOISE)
def test_movement_is_in_standard_deviations_of_standing_still(rate, group_size, num_groups):
    """Where nothing moves z has mean square 1 and the tail of a normal variable, at every count."""
    num_arms, h = 2000, 50
    one = bandit([f"{k:04}" for k in range(num_arms)], horizons=[float(h)])
    rng, counts = np.random.default_rng(num_groups), [h, 2 * h, 4 * h, 10 * h]
    for step in range(10 * h // num_groups + 1):
        one.observe(played(rng.binomial(group_size, rate, (num_arms, num_groups)) / group_size, step))
        if counts and one.num_scored[0] >= counts[0]:
            z, count = one.movement(), counts.pop(0)
            assert np.sqrt(np.mean(z**2)) == pytest.approx(1.0, abs=0.05), count
            assert np.mean(z > 2) == pytest.approx(0.0455, abs=0.014), count
    assert not counts
    assert np.mean(one.variance()) == pytest.approx(rate * (1 - rate) / group_size, rel=0.03)


def test_the_larger_of_two_horizons_is_more_than_one_deviation_in_the_end():
    """As `sure` was chosen with: mean square 1 while both are plain means, about 1.6 later; .09 of it beyond 2."""
    one, rng, squares = bandit([f"{k:04}" for k in range(2000)]), np.random.default_rng(0), {}
    for step in range(1500 // 10):
        one.observe(played(rng.binomial(8, 0.5, (2000, 10)) / 8, step))
        squares[10 * step + 10] = np.mean(one.movement() ** 2)
    assert squares[50] == pytest.approx(1.0, abs=0.1)
    assert squares[1500] == pytest.approx(1.6, abs=0.1)
    assert np.mean(one.movement() > 2) == pytest.approx(0.088, abs=0.02)


def test_the_variance_of_groups_is_measured_without_bias_from_the_second_step_on():
    """Also that between tasks: some always pass, some never."""
    one, rng = bandit([f"{k:04}" for k in range(2000)]), np.random.default_rng(0)
    one.observe(played(rng.integers(0, 2, (2000, 1)).astype(float)))
    assert not one.variance().any(), "one group has no spread"
    for step in range(1, 4):
        one.observe(played(rng.integers(0, 2, (2000, 3)).astype(float), step))
        assert np.mean(one.squares) / np.mean(one.freedom) == pytest.approx(0.25, rel=0.03)


def test_a_pick_that_was_played_again_is_one_measure_of_the_variance():
    """Its score is the mean of its groups, and scatters the less."""
    one, rng = bandit(horizons=[50.0]), np.random.default_rng(1)
    for _ in range(3000):
        picks = one.witness(["a", "a", "a"], [0.5] * 3)
        told = [(1, rng.normal(0.5, 0.1)), (4, rng.normal(0.5, 0.05)), (2, rng.normal(0.5, 0.1 / 2**0.5))]
        one.learn([Feedback(pick, 0.4, n, score=s) for pick, (n, s) in zip(picks, told, strict=True)])
    assert one.variance()[0] == pytest.approx(0.01, rel=0.3)


def test_the_gate_is_open_at_first_and_closed_where_nothing_moves():
    one = bandit(grace=10.0, learning_rate=1.0)
    one.observe(seen({0: 0.4}, num_groups=10, score={0: 0.5}))
    assert one.q[0] == pytest.approx(0.4)
    one.observe(seen({0: 0.4}, step=1, num_groups=10, score={0: 0.5}))
    assert one.q[0] == 0.0, "no movement, nothing counts"
    scores = np.array([[0.2, 0.8] * 4 + [0.7, 0.7]])
    one.observe(played(scores, step=2))
    assert one.q[0] == pytest.approx(0.4 * (one.movement()[0] / 2) ** 2)
    assert 0 < one.movement()[0] < 2
    for step in range(3, 13):
        one.observe(played(scores + 0.03 * step, step=step))
    assert one.q[0] == pytest.approx(0.4)


def test_a_first_step_larger_than_the_grace_says_nothing_of_movement_yet():
    one = bandit(grace=10.0, learning_rate=1.0)
    one.observe(played(np.full((1, 20), 0.5)))
    assert one.q[0] == pytest.approx(0.4), "open: there is nothing to compare"
    one.observe(played(np.full((1, 20), 0.5), step=1))
    assert one.q[0] == 0.0


@pytest.mark.parametrize("slope", [0.0005, 0.005])
def test_fast_and_slow_learning_pass_the_gate_and_coins_do_not(slope):
    """From .1 to .6 within a hundred groups, or a thousand; fifty coins beside it."""
    names = ["learning", *(f"z{k:02}" for k in range(50))]
    one = gated_sec.create(gated_sec.Config(grace=50.0), names, np.random.default_rng(0))
    rng, opened = np.random.default_rng(3), []
    for step in range(round(0.5 / slope / 4)):
        passing = np.array([0.1 + slope * 4 * step] + [0.5] * 50)
        one.observe(played(rng.binomial(8, passing[:, None], (51, 4)) / 8, step))
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


def test_a_state_with_other_horizons_or_from_before_begins_the_gate_anew_and_keeps_q():
    one = bandit(horizons=[50.0])
    for step in range(30):
        one.observe(played(np.array([[0.2, 0.8] * 4]) + 0.01 * step, step))
    older = {name: value for name, value in one.state().items() if not name.startswith("lead")}
    older |= {"slow_50": {"a": 0.5, "b": 0.0}, "spread": {"a": 0.03, "b": 0.03}}
    for state, horizons in ((older, [50.0]), (one.state(), [50.0, 300.0])):
        again = bandit(horizons=horizons)
        again.load_state(json.loads(json.dumps(state)))
        assert again.q.tolist() == one.q.tolist()
        assert (again.num_scored.tolist(), again.squares.tolist()) == ([0.0, 0.0], [0.0, 0.0])
        assert again.gate().tolist() == [1.0, 1.0]
