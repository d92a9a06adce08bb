"""Headroom over environments: a stage is one observation, as certain as its groups make it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from pydantic import ValidationError

from orchestrator.bandits.contracts import Bandit, Feedback, Floats
from orchestrator.bandits.testing import ARMS, BanditSuite
from orchestrator.choosing.stage_scheduler import StageScheduler
from orchestrator.progress import Progress
from orchestrator.schedulers.headroom import Config, SpacedScheduler, StageHeadroom, create
from tests.orchestrator.bandits.steps import played

NUM_STEPS, BATCH = 5, 32


class TestHeadroom(BanditSuite):
    in_turn = True

    def make(self, arms, rng):
        return create(Config(min_share=0.0), arms, rng)

    def teach(self, bandit: Bandit, best: str) -> None:
        """The best arm's pass rate climbs, the others' stay where they are; every arm earns its mean |advantage|."""
        self.rates = getattr(self, "rates", dict.fromkeys(ARMS, 0.1))
        self.rates[best] += 0.008
        told = [(pick, self.rates[pick.arm]) for pick in bandit.pick(16)]
        bandit.learn([Feedback(pick, 2 * p * (1 - p), score=p) for pick, p in told])


def follow(pass_rates: Mapping[str, Callable[[int], float]], num_stages: int) -> tuple[Counter[str], StageScheduler]:
    """Play stages on environments whose pass rate depends on how many stages they had; how many each had in the end."""
    config, rng = Config(), np.random.default_rng(0)
    scheduler = StageScheduler(config, create(config, list(pass_rates), np.random.default_rng(1)))
    at, had = Progress(num_stages, NUM_STEPS), Counter[str]()
    for _ in range(num_stages):
        at.begin_stage(scheduler.next_environment().pick)
        name = at.environment or ""
        had[name] += 1
        for _ in range(NUM_STEPS):
            at.begin_step()
            scores = rng.binomial(8, pass_rates[name](had[name]), BATCH) / 8
            at.signal_sum += float((2 * scores * (1 - scores)).sum())
            at.num_signals += BATCH
            at.add_scores(scores.tolist())
        scheduler.end_stage(at, {})
        at.end_boundary()
    return had, scheduler


def rule_of(scheduler: StageScheduler) -> StageHeadroom:
    """The rule behind the guards."""
    rule = scheduler.scheduler.rule  # type: ignore[attr-defined]
    assert isinstance(rule, StageHeadroom)
    return rule


def test_a_coin_and_what_is_out_of_reach_get_fewer_stages_than_what_is_learnt() -> None:
    rates = {"coin": lambda _: 0.5, "dead": lambda _: 0.0, "learnt": lambda stage: 0.05 + 0.015 * stage}
    found, scheduler = follow(rates, 50)
    assert found["coin"] < found["learnt"] / 2
    assert found["dead"] < found["learnt"] / 2
    rule = rule_of(scheduler)
    assert rule.moving()[2] == 1.0
    assert rule.num_scored.tolist() == [found[name] for name in rule.arms], "its clock counts stages"
    assert rule.variance()[0] == pytest.approx(0.25 / 8 / (NUM_STEPS * BATCH), rel=0.15)


def test_environments_that_are_alike_take_turns() -> None:
    _, scheduler = follow(dict.fromkeys(("a", "b", "c"), lambda _: 0.0), 3)
    order = [scheduler.next_environment().pick.arm for _ in range(12)]
    assert [len(set(order[place : place + 3])) for place in range(0, 12, 3)] == [3] * 4


@pytest.mark.parametrize("shares", [(0.5, 0.3, 0.15, 0.05), (0.7, 0.1, 0.1, 0.1), (0.25, 0.25, 0.25, 0.25)])
def test_stages_are_spaced_as_evenly_as_shares_allow(shares: tuple[float, ...]) -> None:
    class Fixed(StageHeadroom):
        def preferences(self) -> Floats:
            return np.array(shares)

    config = Config(min_share=0.0)
    scheduler = SpacedScheduler(
        ARMS, np.random.default_rng(0), Fixed(ARMS, np.random.default_rng(0), config, [2.0]), config
    )
    for _ in ARMS:
        scheduler.pick(1)
    had = np.zeros(len(ARMS))
    for stage in range(1, 201):
        had[scheduler.arms.index(scheduler.pick(1)[0].arm)] += 1
        assert np.abs(had - stage * np.array(shares)).max() < 1.0 + 1e-6


def test_a_state_from_before_stages_were_spaced_goes_on() -> None:
    scheduler, later = created(ARMS), created(ARMS)
    for _ in range(6):
        scheduler.pick(1)
    later.load_state({name: value for name, value in scheduler.state().items() if name != "owed"})
    assert later.owed.tolist() == [0.0] * len(ARMS)
    assert later.num_picks == scheduler.num_picks


def test_the_least_share_is_a_fiftieth_or_half_an_equal_one() -> None:
    assert created(ARMS).min_share == 0.02
    assert created([f"{k:03}" for k in range(100)]).min_share == 0.005


def created(arms: Sequence[str]) -> SpacedScheduler:
    return create(Config(), arms, np.random.default_rng(0))


def test_every_environment_has_a_stage_before_any_has_a_second() -> None:
    found, _ = follow(dict.fromkeys(("a", "b", "c", "d"), lambda _: 0.5), 4)
    assert set(found.values()) == {1}


@pytest.mark.parametrize("num_groups", [16, 64])
def test_movement_is_in_standard_deviations_of_a_stage_that_stands_still(num_groups: int) -> None:
    names, rng = [f"{k:04}" for k in range(2000)], np.random.default_rng(0)
    rule = StageHeadroom(names, rng, Config(), [2.0])
    for stage in range(6):
        rule.observe(played(rng.binomial(8, 0.3, (2000, num_groups)) / 8, stage))
        if stage:
            assert np.mean(rule.movement() ** 2) == pytest.approx(1.0, abs=0.15), stage


def test_a_stage_too_long_for_the_averages_of_groups_is_still_one_stage() -> None:
    rule = StageHeadroom(["a"], np.random.default_rng(0), Config(), [2.0])
    for stage in range(2):
        rule.observe(played(np.array([[0.25, 0.75] * 10_000]), stage))
    assert rule.moving().tolist() == [0.0]


def test_feedback_of_a_stage_scatters_as_its_groups_do() -> None:
    scheduler = create(Config(), ["a", "b"], np.random.default_rng(0))
    (pick,) = scheduler.pick(1)
    scheduler.learn([Feedback(pick, 0.4, num_groups=50, score=0.4, scatter=50 * 0.03)])
    rule = scheduler.rule
    assert isinstance(rule, StageHeadroom)
    at = rule.arms.index(pick.arm)
    assert rule.variance()[at] == pytest.approx(0.03 / 49)
    assert (rule.num_groups[at], rule.num_scored[at], rule.pass_rate()[at]) == (50, 1, 0.4)


def test_it_is_paid_in_advantages_alone() -> None:
    with pytest.raises(ValidationError, match="'advantage'"):
        Config.model_validate({"type": "headroom", "reward": "gain"})
