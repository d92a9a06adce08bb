"""The mean absolute advantage against the worked numbers of the curricula reference, section 1."""

from itertools import product
from math import comb

import pytest

from orchestrator.bandits.signal import mean_absolute_advantage as signal

SECTION_1_1 = [("raw", 0.375), ("leave_one_out", 0.428571), ("standardised", 0.810091)]


@pytest.mark.parametrize(("form", "expected"), SECTION_1_1)
def test_section_1_1_single_group(form, expected):
    assert signal([1, 1, 0, 0, 0, 0, 0, 0], form) == pytest.approx(expected, abs=2e-6)


EXPECTATIONS = [  # n, p, raw, standardised by the sample standard deviation
    (2, 0.05, 0.0475, 0.0672), (2, 0.50, 0.2500, 0.3536),
    (4, 0.10, 0.1350, 0.2635), (4, 0.25, 0.2813, 0.5342),
    (8, 0.05, 0.0831, 0.2198), (8, 0.10, 0.1575, 0.3919), (8, 0.25, 0.3281, 0.7107), (8, 0.50, 0.4375, 0.8679),
    (16, 0.25, 0.3516, 0.7980), (64, 0.50, 0.4922, 0.9843),
]  # fmt: skip


@pytest.mark.parametrize(("n", "p", "raw", "standardised"), EXPECTATIONS)
def test_section_1_1_expectation_over_groups(n, p, raw, standardised):
    def expected(form):
        return sum(
            comb(n, c) * p**c * (1 - p) ** (n - c) * signal([1] * c + [0] * (n - c), form)
            for c in range(n + 1)
        )

    assert expected("raw") == pytest.approx(raw, abs=6e-5)
    assert expected("standardised") == pytest.approx(standardised, abs=6e-5)
    assert expected("leave_one_out") == pytest.approx(2 * p * (1 - p), abs=1e-9)  # unbiased for every n


SECTION_1_2 = [
    ("1 format bonus, standardised", [0.1, 0.1, 0, 0, 0, 0, 0, 0], "standardised", 0.8101),
    ("1 format bonus, raw", [0.1, 0.1, 0, 0, 0, 0, 0, 0], "raw", 0.0375),
    ("3 tiny spread, raw", [0.5] * 7 + [0.501], "raw", 0.000219),
    ("3 tiny spread, floored", [0.5] * 7 + [0.501], "standardised", 0.0219),  # .617 without the floor
    ("all equal", [1.0] * 8, "standardised", 0.0),
]


@pytest.mark.parametrize(("trap", "rewards", "form", "expected"), SECTION_1_2)
def test_section_1_2_traps(trap, rewards, form, expected):
    assert signal(rewards, form) == pytest.approx(expected, abs=5e-5)


def test_trap_5_a_lone_sample_is_no_observation():
    assert signal([1.0]) is None
    assert signal([]) is None


def test_every_form_is_symmetric_about_one_half():
    for rewards, form in product(([1, 0, 0, 0], [1, 1, 0, 0, 0]), ("raw", "leave_one_out", "standardised")):
        assert signal(rewards, form) == pytest.approx(signal([1 - r for r in rewards], form))
