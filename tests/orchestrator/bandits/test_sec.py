"""SEC against the worked numbers of the curricula reference, section 2."""

import json

import numpy as np
import pytest

from orchestrator.bandits.contracts import Bandit, Feedback, Pick
from orchestrator.bandits.sec import Config, Sec
from orchestrator.bandits.signal import mean_absolute_advantage
from orchestrator.bandits.softmax import softmax
from orchestrator.bandits.testing import BanditSuite
from tests.orchestrator.bandits.steps import seen


class TestSecThatKeepsTheNumberOfArms(BanditSuite):
    keeps_ratios = False  # a share of more arms is another number of them

    def make(self, arms, rng):
        config = Config(floor=0.0, effective_share=0.5, stale_after=3, warm_step=True)
        return Sec(arms, rng, config)


class TestSecThatWatchesProgress(BanditSuite):
    floor = 0.1

    def make(self, arms, rng):
        return Sec(arms, rng, Config(floor=0.1, gate="progress"))

    def teach(self, bandit: Bandit, best: str) -> None:
        """The best arm's pass rate climbs, again and again; the others' stays."""
        climbing = 0.1 + 0.08 * (bandit.clock % 10)
        told = [(pick, climbing if pick.arm == best else 0.5) for pick in bandit.pick(16)]
        bandit.learn([Feedback(pick, 0.4, score=score) for pick, score in told])


def bandit(q, **options):
    made = Sec([str(i) for i in range(len(q))], np.random.default_rng(0), Config(floor=0.0, **options))
    made.q = np.array(q)
    return made


SECTION_2_5 = [
    ("keep", 1.0, (0.60, 0.60, 0.15), (0.379128, 0.379128, 0.241743)),
    ("keep", 0.2, (0.60, 0.60, 0.15), (0.474969, 0.474969, 0.050061)),
    ("decay", 0.2, (0.60, 0.30, 0.15), (0.752712, 0.167953, 0.079335)),
]


@pytest.mark.parametrize(("unsampled", "temperature", "values", "probabilities"), SECTION_2_5)
def test_update_and_choice_of_a_worked_example(unsampled, temperature, values, probabilities):
    sec = bandit((0.4, 0.6, 0.2), unsampled=unsampled, temperature=temperature)
    sec.observe(seen({0: 0.8, 2: 0.1}))
    assert list(sec.values().values()) == pytest.approx(values, abs=1e-12)
    assert list(sec.probabilities().values()) == pytest.approx(probabilities, abs=1e-6)


TEMPERATURES = [
    (1.0, (0.342, 0.292, 0.212, 0.154), 3.83),
    (0.4, (0.475, 0.318, 0.143, 0.064), 3.23),
    (0.2, (0.642, 0.288, 0.058, 0.012), 2.37),
    (0.1, (0.826, 0.167, 0.007, 0.0003), 1.64),
]


@pytest.mark.parametrize(("temperature", "expected", "effective"), TEMPERATURES)
def test_what_temperature_means(temperature, expected, effective):
    p = np.array(list(bandit((0.87, 0.71, 0.39, 0.07), temperature=temperature).probabilities().values()))
    assert p == pytest.approx(expected, abs=6e-4)
    assert np.exp(-(p * np.log(p)).sum()) == pytest.approx(effective, abs=6e-3)


def test_softmax_does_not_overflow():
    assert softmax(np.array([800.0, 799.0])) == pytest.approx([0.731059, 0.268941], abs=1e-6)
    assert softmax(np.array([np.inf, 0.0, np.inf])).tolist() == [0.5, 0.0, 0.5]
    assert softmax(np.array([-np.inf, -np.inf])).tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="NaN"):
        softmax(np.array([np.nan, 0.0]))


def test_floor_is_total_uniform_mass():
    sec = Sec(["a", "b"], np.random.default_rng(0), Config(floor=0.2, temperature=0.01))
    sec.q = np.array([1.0, 0.0])
    assert list(sec.probabilities().values()) == pytest.approx([0.9, 0.1])


def test_decay_multiplies_the_estimate_by_how_often_the_arm_is_visited():
    """E[Q] = s r for an arm of reward r drawn in a share s of the steps; K = 100, B = 32 give .8 s = .220."""
    rng = np.random.default_rng(1)
    sec = bandit((0.0, 0.0), unsampled="decay", learning_rate=0.1)
    values = []
    for _ in range(20_000):
        sec.observe(seen({0: 0.8} if rng.random() < 1 - (1 - 1 / 100) ** 32 else {}))
        values.append(sec.q[0])
    assert np.mean(values[1000:]) == pytest.approx(0.220, abs=0.01)


def test_one_update_an_arm_and_step_averages_its_groups():
    sec = bandit((0.0, 0.0), learning_rate=0.5)
    picks = [pick for pick in sec.pick(64) if pick.arm == "0"]
    sec.learn([Feedback(pick, reward) for pick, reward in zip(picks, [0.2, 0.4], strict=False)])
    assert sec.q[0] == pytest.approx(0.5 * 0.3)


def test_late_feedback_of_two_steps_makes_two_updates():
    sec = bandit((0.0,), learning_rate=0.5)
    first, second = sec.pick(1)[0], sec.pick(1)[0]
    sec.learn([Feedback(second, 0.4), Feedback(first, 0.8)])
    assert sec.q[0] == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)  # in the order of the steps, not of arrival


