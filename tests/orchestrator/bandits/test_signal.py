"""The signal against the worked numbers of the curricula reference, sections 1 and 4.7; its traps by their numbers."""

import math
from itertools import product
from math import comb

import numpy as np
import pytest

from orchestrator.bandits.contracts import Feedback
from orchestrator.bandits.sec import Config, Sec
from orchestrator.bandits.signal import mean_absolute_advantage as signal

FORMS = ("raw", "leave_one_out", "standardised", "learnability", "variance")


def group(num_solved, size=8):
    return [1.0] * num_solved + [0.0] * (size - num_solved)


def mean_over_groups(form, n, p, *, kept=lambda c: True):
    """Expectation of the signal over groups of n at pass rate p, of those kept."""
    chance = {c: comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1) if kept(c)}
    return sum(chance[c] * signal(group(c, n), form) for c in chance) / sum(chance.values())


SECTION_1_1 = [
    ("raw", 0.375),
    ("leave_one_out", 0.428571),
    ("standardised", 0.810091),
    ("learnability", 0.1875),
]


@pytest.mark.parametrize(("form", "expected"), SECTION_1_1)
def test_the_signal_of_a_single_group(form, expected):
    assert signal([1, 1, 0, 0, 0, 0, 0, 0], form) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("n", [2, 3, 4, 8, 16, 64])
def test_the_signal_is_the_formula_of_every_group(n):
    for c in range(n + 1):
        p = c / n
        assert signal(group(c, n), "raw") == pytest.approx(2 * p * (1 - p))
        assert signal(group(c, n), "leave_one_out") == pytest.approx(2 * p * (1 - p) * n / (n - 1))
        by_population = signal(group(c, n), "standardised") * math.sqrt(n / (n - 1))
        assert by_population == pytest.approx(2 * math.sqrt(p * (1 - p)))


PASS_RATES = (0.05, 0.10, 0.25, 0.50)
EXPECTATIONS = {  # by n: raw and standardised (by the sample standard deviation) at each pass rate
    2: [(0.0475, 0.0672), (0.0900, 0.1273), (0.1875, 0.2652), (0.2500, 0.3536)],
    4: [(0.0713, 0.1407), (0.1350, 0.2635), (0.2813, 0.5342), (0.3750, 0.6998)],
    8: [(0.0831, 0.2198), (0.1575, 0.3919), (0.3281, 0.7107), (0.4375, 0.8679)],
    16: [(0.0891, 0.3005), (0.1688, 0.4963), (0.3516, 0.7980), (0.4688, 0.9364)],
    64: [(0.0935, 0.4087), (0.1772, 0.5813), (0.3691, 0.8501), (0.4922, 0.9843)],
}
CELLS = [(n, p, *row) for n, rows in EXPECTATIONS.items() for p, row in zip(PASS_RATES, rows, strict=True)]


@pytest.mark.parametrize(("n", "p", "raw", "standardised"), CELLS)
def test_the_expected_signal_over_groups(n, p, raw, standardised):
    assert mean_over_groups("raw", n, p) == pytest.approx(raw, abs=6e-5)
    assert mean_over_groups("standardised", n, p) == pytest.approx(standardised, abs=6e-5)
    assert mean_over_groups("leave_one_out", n, p) == pytest.approx(2 * p * (1 - p), abs=1e-9)  # unbiased


ENDLESS = [(0.05, 0.0950, 0.4359), (0.10, 0.1800, 0.6000), (0.25, 0.3750, 0.8660), (0.50, 0.5000, 1.0000)]


@pytest.mark.parametrize(("p", "raw", "standardised"), ENDLESS)
def test_an_endless_group(p, raw, standardised):
    """Its observed pass rate is the true one."""
    n = 100_000
    for form, expected in (("raw", raw), ("leave_one_out", raw), ("standardised", standardised)):
        assert signal(group(round(p * n), n), form) == pytest.approx(expected, abs=6e-5)


SECTION_4_7 = [
    (8, 2, 0.75),
    (8, 4, 1.0),
    (7, 2, 0.833333),
    (7, 3, 1.0),
    (7, 4, 1.0),
    (2, 1, 1.0),
    (8, 0, 0.0),
]


@pytest.mark.parametrize(("n", "k", "expected"), SECTION_4_7)
def test_group_variance(n, k, expected):
    assert signal(group(k, n), "variance") == pytest.approx(expected, abs=1e-6)


def test_partial_rewards_have_less_variance_than_the_largest():
    assert signal([0.2, 0.8], "variance") == pytest.approx(0.18 / 0.5)
    assert signal([0.5] * 8, "variance") == 0.0
    assert signal([-3.0, 3.0], "variance") == 1.0  # outside [0, 1] there is no largest


@pytest.mark.parametrize("c", range(9))
def test_learnability_of_correctness_is_half_of_raw(c):
    assert signal(group(c), "learnability") == pytest.approx(signal(group(c), "raw") / 2)


