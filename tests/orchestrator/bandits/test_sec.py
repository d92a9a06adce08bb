"""SEC against the worked numbers of the curricula reference, section 2."""

import numpy as np
import pytest

from orchestrator.bandits.contracts import Feedback, Pick
from orchestrator.bandits.sec import Config, Sec
from orchestrator.bandits.softmax import softmax


def bandit(q, **options):
    made = Sec([str(i) for i in range(len(q))], np.random.default_rng(0), Config(floor=0.0, **options))
    made.q = {str(i): value for i, value in enumerate(q)}
    return made


SECTION_2_5 = [
    ("keep", 1.0, (0.60, 0.60, 0.15), (0.379128, 0.379128, 0.241743)),
    ("keep", 0.2, (0.60, 0.60, 0.15), (0.474969, 0.474969, 0.050061)),
    ("decay", 0.2, (0.60, 0.30, 0.15), (0.752712, 0.167953, 0.079335)),
]


@pytest.mark.parametrize(("unsampled", "temperature", "values", "probabilities"), SECTION_2_5)
def test_section_2_5_update_and_choice(unsampled, temperature, values, probabilities):
    sec = bandit((0.4, 0.6, 0.2), unsampled=unsampled, temperature=temperature)
    sec.observe({"0": 0.8, "2": 0.1})
    assert list(sec.values().values()) == pytest.approx(values, abs=1e-12)
    assert list(sec.probabilities().values()) == pytest.approx(probabilities, abs=1e-6)


TEMPERATURES = [
    (1.0, (0.342, 0.292, 0.212, 0.154), 3.83),
    (0.4, (0.475, 0.318, 0.143, 0.064), 3.23),
    (0.2, (0.642, 0.288, 0.058, 0.012), 2.37),
    (0.1, (0.826, 0.167, 0.007, 0.0003), 1.64),
]


@pytest.mark.parametrize(("temperature", "expected", "effective"), TEMPERATURES)
def test_section_2_5_what_temperature_means(temperature, expected, effective):
    p = np.array(list(bandit((0.87, 0.71, 0.39, 0.07), temperature=temperature).probabilities().values()))
    assert p == pytest.approx(expected, abs=6e-4)
    assert np.exp(-(p * np.log(p)).sum()) == pytest.approx(effective, abs=6e-3)


def test_section_3_1_softmax_does_not_overflow():
    assert softmax(np.array([800.0, 799.0])) == pytest.approx([0.731059, 0.268941], abs=1e-6)
    assert softmax(np.array([np.inf, 0.0, np.inf])).tolist() == [0.5, 0.0, 0.5]
    assert softmax(np.array([-np.inf, -np.inf])).tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="NaN"):
        softmax(np.array([np.nan, 0.0]))


def test_section_2_6_floor_is_total_uniform_mass():
    sec = Sec(["a", "b"], np.random.default_rng(0), Config(floor=0.2, temperature=0.01))
    sec.q = {"a": 1.0, "b": 0.0}
    assert list(sec.probabilities().values()) == pytest.approx([0.9, 0.1])


def test_section_2_3_decay_multiplies_the_estimate_by_how_often_the_arm_is_visited():
    """E[Q] = s r for an arm of reward r drawn in a share s of the steps; K = 100, B = 32 give .8 s = .220."""
    rng = np.random.default_rng(1)
    sec = bandit((0.0, 0.0), unsampled="decay", learning_rate=0.1)
    seen = []
    for _ in range(20_000):
        sec.observe({"0": 0.8} if rng.random() < 1 - (1 - 1 / 100) ** 32 else {})
        seen.append(sec.q["0"])
    assert np.mean(seen[1000:]) == pytest.approx(0.220, abs=0.01)


def test_one_update_an_arm_and_step_averages_its_groups():
    sec = bandit((0.0, 0.0), learning_rate=0.5)
    picks = [pick for pick in sec.pick(64) if pick.arm == "0"]
    sec.learn([Feedback(pick, reward) for pick, reward in zip(picks, [0.2, 0.4], strict=False)])
    assert sec.q["0"] == pytest.approx(0.5 * 0.3)


def test_late_feedback_of_two_steps_makes_two_updates():
    sec = bandit((0.0,), learning_rate=0.5)
    first, second = sec.pick(1)[0], sec.pick(1)[0]
    sec.learn([Feedback(second, 0.4), Feedback(first, 0.8)])
    assert sec.q["0"] == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)  # in the order of the steps, not of arrival


def test_a_pick_from_elsewhere_is_dropped():
    sec = bandit((0.1, 0.2))
    sec.learn([Feedback(Pick("7.0", "0", 0.5, 7), 0.9)])
    assert sec.values() == {"0": 0.1, "1": 0.2}
