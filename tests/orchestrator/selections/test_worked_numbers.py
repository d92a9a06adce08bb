"""The worked numbers of the curricula reference, a table a section."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.selections import adarft, bots, mopps, plr, pools, vcrl
from orchestrator.selections.contracts import TaskResult


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


@pytest.mark.parametrize(("score", "target"), [(0.62, 31.774787), (0.10, 0.0), (0.5, 20.0)])
def test_the_target_of_adarft(score: float, target: float) -> None:
    config = adarft.Config(difficulty="level", start=20.0)
    made = adarft.create(config, 101, rng(), {"difficulty": np.arange(101.0)})
    made.learn([TaskResult(0, 0, score, 100)])
    assert made.target == pytest.approx(target, abs=1e-6)


@pytest.mark.parametrize(("rates", "a", "b"), [([0.75], 7.0, 3.0), ([0.75, 0.25], 6.0, 8.0)], ids=["once", "twice"])
def test_the_beliefs_of_mopps(rates: list[float], a: float, b: float) -> None:
    made = mopps.create(mopps.Config(), 3, rng())
    for step, rate in enumerate(rates):
        made.learn([TaskResult(1, step, rate, 8)])
    assert (made.a[1], made.b[1]) == (a, b)
    assert (made.a[0], made.b[0]) == (1.0, 1.0), "what was not played keeps its belief"
    if len(rates) == 2:
        assert made.a[1] / (made.a[1] + made.b[1]) == pytest.approx(0.428571, abs=1e-6)


@pytest.mark.parametrize(("task", "a", "b"), [(0, 13.0, 5.0), (1, 2.28, 2.92)], ids=["played", "not played"])
def test_the_beliefs_of_bots(task: int, a: float, b: float) -> None:
    # The ability that task 0 shows is (.75 - .5) / (1 - .5) = .5, and so task 1 is expected at .3 + .5 (.5 - .3) = .4.
    numbers = {"weak": np.array([0.5, 0.3]), "strong": np.array([1.0, 0.5])}
    made = bots.create(bots.Config(weak="w", strong="s"), 2, rng(), numbers)
    made.learn([TaskResult(0, 0, 0.75, 16)])
    assert (made.posterior()[0][task], made.posterior()[1][task]) == pytest.approx((a, b), abs=1e-12)


@pytest.mark.parametrize(
    ("n", "k", "score"), [(8, 2, 0.75), (8, 4, 1.0), (7, 2, 0.833333), (7, 3, 1.0), (8, 0, 0.0), (7, 7, 0.0)]
)
def test_the_score_of_vcrl(n: int, k: int, score: float) -> None:
    found = vcrl.normalised_variance(np.array([k / n]), np.array([float(n)]))
    assert found[0] == pytest.approx(score, abs=1e-6)


def test_the_probabilities_of_pools() -> None:
    made = pools.create(pools.Config(), 4, rng())
    made.learn([TaskResult(at, 0, score, 8) for at, score in enumerate((0.1, 0.5, 0.9))])
    assert made.probabilities() == pytest.approx([1 / 12, 5 / 12, 1 / 12, 5 / 12], abs=1e-12)


@pytest.mark.parametrize(
    ("rho", "chances"),
    [(0.0, [0.000976, 0.000017, 0.999007]), (0.1, [0.075878, 0.000015, 0.924107])],
    ids=["by rank", "mixed"],
)
def test_the_chances_of_replay(rho: float, chances: list[float]) -> None:
    found = plr.replay_chances(np.array([0.5, 0.1, 0.9]), np.array([3.0, 0.0, 1.0]), beta=0.1, rho=rho)
    assert found == pytest.approx(chances, abs=1e-6)
