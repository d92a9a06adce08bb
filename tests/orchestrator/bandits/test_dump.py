"""DUMP against the worked numbers of the curricula reference, section 4.1."""

import itertools
import json

import numpy as np
import pytest

from orchestrator.bandits.dump import Config, Dump
from orchestrator.bandits.testing import BanditSuite
from tests.orchestrator.bandits.steps import seen


class TestDump(BanditSuite):
    def make(self, arms, rng):
        return bandit(arms, rng=rng, window=50)


def bandit(arms="abc", rng=None, **options):
    return Dump(arms, rng or np.random.default_rng(0), Config(**options))


def test_bound_and_choice_of_a_worked_example():
    one = bandit()
    for step, (k, reward, num_groups) in enumerate([(0, 0.6, 40), (1, 0.3, 10), (2, 0.5, 50)]):
        one.observe(seen({k: reward}, step=step, num_groups=num_groups))
    assert one.bounds() == pytest.approx((1.074476, 1.216031, 0.925423), abs=1e-6)
    assert list(one.probabilities().values()) == pytest.approx((0.187126, 0.770723, 0.042151), abs=1e-6)
    assert list(one.values().values()) == pytest.approx([0.6, 0.3, 0.5])


def test_the_mean_is_of_the_last_slots_and_the_count_of_all():
    one, slots = bandit(window=10), []
    sizes = np.random.default_rng(1).integers(1, 7, 40)
    for step, size in enumerate(sizes.tolist()):
        reward = 0.01 * step
        one.observe(seen({1: reward}, step=step, num_groups=size))
        slots += [reward] * size
        assert one.mean[1] == pytest.approx(np.mean(slots[-10:]))
    assert one.count.tolist() == [0, sizes.sum(), 0]


def test_a_step_of_more_slots_than_the_window_fills_it():
    one = bandit(window=10)
    one.observe(seen({0: 0.1}, num_groups=4))
    one.observe(seen({0: 0.9}, step=1, num_groups=640))
    assert one.mean[0] == pytest.approx(0.9)
    one.observe(seen({0: 0.4}, step=2, num_groups=5))
    assert one.mean[0] == pytest.approx(0.65)
    assert one.count[0] == 649


def test_an_arm_never_seen_has_no_mean_and_the_largest_bonus():
    one = bandit()
    one.observe(seen({0: 0.5, 1: 0.5}, num_groups=20))
    assert one.values() == {"a": pytest.approx(0.5), "b": pytest.approx(0.5), "c": None}
    assert max(one.probabilities(), key=one.probabilities().get) == "c"


def test_windows_follow_arms_that_come_and_go():
    one = bandit(window=4)
    for step in range(7):
        one.observe(seen({0: 0.1 * step, 2: 0.5}, step=step))
    one.add("aa")
    one.retire("a")
    copy = bandit(window=4)
    copy.load_state(one.state())
    for each in (one, copy):
        each.observe(seen({0: 0.3, 2: 0.9}, step=7))
        assert each.values() == {"aa": 0.3, "b": None, "c": pytest.approx(0.6)}
    assert one.state() == copy.state()


def test_a_fork_with_another_window_keeps_the_last_slots():
    """A shorter one refused the state, a longer one took zeros for slots."""
    rewards = [0.01 * step for step in range(25)]
    for was, now, as_arrays in itertools.product((4, 7, 30), (4, 7, 30), (False, True)):
        one, fork = bandit(window=was), bandit(window=now)
        for step, reward in enumerate(rewards):
            one.observe(seen({1: reward}, step=step))
        one.observe(seen({2: 0.5}, step=25, num_groups=3))
        one.as_arrays = as_arrays
        fork.load_state(json.loads(json.dumps(one.state(), default=np.ndarray.tolist)))
        kept = rewards[-min(was, now) :]
        assert fork.mean == pytest.approx([0, np.mean(kept), 0.5])
        assert fork.count.tolist() == [0, 25 if now <= was else len(kept), 3]
        for step in range(26, 40):
            kept.append(0.9 + 0.01 * step)
            fork.observe(seen({1: kept[-1]}, step=step))
            assert fork.mean[1] == pytest.approx(np.mean(kept[-now:]))


def test_the_last_arm_is_not_retired_and_keeps_its_window():
    one = bandit("a")
    one.observe(seen({0: 0.4}))
    with pytest.raises(ValueError, match="last arm"):
        one.retire("a")
    one.observe(seen({0: 0.2}, step=1))
    assert one.mean[0] == pytest.approx(0.3)
