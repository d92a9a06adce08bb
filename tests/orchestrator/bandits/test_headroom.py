"""Headroom: what each factor does, worked numbers, and what it is worth in the simulated worlds."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.bandits import headroom
from orchestrator.bandits.contracts import Bandit, Feedback
from orchestrator.bandits.testing import ARMS, BanditSuite
from orchestrator.schedulers import headroom as stage_headroom
from orchestrator.simulation.candidates import make_named
from orchestrator.simulation.trials import Candidate, TrialSetting
from orchestrator.simulation.worlds import find_world
from tests.orchestrator.bandits.steps import played, seen
from tests.shares import share


class TestHeadroom(BanditSuite):
    floor = 0.05

    def make(self, arms, rng):
        return headroom.create(headroom.Config(), arms, rng)

    def teach(self, bandit: Bandit, best: str) -> None:
        """The best arm's pass rate climbs, the others' stay where they are; every arm earns its mean |advantage|."""
        self.rates = getattr(self, "rates", dict.fromkeys(ARMS, 0.1))
        self.rates[best] += 0.008
        told = [(pick, self.rates[pick.arm]) for pick in bandit.pick(16)]
        bandit.learn([Feedback(pick, 2 * p * (1 - p), score=p) for pick, p in told])


def bandit(arms=("a", "b"), **options):
    return headroom.create(headroom.Config(**{"floor": 0.0, **options}), arms, np.random.default_rng(0))


def test_the_weights_of_a_worked_example():
    """An arm of twelve groups beside one that was never seen."""
    one = bandit(horizons=[20.0], grace=10.0, sure=4.0)
    one.observe(seen({0: 0.4}, num_groups=8, score={0: 0.2}))
    assert one.signal() == pytest.approx([(8 * 0.4 + 0.5) / 9, 0.5])
    weight = 0.8 * (0.1 + math.sqrt(one.signal()[0] / 0.5))  # its grace
    assert one.preferences() == pytest.approx([weight / (weight + 1.1), 1.1 / (weight + 1.1)])

    one.observe(seen({0: 0.3}, step=1, num_groups=4, score={0: 0.5}))
    assert one.signal()[0] == pytest.approx((8 * 0.4 + 4 * 0.3 + 0.5) / 13)
    assert one.pass_rate().tolist() == [pytest.approx(0.3), 0.0]
    lead, lead_var = (2 / 3) * (1 / 3) * 0.3, (2 / 3) ** 2 * (1 / 9) * (1 / 8 + 1 / 4)
    variance = 4 * 0.3**2 / (7 * math.exp(-4 / 300) + 4 + 4 / 8)
    moving = (lead**2 / (variance * lead_var) - 1) / (4**2 - 1)
    assert one.moving() == pytest.approx([moving, 1.0])
    weight = 0.7 * (0.1 + moving * math.sqrt(one.signal()[0] / 0.5))
    assert one.preferences()[0] == pytest.approx(weight / (weight + 1.1))


def test_a_signal_is_a_mean_at_first_and_fades_by_its_memory_later():
    one = bandit(memory=20.0)
    for step, reward in enumerate((0.4, 0.2)):
        one.observe(seen({0: reward}, step=step, num_groups=5))
    assert one.signal()[0] == pytest.approx((5 * 0.4 + 5 * 0.2 + 0.5) / 11)
    before = one.earned[0]
    one.observe(seen({0: 0.0}, step=2, num_groups=40))
    assert one.earned[0] == pytest.approx(before * min(math.exp(-40 / 20), 1 - 40 / 51))
    assert one.values() == {"a": pytest.approx(one.earned[0] + 0.5 / 51), "b": None}


def rehearsed(rates, num_steps=60, n=8, **options):
    """Arms whose pass rates go from one number to the other, a step of n groups of 8 samples each at a time."""
    one, rng = bandit(rates, **options), np.random.default_rng(1)
    for step in range(num_steps):
        passing = [start + (end - start) * step / num_steps for start, end in rates.values()]
        scores = rng.binomial(8, np.array(passing)[:, None], (len(passing), n)) / 8
        signal = (2 * scores * (1 - scores)).mean(axis=1)
        one.observe(replace(played(scores, step), reward=signal))
    return one


def weights(one):
    """Weights by arm, in units of one that was never seen."""
    return dict(zip(one.arms, one.preferences() / one.preferences().max(), strict=True))


def test_an_arm_without_signal_falls_to_about_nothing():
    one, found = bandit(), []
    for step in range(16):
        one.observe(seen({0: 0.0}, step, num_groups=8, score={0: 0.0}))
        found.append(weights(one)["a"])
    assert found == sorted(found, reverse=True)
    assert found[4] < 0.3
    assert found[-1] < 0.04


def test_coins_keep_the_rest_and_what_moves_has_more():
    rates = {"learning": (0.1, 0.6), **{f"z{k:02}": (0.5, 0.5) for k in range(50)}}
    one = rehearsed(rates, num_steps=30)
    coins = [weight for arm, weight in weights(one).items() if arm != "learning"]
    assert one.moving()[0] == 1.0
    assert np.mean(one.moving()[1:]) < 0.15
    assert np.mean(coins) < 0.5 * weights(one)["learning"]


@pytest.mark.parametrize("rest", [0.0, 0.2, 0.5])
def test_what_does_not_move_at_all_has_the_rest_of_its_headroom(rest):
    one = bandit(rest=rest)
    for step in range(30):
        one.observe(played(np.array([[0.25, 0.75] * 4]), step))
    assert one.moving().tolist() == [0.0, 1.0]
    assert weights(one)["a"] == pytest.approx(0.5 * rest / (rest + 1), abs=2e-6)


def test_what_is_mastered_has_no_headroom_and_what_is_hard_and_moves_the_most():
    one = rehearsed({"easy": (0.5, 1.0), "even": (0.3, 0.7), "hard": (0.0, 0.4)}, num_steps=40)
    assert one.moving().tolist() == [1.0, 1.0, 1.0]
    found = weights(one)
    assert found["easy"] < found["even"] < found["hard"] == 1.0
    assert found["easy"] < 0.2


def test_where_nothing_is_left_anywhere_all_arms_are_alike():
    one = bandit()
    for step in range(20):
        one.observe(seen({0: 0.0, 1: 0.0}, step, num_groups=16, score={0: 1.0, 1: 1.0}))
    assert one.preferences().tolist() == [0.5, 0.5]


def test_an_arm_that_is_being_forgotten_comes_back():
    rates = {"kept": (0.9, 0.9), "lost": (0.9, 0.9)}
    before = rehearsed(rates)
    after = rehearsed({"kept": (0.9, 0.9), "lost": (0.9, 0.5)})
    assert before.preferences()[1] < 0.75
    assert after.preferences()[1] > 0.8


def test_what_falls_moves_as_far_as_it_is_told_to():
    rates = {"falls": (0.8, 0.2), "rises": (0.2, 0.8), "stands": (0.5, 0.5)}
    moving = {falling: rehearsed(rates, falling=falling).moving() for falling in (0.0, 0.1, 1.0)}
    assert [moving[falling][0] for falling in (0.0, 1.0)] == [0.0, 1.0]
    assert 0.0 < moving[0.1][0] < 1.0
    assert moving[0.0][1:].tolist() == pytest.approx([1.0, 0.0], abs=0.2)
    assert headroom.Config().falling == 0.0
    assert stage_headroom.Config().falling == 1.0


def test_a_run_from_before_counts_what_falls_as_it_did():
    resolved = headroom.Config().model_dump()
    assert headroom.Config(**resolved) == headroom.Config()
    del resolved["falling"]
    assert headroom.Config(**resolved).falling == 1.0
    assert headroom.Config(sure=3.0).falling == 0.0


def test_without_scores_the_signal_alone_decides():
    one = bandit()
    for step in range(40):
        one.observe(seen({0: 0.4, 1: 0.1}, step, num_groups=16))
    assert (one.pass_rate().tolist(), one.moving().tolist()) == ([0.0, 0.0], [1.0, 1.0])
    a, b = (0.1 + math.sqrt(s / 0.5) for s in one.signal())
    assert one.preferences() == pytest.approx([a / (a + b), b / (a + b)])


def test_rewards_beyond_those_of_an_advantage_do_no_harm():
    one = bandit()
    one.observe(seen({0: 3.0, 1: -1.0}, num_groups=8))
    assert one.preferences() == pytest.approx(np.array([1.1, 0.1 + math.sqrt(1 / 9)]) / (1.2 + 1 / 3))


def test_a_state_with_other_horizons_begins_the_movement_anew_and_keeps_the_signal():
    one = rehearsed({"a": (0.1, 0.5), "b": (0.5, 0.5)}, num_steps=20)
    again = bandit(horizons=[50.0])
    again.load_state(json.loads(json.dumps(one.state())))
    assert again.signal().tolist() == one.signal().tolist()
    assert again.moving().tolist() == one.moving().tolist()
    other = bandit(horizons=[30.0])
    other.load_state(json.loads(json.dumps(one.state())))
    assert other.signal().tolist() == one.signal().tolist()
    assert (other.num_scored.tolist(), other.moving().tolist()) == ([0.0, 0.0], [1.0, 1.0])


@pytest.mark.parametrize("seed", share(range(4), 2))
@pytest.mark.parametrize("world", ["skills", "traps"])
def test_it_learns_faster_than_uniform_in_simulated_worlds(world, seed):
    def auc(name):
        candidate = Candidate(name, make_named(name, "bandit", name).config)
        return find_world(world).run(candidate, seed, TrialSetting(300)).numbers["auc"]

    assert auc("headroom") > auc("uniform") + 0.05
