"""Competence: the root law, and what of each level it opens."""

import numpy as np
import pytest

from orchestrator.bandits.competence import Config, create
from orchestrator.bandits.testing import BanditSuite


class TestCompetence(BanditSuite):
    learns = False
    in_order = True
    keeps_ratios = False  # a new level moves the quantiles of all

    def make(self, arms, rng):
        return create(Config(steps=50), arms, rng)


def at(step, **options):
    one = create(Config(steps=100, **options), ["a", "b", "c", "d"], np.random.default_rng(0))
    one.clock = step
    return one


SECTION_6 = [(0, 0.01), (25, 0.500075), (50, 0.707142), (100, 1.0), (500, 1.0)]  # c0 = .01 (not verified)


@pytest.mark.parametrize(("step", "expected"), SECTION_6)
def test_the_competence_over_time(step, expected):
    assert at(step).competence() == pytest.approx(expected, abs=1e-6)


def test_a_level_weighs_as_much_as_of_it_lies_below_the_competence():
    assert list(at(0).probabilities().values()) == [1.0, 0.0, 0.0, 0.0]
    half_of_c = at(100 * (0.625**2 - 0.01**2) / (1 - 0.01**2))  # c = .625: two levels and half of the third
    assert list(half_of_c.probabilities().values()) == pytest.approx([0.4, 0.4, 0.2, 0.0])
    assert list(at(100).probabilities().values()) == [0.25] * 4
