"""The guards around schedulers that learn, against the curricula reference, section 7.4."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest

from orchestrator.bandits.contracts import Bandit, Feedback
from orchestrator.bandits.fixed import Config as FixedConfig
from orchestrator.bandits.fixed import Fixed
from orchestrator.bandits.testing import BanditSuite
from orchestrator.schedulers import boltzmann
from orchestrator.schedulers.guards import GuardConfig, GuardedScheduler

ARMS = ["a", "b", "c"]


class TestBoltzmann(BanditSuite):
    def make(self, arms, rng):
        return boltzmann.create(boltzmann.Config(min_share=0.0), arms, rng)


def guarded(weights: Mapping[str, float], seed: int = 0, **options: object) -> GuardedScheduler:
    """A rule that never changes its mind, behind the guards."""
    rng = np.random.default_rng(seed)
    rule = Fixed(list(weights), rng, FixedConfig(weights=dict(weights)))
    return GuardedScheduler(list(weights), rng, rule, GuardConfig(**options))  # type: ignore[arg-type]


def visit_all(scheduler: Bandit) -> list[str]:
    return [scheduler.pick(1)[0].arm for _ in scheduler.arms]


def test_every_environment_has_the_least_share() -> None:
    scheduler = guarded({"a": 0.9, "b": 0.08, "c": 0.02}, min_share=0.1)
    visit_all(scheduler)
    assert list(scheduler.probabilities().values()) == pytest.approx((0.730, 0.156, 0.114), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_every_environment_comes_first_once_in_a_random_order(seed: int) -> None:
    scheduler = guarded({"a": 1.0, "b": 0.0, "c": 0.0}, seed)
    first, second = scheduler.pick(1)[0], scheduler.pick(1)[0]
    assert (first.probability, second.probability) == (pytest.approx(1 / 3), 0.5)
    assert scheduler.why() == "new"
    assert {first.arm, second.arm, scheduler.pick(1)[0].arm} == set(ARMS)
    assert scheduler.why() == "chosen"


def test_an_environment_left_out_for_too_long_is_forced() -> None:
    scheduler = guarded({"a": 1.0, "b": 0.0, "c": 0.0}, min_share=0.0, max_gap=4)
    visit_all(scheduler)
    picks = [(scheduler.why(), scheduler.pick(1)[0]) for _ in range(12)]
    assert [why for why, _ in picks].count("forced") >= 4
    assert all(pick.probability == 1.0 for _, pick in picks)
    stages = "".join(pick.arm for _, pick in picks)
    for arm in "bc":
        gaps = [len(between) for between in stages.split(arm)[1:-1]]
        assert max(gaps) <= 4, f"{arm} waited longer than 4 stages in {stages}"


def test_a_new_environment_comes_next() -> None:
    scheduler = guarded({"a": 1.0, "b": 1.0}, max_gap=5)
    visit_all(scheduler)
    scheduler.add("new")
    assert scheduler.pick(1)[0].arm == "new"


def test_what_cannot_be_kept_is_refused() -> None:
    with pytest.raises(ValueError, match=r"min_share 0.4 .* at most 0.333"):
        guarded(dict.fromkeys(ARMS, 1.0), min_share=0.4)
    with pytest.raises(ValueError, match="max_gap 2 would force 3 environments"):
        guarded(dict.fromkeys(ARMS, 1.0), max_gap=2)


def test_the_least_share_shrinks_with_many_environments() -> None:
    assert guarded({f"e{i}": 1.0 for i in range(50)}).min_share == pytest.approx(0.01)
    assert guarded(dict.fromkeys(ARMS, 1.0)).min_share == 0.05


def test_a_better_environment_gets_most_stages() -> None:
    scheduler = boltzmann.create(boltzmann.Config(), ARMS, np.random.default_rng(0))
    picked = Counter[str]()
    for _ in range(60):
        (pick,) = scheduler.pick(1)
        picked[pick.arm] += 1
        scheduler.learn([Feedback(pick, 0.3 if pick.arm == "b" else 0.05, num_groups=100)])
    assert picked["b"] > 40
    assert min(picked.values()) > 0
