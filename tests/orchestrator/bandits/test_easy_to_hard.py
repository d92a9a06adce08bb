"""One level after the other, in stages of equal length."""

import numpy as np
import pytest

from orchestrator.bandits.easy_to_hard import Config, create
from orchestrator.bandits.testing import BanditSuite

NAMES = ["a", "b", "c", "d"]


class TestEasyToHard(BanditSuite):
    learns = False
    in_order = True

    def make(self, arms, rng):
        return create(Config(steps=50), arms, rng)


class TestHardToEasyWithAMix(BanditSuite):
    learns = False
    in_order = True
    floor = 0.4

    def make(self, arms, rng):
        return create(Config(steps=50, hardest_first=True, floor=0.4), arms, rng)


def at(step, steps=300, **options):
    one = create(Config(steps=steps, **options), NAMES, np.random.default_rng(0))
    one.clock = step
    return list(one.probabilities().values())


@pytest.mark.parametrize(("step", "level"), [(0, 0), (74, 0), (75, 1), (149, 1), (150, 2), (299, 3), (900, 3)])
def test_the_level_of_the_stage(step, level):
    assert at(step) == [float(k == level) for k in range(4)]
    assert at(step, hardest_first=True) == [float(k == 3 - level) for k in range(4)]


def test_forty_percent_uniform_and_traps_at_the_easiest_level():
    names = [f"{kind}.{level}" for kind in "xyz" for level in range(4)] + ["noise", "impossible"]
    levels = {name: float(name[-1]) if name[-1].isdigit() else 0.0 for name in names}
    one = create(Config(steps=300, floor=0.4, levels=levels), names, np.random.default_rng(0))
    first = one.probabilities()
    assert first["noise"] == first["x.0"] == pytest.approx(0.6 / 5 + 0.4 / 14)
    assert first["x.1"] == pytest.approx(0.4 / 14)
    one.clock = 100
    assert one.probabilities()["noise"] == pytest.approx(0.4 / 14), "the mix is over all arms"