def test_standardised_ignores_the_size_of_a_reward():
    """Two well-formed wrong answers look like two correct ones; raw tells them apart, and correctness is not fooled."""
    formatted, correct = [0.1, 0.1, 0, 0, 0, 0, 0, 0], group(2)
    assert signal(formatted, "standardised") == pytest.approx(signal(correct, "standardised"))
    assert signal(formatted, "standardised") == pytest.approx(0.810075, abs=5e-5)
    assert (signal(formatted, "raw"), signal(correct, "raw")) == pytest.approx((0.0375, 0.375))
    assert signal([False] * 8, "standardised") == 0.0


GAUSSIAN = [(4, 0.750), (8, 0.773), (16, 0.786)]


@pytest.mark.parametrize(("n", "expected"), GAUSSIAN)
@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_dense_rewards_saturate_standardised(n, expected, scale):
    rewards = 0.3 + scale * np.random.default_rng(0).normal(size=(4000, n))
    found = {form: np.mean([signal(row, form) for row in rewards]) for form in ("raw", "standardised")}
    assert found["standardised"] == pytest.approx(expected, abs=0.006)
    largest = math.sqrt(2 / math.pi) * math.sqrt((n - 1) / n)
    assert found["raw"] == pytest.approx(scale * largest, rel=0.02)  # raw keeps the scale


def test_a_spread_of_next_to_nothing_does_not_explode():
    rewards = [0.5] * 7 + [0.501]
    assert signal(rewards, "raw") == pytest.approx(0.000219, abs=5e-7)
    assert signal(rewards, "standardised") == pytest.approx(0.0219, abs=5e-5)  # .617 without the floor
    assert signal([0.5] * 7 + [0.5 + 1e-12], "standardised") < 1e-9


FILTERED = [(0.01, 0.625), (0.05, 0.653), (0.10, 0.688), (0.25, 0.790), (0.50, 0.875)]


@pytest.mark.parametrize(("p", "expected"), FILTERED)
def test_filtering_before_measuring_destroys_the_signal(p, expected):
    """Groups without spread count as 0, not as unobserved: what is left of the others is nearly flat."""
    survivors = mean_over_groups("standardised", 8, p, kept=lambda c: 0 < c < 8)
    assert survivors == pytest.approx(expected, abs=6e-4)
    assert [signal(group(c), form) for c in (0, 8) for form in FORMS] == [0.0] * 10
    alive = 1 - p**8 - (1 - p) ** 8
    assert mean_over_groups("standardised", 8, p) == pytest.approx(survivors * alive)


@pytest.mark.parametrize("form", FORMS)
def test_a_lone_sample_is_no_observation(form):
    assert signal([1.0], form) is None
    assert signal([0.5], form) is None


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_response_is_no_observation(form):
    """A group of which nothing could be scored has no signal, and what carries none leaves the estimate alone."""
    assert signal([], form) is None
    sec = Sec(["a"], np.random.default_rng(0), Config(start=0.3))
    sec.learn([Feedback(pick, math.nan, num_groups=0) for pick in sec.pick(2)])
    assert sec.values() == {"a": 0.3}
    with pytest.raises(ValueError, match="nan"):
        sec.learn([Feedback(sec.pick(1)[0], math.nan)])
    assert sec.values() == {"a": 0.3}


def test_noise_has_the_largest_signal_there_is():
    """Nothing in a signal tells a fair coin from a skill half learned: guards do (test_sec, the gate)."""
    for form in FORMS:
        coin = mean_over_groups(form, 8, 0.5)
        assert all(mean_over_groups(form, 8, p) < coin for p in (0.05, 0.25, 0.45, 0.55, 0.75, 0.95))


def test_every_sequence_and_every_group_weighs_the_same():
    """A group's signal knows rewards alone, so long answers weigh no more; a step's mean is over groups."""
    assert signal([1, 0, 0, 0]) == signal([0, 0, 0, 1]) == 0.375
    sec = Sec(["a"], np.random.default_rng(0), Config(learning_rate=1.0))
    groups = [[1, 0], [1, 0, 0, 0, 0, 0, 0, 0]]  # .5 and .21875, of two and of eight sequences
    sec.learn([Feedback(pick, signal(r)) for pick, r in zip(sec.pick(2), groups, strict=True)])
    assert sec.values()["a"] == pytest.approx((0.5 + 0.21875) / 2)


def test_every_form_is_symmetric_about_one_half_and_blind_to_order():
    for rewards, form in product(([1, 0, 0, 0], [1, 1, 0, 0, 0]), FORMS):
        assert signal(rewards, form) == pytest.approx(signal([1 - r for r in rewards], form))
        assert signal(rewards[::-1], form) == pytest.approx(signal(rewards, form))
