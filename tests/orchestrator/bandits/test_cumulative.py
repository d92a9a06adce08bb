"""Every level up to the current one."""

import numpy as np
import pytest

from orchestrator.bandits.cumulative import Config, create
from orchestrator.bandits.testing import BanditSuite


class TestCumulative(BanditSuite):
    learns = False
    in_order = True

    def make(self, arms, rng):
        return create(Config(steps=50), arms, rng)


SECTION_6 = [
    (0, (1, 0, 0)),
    (9, (1, 0, 0)),
    (10, (1 / 2, 1 / 2, 0)),
    (20, (1 / 3, 1 / 3, 1 / 3)),
    (99, (1 / 3,) * 3),
]


@pytest.mark.parametrize(("step", "expected"), SECTION_6)
def test_uniform_over_levels_up_to_the_current_one(step, expected):
    one = create(Config(steps=30), ["a", "b", "c"], np.random.default_rng(0))
    one.clock = step
    assert list(one.probabilities().values()) == pytest.approx(expected)


def test_the_arms_of_a_level_share_what_it_gets():
    config = Config(steps=30, levels={"a": 0.0, "b": 0.0, "c": 1.0})
    one = create(config, ["a", "b", "c"], np.random.default_rng(0))
    one.clock = 15
    assert list(one.probabilities().values()) == pytest.approx([1 / 4, 1 / 4, 1 / 2])
