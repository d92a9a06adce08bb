"""E2H against the worked numbers of the curricula reference, section 4.5."""

import numpy as np
import pytest

from orchestrator.bandits.e2h import Config, create
from orchestrator.bandits.testing import BanditSuite

LEVELS = ["a", "b", "c", "d"]


class TestE2H(BanditSuite):
    learns = False
    in_order = True
    keeps_ratios = False  # a new level moves the centre

    def make(self, arms, rng):
        return create(Config(steps=50), arms, rng)


class TestE2HCosine(TestE2H):
    def make(self, arms, rng):
        return create(Config(steps=50, schedule="cosine"), arms, rng)


class TestE2HClassic(TestE2H):
    def make(self, arms, rng):
        return create(Config(steps=50, schedule="classic"), arms, rng)


def at(u, arms=LEVELS, **options):
    one = create(Config(steps=100, **options), arms, np.random.default_rng(0))
    one.clock = int(100 * u)
    return list(one.probabilities().values())


SECTION_4_5 = [
    ("classic", 0.0, (1, 0, 0, 0)),
    ("classic", 0.5, (0, 0, 1, 0)),
    ("classic", 1.0, (0, 0, 0, 1)),
    ("balanced", 0.3, (0.25, 0.25, 0.25, 0.25)),
    ("cosine", 0.0, (0.4, 0.3, 0.2, 0.1)),
    ("cosine", 0.5, (0.25, 0.25, 0.25, 0.25)),
    ("cosine", 1.0, (0.1, 0.2, 0.3, 0.4)),
    ("gaussian", 0.0, (0.628322, 0.171501, 0.100177, 0.100000)),
    ("gaussian", 0.25, (0.105396, 0.394604, 0.394604, 0.105396)),
]


@pytest.mark.parametrize(("schedule", "u", "expected"), SECTION_4_5)
def test_the_schedules_of_e2h(schedule, u, expected):
    assert at(u, schedule=schedule) == pytest.approx(expected, abs=1e-6)


def test_one_level_gets_everything():
    for schedule in ("classic", "balanced", "cosine", "gaussian"):
        assert at(0.4, arms=["a"], schedule=schedule) == pytest.approx([1.0])


def test_the_least_probability_may_be_set_and_must_fit():
    assert at(0.0, schedule="cosine", p_min=0.0) == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert at(0.0, sigma=0.1, p_min=0.2) == pytest.approx([0.4, 0.2, 0.2, 0.2])
    with pytest.raises(ValueError, match=r"too much for 4 levels; at most 0\.25"):
        at(0.0, p_min=0.3)


def test_what_cannot_be_followed_is_refused_when_the_arms_are_introduced():
    one = create(Config(p_min=0.3), LEVELS, np.random.default_rng(0))
    with pytest.raises(ValueError, match="too much for 4 levels"):
        one.introduce({}, 100)
