import pytest
import torch

from policies.objectives.estimators import risk
from policies.objectives.parts import Outcomes
from tests.policies.objectives.worked import f64, memory, outcomes

RVAR = risk.Config(risk_mix=0)
NATURAL = risk.Config(risk_mix=0, risk_natural_baseline=True)
SCORES = f64([1, 2, 3, 5])


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (risk.Config(), [-3.0, 0, 0.666667, 1.333333]),
        (RVAR, [0, 0, 1.666667, 3.333333]),
        (NATURAL, [-3.333333, -3.333333, -1.666667, 0]),
    ],
    ids=["mixed", "rvar", "natural baseline"],
)
def test_worth_of_a_score(config: risk.Config, expected: list[float]) -> None:
    """Reference: objectives.md 4.1."""
    torch.testing.assert_close(risk.value(SCORES, 2, 4, config), f64(expected), atol=1e-4, rtol=0)


def test_quantile_trackers_move_by_the_share_below_them() -> None:
    """Reference: objectives.md 4.1."""
    once = risk.track(0.0, 0.2, SCORES, 0.1)
    assert (once, risk.track(once, 0.2, SCORES, 0.1)) == pytest.approx((0.02, 0.04))
    assert risk.track(4.0, 0.8, SCORES, 0.1) == pytest.approx(4 + 0.1 * (0.8 - 0.75))


def of(rewards: list[float], groups: list[int], arms: list[int] | None = None) -> Outcomes:
    arm_B = torch.tensor(arms if arms is not None else [0] * len(rewards))
    return outcomes(rewards, groups, arm_B=arm_B, arms=("a", "b"))


def estimate(some: Outcomes, **options: object) -> list[float]:
    found: list[float] = risk.create(risk.Config.model_validate(options)).apply(some, memory()).tolist()
    return found


def test_a_bundle_takes_one_response_of_each_task() -> None:
    some = of([1, 0, 0, 1, 1, 1], [0, 0, 1, 1, 2, 2])
    [rows_KN] = risk.bundles(some, 0, 5)
    assert rows_KN.tolist() == [[0, 2, 4], [1, 3, 5]]
    assert risk.score(some.reward_B, rows_KN, 3).tolist() == [2, 2]


def test_leftover_tasks_make_a_smaller_bundle_whose_score_is_scaled() -> None:
    some = of([1, 0, 1, 0, 1, 0], [0, 0, 1, 1, 2, 2])
    whole, rest = risk.bundles(some, 0, 2)
    assert whole.tolist() == [[0, 2], [1, 3]]
    assert rest.tolist() == [[4], [5]]
    assert risk.score(some.reward_B, rest, 2).tolist() == [2, 0]


def test_a_response_without_a_partner_gets_nothing() -> None:
    found = estimate(of([1, 0, 1, 1, 0], [0, 0, 0, 1, 1]))
    assert found[2] == 0
    assert all(found[:2])


def test_no_bundle_mixes_arms_and_every_arm_has_its_own_trackers() -> None:
    rewards, groups = [1.0, 0, 1, 0, 1, 0.5, 0, 1], [0, 0, 1, 1, 2, 2, 3, 3]
    arms = [0, 0, 0, 0, 1, 1, 1, 1]
    kept = memory()
    together = risk.create(risk.Config()).apply(of(rewards, groups, arms), kept).tolist()
    alone = estimate(of(rewards[:4], groups[:4])) + estimate(of(rewards[4:], groups[4:]))
    assert together == pytest.approx(alone)
    assert kept.kept["a"] == pytest.approx([1.0, 4.0])  # scores 5 and 0, levels .2 and .8
    assert set(kept.kept) == {"a", "b"}
    own = [kept.kept[arm] for arm in "ab"]
    assert own[0] != own[1]
    means = [sum(values) / 2 for values in zip(*own, strict=True)]
    assert [kept.log["risk_quantile_low"], kept.log["risk_quantile_high"]] == pytest.approx(means)


def test_trackers_start_from_the_first_batch_and_move_afterwards() -> None:
    estimator, kept, some = risk.create(risk.Config()), memory(), of([1, 0, 1, 0], [0, 0, 1, 1])
    estimator.apply(some, kept)
    estimator.apply(some, kept)
    assert kept.kept["a"] == pytest.approx([1 + 0.1 * (0.2 - 0.5), 4 + 0.1 * (0.8 - 0.5)])
    assert kept.log == {"risk_quantile_low": pytest.approx(1), "risk_quantile_high": pytest.approx(4)}


def test_credit_is_by_the_difference_from_the_own_groups_mean() -> None:
    some = of([1, 0, 1, 1], [0, 0, 1, 1])
    found = estimate(some)
    assert found[2:] == [0, 0]  # all of their group were right
    std = 2.5 / 2**0.5 + 1e-6  # scores 5 and 2.5, trackers 3 and 4.5
    assert found[:2] == pytest.approx([(1.5 / 0.6 / 2.5) / std, (-0.5 / 0.2 * 1.5 / 2.5) / std])


@pytest.mark.parametrize("credit", ["std", "uniform"])
def test_other_ways_to_split_a_bundles_worth(credit: str) -> None:
    found = estimate(of([1, 0, 1, 1], [0, 0, 1, 1]), risk_credit=credit)
    share = 1 / (0.5**0.5 + 1e-6) if credit == "std" else 1
    assert found[0] == pytest.approx(share * found[2], rel=1e-5)
    assert found[0] > 0 > found[1]


@pytest.mark.parametrize(
    ("rewards", "groups"),
    [([1, 1, 1, 1], [0, 0, 1, 1]), ([1, 0], [0, 1]), ([0.1, 0.2, 0.2, 0.1], [0, 0, 1, 1])],
    ids=["equal rewards", "one bundle", "equal scores"],
)
def test_bundles_without_spread_get_nothing(rewards: list[float], groups: list[int]) -> None:
    assert not any(estimate(of(rewards, groups)))


def test_levels_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="must be below risk_high"):
        risk.Config(risk_low=0.8, risk_high=0.2)