def test_a_pick_from_elsewhere_is_dropped():
    sec = bandit((0.1, 0.2))
    sec.learn([Feedback(Pick("7.0", "0", 0.5, 7), 0.9)])
    assert sec.values() == {"0": 0.1, "1": 0.2}


def test_warm_steps_are_those_of_a_mean_until_the_learning_rate_is_larger():
    sec = bandit((0.7, 0.7), learning_rate=0.2, warm_step=True)
    rewards = [0.1, 0.4, 0.2, 0.9, 0.3, 0.6]
    for step, reward in enumerate(rewards):
        before = sec.q[0]
        sec.observe(seen({0: reward}, step=step))
        assert (sec.q[0] - before) == pytest.approx([1, 0.5, 1 / 3, 0.25, 0.2, 0.2][step] * (reward - before))
        if step < 5:
            assert sec.q[0] == pytest.approx(np.mean(rewards[: step + 1]))
    assert sec.q[1] == 0.7


def test_the_effective_number_of_arms_is_a_share_of_them_whatever_the_unit():
    values = np.array([0.87, 0.71, 0.39, 0.07, 0.2, 0.3])
    small, large = (bandit(values * unit, effective_share=0.5) for unit in (0.01, 100.0))
    p = small.preferences()
    assert np.exp(-(p * np.log(p)).sum()) == pytest.approx(3.0)
    assert large.preferences() == pytest.approx(p)
    assert bandit((0.3, 0.3, 0.3), effective_share=0.5).preferences() == pytest.approx([1 / 3] * 3)


def test_the_gate_opens_with_progress_and_for_the_first_three_visits():
    sec = bandit((0.0, 0.0), gate="progress", learning_rate=1.0)
    counted = []
    for step, score in enumerate([0.5, 0.5, 0.5, 0.5, 0.6, 1.0]):
        sec.observe(seen({0: 0.4}, step=step, score={0: score}))
        counted.append(sec.q[0] / 0.4)
    fast = 0.5 + 0.3 * 0.1
    slow = 0.5 + 0.1 * (fast - 0.5)  # trails the fast one
    assert counted[:5] == pytest.approx([1, 1, 1, 0, (fast - slow) / 0.1])
    assert counted[5] == 1.0


def test_an_arm_without_scores_is_never_gated():
    sec, plain = bandit((0.0, 0.0), gate="progress"), bandit((0.0, 0.0))
    for step in range(9):
        for one in (sec, plain):
            one.observe(seen({0: 0.4, 1: 0.1}, step=step))
    assert sec.probabilities() == plain.probabilities()


def test_noise_looks_like_learning():
    """A coin has the largest |advantage| there is; the gate leaves it for what is being learned."""
    chances = {"gate": "progress"}, {"gate": "none"}
    left = []
    for options in chances:
        coin = np.random.default_rng(2)
        sec = bandit((0.0, 0.0), **options)
        shares = []
        for step in range(60):
            picks = sec.pick(32)
            passed = [coin.binomial(8, 0.5) if pick.arm == "0" else coin.binomial(8, 0.01 * step) for pick in picks]
            rewards = [mean_absolute_advantage([1.0] * c + [0.0] * (8 - c)) for c in passed]
            told = zip(picks, rewards, passed, strict=True)
            sec.learn([Feedback(pick, reward, score=c / 8) for pick, reward, c in told])
            shares.append(np.mean([pick.arm == "0" for pick in picks]))
        left.append(np.mean(shares[20:]))
    assert left[0] < 0.5 < 0.6 < left[1]


def test_an_overdue_arm_has_its_uniform_share_until_it_is_picked():
    sec = bandit((1.0, 0.0, 0.0, 0.0), stale_after=2, temperature=0.01)
    assert sec.preferences() == pytest.approx([1, 0, 0, 0])
    sec.pick(4)
    sec.pick(4)
    assert sec.preferences() == pytest.approx([0.25, 0.25, 0.25, 0.25])  # .25 of its own, no arm below
    picks = sec.pick(64)
    assert {pick.arm for pick in picks} == {"0", "1", "2", "3"}
    assert {pick.probability for pick in picks} == {0.25}
    assert sec.preferences() == pytest.approx([1, 0, 0, 0])


def test_no_arm_waits_for_long_past_its_time():
    sec = bandit((1.0, 0.0, 0.0, 0.0, 0.0), stale_after=10, temperature=0.01)
    last = dict.fromkeys(sec.arms, 0)
    waits = []
    for step in range(300):
        for arm in {pick.arm for pick in sec.pick(32)}:
            waits.append(step - last[arm])
            last[arm] = step
    assert 10 <= max(waits) <= 12


def test_a_guard_switched_on_at_a_fork_begins_anew():
    plain, guarded = bandit((0.1, 0.2)), bandit((0.0, 0.0), gate="progress", warm_step=True, stale_after=9)
    guarded.load_state(json.loads(json.dumps(plain.state())))
    assert (guarded.q.tolist(), guarded.visits.tolist(), guarded.num_scores.tolist()) == (
        [0.1, 0.2],
        [0, 0],
        [0, 0],
    )


def test_without_guards_the_state_holds_nothing_of_theirs():
    base = {"arms", "clock", "num_picks", "num_replays", "pending", "rng"}
    assert set(bandit((0.1, 0.2)).state()) == {*base, "q"}
