"""What a stage earns, against the curricula reference, section 7.2."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.schedulers.rewards import Reward, StageOutcome, stage_reward

STAGE = StageOutcome(
    environment="e",
    signal=0.31,
    num_groups=640,
    cost=1.0,
    before={"e": 0.40, "f": 0.70, "g": 0.55},
    after={"e": 0.52, "f": 0.66, "g": 0.55},
    best={"e": 0.40, "f": 0.72, "g": 0.55},
)
EXPECTED: list[tuple[Reward, float]] = [
    ("advantage", 0.31),
    ("gain", 0.12),
    ("total_gain", 0.08),
    ("retention", 0.06),
]


@pytest.mark.parametrize(("kind", "reward"), EXPECTED)
def test_the_four_rewards_of_a_worked_example(kind: Reward, reward: float) -> None:
    assert stage_reward(kind, STAGE) == pytest.approx(reward, abs=1e-12)


def test_a_shorter_stage_earns_its_gain_at_less_cost() -> None:
    short = replace(STAGE, cost=0.5)
    assert stage_reward("gain", short) == pytest.approx(0.24)
    assert stage_reward("total_gain", short) == pytest.approx(0.16)
    assert stage_reward("retention", short) == pytest.approx(0.06), "not divided: it prices points, not steps"


def test_the_price_of_forgetting_can_be_chosen() -> None:
    assert stage_reward("retention", STAGE, forgetting_weight=0.0) == pytest.approx(0.12)
    assert stage_reward("retention", STAGE, forgetting_weight=2.0) == pytest.approx(0.0)


def test_a_loss_counts_from_the_best_and_a_recovery_is_not_a_loss() -> None:
    recovered = replace(STAGE, before={"e": 0.4, "f": 0.5}, after={"e": 0.5, "f": 0.7}, best={"f": 0.72})
    assert stage_reward("retention", recovered) == pytest.approx(0.1 - 0.02)


@pytest.mark.parametrize("kind", ["gain", "total_gain", "retention"])
def test_without_the_environments_own_scores_there_is_no_reward(kind: Reward) -> None:
    assert stage_reward(kind, replace(STAGE, after={"f": 0.7})) is None
    assert stage_reward(kind, replace(STAGE, before={})) is None


def test_without_a_comparison_there_is_no_advantage() -> None:
    assert stage_reward("advantage", replace(STAGE, signal=None)) is None


@pytest.mark.parametrize("kind", ["total_gain", "retention"])
def test_the_order_of_the_scores_changes_no_bit(kind: Reward) -> None:
    """A checkpoint has them by name, the spec in its own order."""
    rise = 1 if kind == "total_gain" else -1
    after = {"z": 0.1, "m": 0.2, "a": 0.3, "e": 0.0}
    before, after = dict.fromkeys(after, 0.0), {name: rise * score for name, score in after.items()}
    one = replace(STAGE, before=before, after=after, best={})
    other = replace(one, before=dict(sorted(before.items())))
    assert stage_reward(kind, one) == stage_reward(kind, other)
