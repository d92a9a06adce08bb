"""Change-point UCB and its detectors, against the curricula reference, section 3.7."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from orchestrator.bandits.change_point import (
    ChangePoint,
    Config,
    Cusum,
    Detector,
    Glr,
    Halves,
    create,
    glr_statistic,
)
from orchestrator.bandits.testing import BanditSuite
from tests.orchestrator.bandits.steps import seen

STATIONARY = {"type": "discounted_ucb", "discount": 1.0, "width": 0.25}


class TestGlr(BanditSuite):
    in_turn = True
    keeps_ratios = False
    floor = 0.05

    def make(self, arms, rng):
        return create(Config(rule=STATIONARY), arms, rng)


class TestCusum(TestGlr):
    def make(self, arms, rng):
        return create(Config(rule=STATIONARY, detector="cusum"), arms, rng)


class TestMucbOnAWindowWithGlobalRestarts(TestGlr):
    def make(self, arms, rng):
        rule = {"type": "sliding_window_ucb", "width": 0.25}
        return create(Config(rule=rule, detector="m_ucb", restart="global"), arms, rng)


def alarms(detector: Detector, rewards: list[float]) -> list[int]:
    """After which rewards, told one by one, the arm has changed; it is forgotten each time."""
    found = []
    for i, reward in enumerate(rewards, start=1):
        if detector.changed("k", reward, 1):
            found.append(i)
            detector.forget("k")
    return found


def test_the_sums_of_cusum() -> None:
    detector = Cusum(samples=2, drift=0.1, threshold=0.9)
    sums = []
    for reward in (0.2, 0.4, 0.9, 0.8):  # u = .3
        alarm = detector.changed("k", reward, 1)
        sums.append(detector.heard["k"][2])
    assert sums[2:] == pytest.approx([0.5, 0.9])
    assert alarm is True
    assert Cusum(2, 0.1, 0.91).changed("k", 0.9, 1) is False


SECTION_3_7_GLR = [  # zeros, ones, statistic, after which, threshold at delta .05, alarm
    (4, 4, 5.545177, 4, 7.213507, False),
    (8, 8, 11.090355, 8, 8.253228, True),
]


@pytest.mark.parametrize(("zeros", "ones", "statistic", "after", "threshold", "alarm"), SECTION_3_7_GLR)
def test_the_statistic_of_glr(zeros, ones, statistic, after, threshold, alarm, monkeypatch) -> None:
    rewards = np.array([0.0] * zeros + [1.0] * ones)
    assert glr_statistic(np.ones(len(rewards)), rewards) == (pytest.approx(statistic, abs=1e-6), after)
    assert math.log(3 * len(rewards) ** 1.5 / 0.05) == pytest.approx(threshold, abs=1e-6)
    monkeypatch.setattr(Glr, "EVERY", len(rewards))
    assert alarms(Glr(0.05), rewards.tolist()) == ([len(rewards)] if alarm else [])


def test_glr_of_steps_weighs_them_by_their_slots() -> None:
    one_by_one = glr_statistic(np.ones(8), np.array([0, 1, 0, 0, 1, 1, 1, 0.0]))
    in_steps = glr_statistic(np.array([4.0, 4.0]), np.array([1.0, 3.0]))
    assert (in_steps[0], in_steps[1]) == (pytest.approx(one_by_one[0]), 1)
    assert glr_statistic(np.ones(5), np.zeros(5)) == glr_statistic(np.ones(1), np.ones(1)) == (0.0, 0)


def test_the_halves_of_m_ucb() -> None:
    """|sum of the second half - sum of the first| > b over the last w."""
    assert alarms(Halves(window=8, gap=2.9), [0.0] * 6 + [1.0] * 3) == [9]
    assert alarms(Halves(window=8, gap=3.0), [0.0] * 6 + [1.0] * 3) == []
    assert alarms(Halves(window=8, gap=2.9), [1.0] * 6 + [0.0] * 3) == [9], "a fall counts as well"


DETECTORS = [Cusum(50, 0.05, 8.0), Glr(0.05), Halves(100, 20.0)]


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda one: type(one).__name__)
def test_a_change_is_noticed_soon_and_calm_is_not_disturbed(detector: Detector) -> None:
    rng = np.random.default_rng(0)
    detector.heard = {}
    calm, changed = (rng.random(400) < 0.2).astype(float), (rng.random(100) < 0.8).astype(float)
    found = alarms(detector, [*calm.tolist(), *changed.tolist()])
    assert len(found) == 1
    assert 400 < found[0] <= 470


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda one: type(one).__name__)
def test_a_step_of_many_slots_is_heard_as_so_many_rewards(detector: Detector) -> None:
    """The alarm comes at the end of the step in which it would have come slot by slot."""
    detector.heard = {}
    steps = [0.2] * 10 + [0.8] * 10
    at_once = next(i for i, reward in enumerate(steps) if detector.changed("k", reward, 20))
    detector.forget("k")
    slot = alarms(detector, [reward for reward in steps for _ in range(20)])[0]
    assert 20 * at_once < slot <= 20 * (at_once + 1)


def test_the_history_of_glr_stays_short() -> None:
    rng, detector = np.random.default_rng(0), Glr(0.05)
    rewards = (rng.random(20_000) < 0.3).astype(float).tolist()
    assert not any(detector.changed("k", reward, 1) for reward in rewards)
    assert len(detector.heard["k"]) <= Glr.LIMIT
    counts, totals = np.array(detector.heard["k"][1:]).T
    assert (counts.sum(), totals.sum()) == (20_000, sum(rewards))
    assert counts[0] > counts[-1] == 1


def test_glr_refuses_rewards_that_are_no_shares() -> None:
    with pytest.raises(ValueError, match="choose cusum or m_ucb"):
        Glr(0.05).changed("k", 1.5, 1)


def taught(restart: str) -> ChangePoint:
    """Arm b falls from .9 to .1; a and c stay."""
    made = create(Config(restart=restart, detector="cusum", threshold=2.0), ["a", "b", "c"], np.random.default_rng(0))
    for step in range(60):
        made.observe(seen({0: 0.5, 1: 0.9, 2: 0.2}, step=step))
    for step in range(60, 63):
        made.observe(seen({0: 0.5, 1: 0.1, 2: 0.2}, step=step))
    return made


@pytest.mark.parametrize(("restart", "restarts"), [("local", [0, 1, 0]), ("global", [1, 1, 1])])
def test_a_restart_is_of_the_arm_that_changed_or_of_all(restart: str, restarts: list[int]) -> None:
    made = taught(restart)
    assert made.restarts.tolist() == restarts
    assert [math.isnan(mean) for mean in made.means()] == [bool(n) for n in restarts]
    assert made.values()["b"] is None
    assert "b" not in made.detector.heard


def test_a_restarted_arm_comes_first() -> None:
    made = taught("local")
    assert made.preferences().tolist() == [0.0, 1.0, 0.0]
    assert made.probabilities()["b"] == pytest.approx(0.95 + 0.05 / 3)


def test_a_rule_can_be_named_or_given_with_its_options() -> None:
    assert Config().rule.model_dump() == {"type": "discounted_ucb", "discount": 1.0, "width": 1.0, "xi": 0.6}
    assert Config(rule="sliding_window_ucb").rule.window == 20
    with pytest.raises(ValueError, match="floor"):
        Config(rule={"type": "discounted_ucb", "floor": 0.1})
    with pytest.raises(ValueError, match="sliding_window_ucb"):
        Config(rule="sec")
    assert Config.model_validate(Config(rule="sliding_window_ucb").model_dump()) == Config(rule="sliding_window_ucb")


def test_what_the_detector_heard_survives_a_restart_of_the_run() -> None:
    made = create(Config(), ["a", "b"], np.random.default_rng(0))
    for step in range(30):
        made.observe(seen({0: 0.3, 1: 0.6}, step=step))
    copy = create(Config(), ["a", "b"], np.random.default_rng(1))
    copy.load_state(json.loads(json.dumps(made.state())))
    for one in (made, copy):
        for step in range(30, 80):
            one.observe(seen({0: 1.0, 1: 0.6}, step=step))
    assert copy.state() == made.state()
    assert made.restarts.tolist() == [1.0, 0.0]


RULES = ("discounted_ucb", "sliding_window_ucb")


@pytest.mark.parametrize("as_arrays", [False, True])
@pytest.mark.parametrize("before", RULES)
@pytest.mark.parametrize("now", RULES)
def test_a_rule_of_another_type_begins_anew_at_a_fork(before: str, now: str, as_arrays: bool) -> None:
    made = create(Config(rule=before), ["a", "b"], np.random.default_rng(0))
    made.as_arrays = as_arrays
    for step in range(9):
        made.observe(seen({0: 0.3, 1: 0.6}, step=step))
    made.retire("a")
    fork = create(Config(rule=now), ["a", "b", "c"], np.random.default_rng(1))
    fork.load_state(json.loads(json.dumps(made.state(), default=np.ndarray.tolist)))
    fork.add("c")
    assert fork.values() == {"b": pytest.approx(0.6) if now == before else None, "c": None}
    assert fork.detector.heard.keys() == {"b"}, "what the detector heard is of the rewards"
    fork.observe(seen({0: 0.2, 1: 0.4}, step=9))
    assert fork.values()["c"] == pytest.approx(0.4)


@pytest.mark.parametrize("as_arrays", [False, True])
@pytest.mark.parametrize("before", ["cusum", "glr", "m_ucb"])
@pytest.mark.parametrize("now", ["cusum", "glr", "m_ucb"])
def test_another_detector_begins_anew_at_a_fork(before: str, now: str, as_arrays: bool) -> None:
    """It read what the other one had heard as its own."""
    made = create(Config(detector=before), ["a", "b"], np.random.default_rng(0))
    made.as_arrays = as_arrays
    for step in range(9):
        made.observe(seen({0: 0.3, 1: 0.6}, step=step))
    fork = create(Config(detector=now), ["a", "b"], np.random.default_rng(1))
    fork.load_state(json.loads(json.dumps(made.state(), default=np.ndarray.tolist)))
    assert fork.means().tolist() == made.means().tolist()
    assert fork.detector.heard == (made.detector.heard if now == before else {})
    for step in range(9, 30):
        fork.observe(seen({0: 0.3, 1: 0.6}, step=step))
    assert not fork.restarts.any()


def test_a_state_from_before_the_types_were_kept_is_read() -> None:
    made = create(Config(), ["a", "b"], np.random.default_rng(0))
    made.observe(seen({0: 0.3, 1: 0.6}))
    copy = create(Config(), ["a", "b"], np.random.default_rng(1))
    copy.load_state({name: value for name, value in made.state().items() if name not in ("rule_type", "detector")})
    assert copy.state() == made.state()
