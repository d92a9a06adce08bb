import pytest
import torch

from policies.objectives.estimators import grpo, hapo, maxrl, reinforce, reinforce_pp, reinforce_pp_baseline
from policies.objectives.parts import Estimator
from policies.objectives.statistics import whitened
from tests.policies.objectives.worked import f64, memory, outcomes

REINFORCE = reinforce.create(reinforce.Config())
REINFORCE_PP = reinforce_pp.create(reinforce_pp.Config())
BASELINE = reinforce_pp_baseline.create(reinforce_pp_baseline.Config())
MAXRL = maxrl.create(maxrl.Config())
HAPO = hapo.create(hapo.Config())
IN_GROUPS = pytest.mark.parametrize("estimator", [MAXRL, HAPO], ids=["maxrl", "hapo"])


def test_maxrl_one_success_of_four() -> None:
    """Reference: objectives.md 4."""
    advantage_B = MAXRL.apply(outcomes([1, 0, 0, 0]), memory())
    torch.testing.assert_close(advantage_B, f64([2.999988, -0.999996, -0.999996, -0.999996]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("estimator", "rewards", "expected"),
    [
        (BASELINE, [1, 0, 1, 1], [1.410190, -0.846114, 0.282038, 0.282038]),
        (REINFORCE_PP, [1, 0, 1, 1], [0.935414, -0.935414, 0.935414, 0.935414]),
    ],
    ids=["reinforce_pp_baseline", "reinforce_pp"],
)
def test_whitened_over_tokens(estimator: Estimator, rewards: list[float], expected: list[float]) -> None:
    """Reference: objectives.md 4."""
    some = outcomes(rewards, [0, 0, 1, 1], [2, 4, 1, 1])
    advantage_BT = estimator.apply(some, memory())
    torch.testing.assert_close(advantage_BT, f64(expected)[:, None] * some.mask_BT, atol=1e-6, rtol=0)


def test_token_level_group_advantage() -> None:
    """Reference: objectives.md 10.5."""
    advantage_B = HAPO.apply(outcomes([1, 0], lengths=[1, 3]), memory())
    torch.testing.assert_close(advantage_B, f64([1.732047, -0.577349]), atol=1e-6, rtol=0)


def test_reinforce_compares_with_a_constant_and_with_nothing_else() -> None:
    some = outcomes([1, 0, 0.5], [0, 1, 1])
    assert REINFORCE.apply(some, memory()).tolist() == [1, 0, 0.5]
    moved = reinforce.create(reinforce.Config(reinforce_baseline=0.5))
    assert moved.apply(some, memory()).tolist() == [0.5, -0.5, 0]


def test_a_discount_counts_only_the_tokens_that_the_policy_wrote() -> None:
    mask_BT = torch.tensor([[True, False, True, True], [True, False, False, False]])
    some = outcomes([1, 2], lengths=[3, 1], mask_BT=mask_BT)
    found = reinforce_pp.returns(some, 0.5)
    assert found.tolist() == [[0.25, 0, 0.5, 1], [2, 0, 0, 0]]


@pytest.mark.parametrize("estimator", [REINFORCE_PP, BASELINE], ids=["reinforce_pp", "reinforce_pp_baseline"])
@pytest.mark.parametrize("rewards", [[0.1] * 7, [0.3]], ids=["equal rewards", "one sample"])
def test_without_any_spread_whitening_gives_exactly_nothing(estimator: Estimator, rewards: list[float]) -> None:
    assert not estimator.apply(outcomes(rewards), memory()).any()


def test_a_whitened_group_without_spread_gets_the_shift_of_the_mean() -> None:
    some = outcomes([1, 0, 1, 1], [0, 0, 1, 1], [2, 4, 1, 1])
    advantage_BT = BASELINE.apply(some, memory())
    assert float(advantage_BT[2, 0]) == float(advantage_BT[3, 0]) > 0


def test_whitening_reads_valid_values_only() -> None:
    mask_BT = torch.tensor([[True, True, False]])
    found = whitened(f64([[1, 3, float("nan")]]), mask_BT)
    torch.testing.assert_close(found, f64([[-1, 1, 0]]) / 2**0.5, atol=1e-8, rtol=0)
    assert not whitened(f64([[1, 3, 2]]), torch.zeros(1, 3, dtype=torch.bool)).any()


@pytest.mark.parametrize("rewards", [[0, 0, 0], [-1, 0.5, 0]], ids=["no success", "a mean below 0"])
def test_maxrl_is_silent_where_the_mean_is_not_above_0(rewards: list[float]) -> None:
    assert MAXRL.apply(outcomes(rewards), memory()).tolist() == [0, 0, 0]


@IN_GROUPS
@pytest.mark.parametrize("rewards", [[0.1] * 7, [1.0]], ids=["equal rewards", "one sample"])
def test_groups_without_a_comparison_get_nothing(estimator: Estimator, rewards: list[float]) -> None:
    assert not estimator.apply(outcomes(rewards, lengths=list(range(1, len(rewards) + 1))), memory()).any()


@IN_GROUPS
def test_groups_of_any_size_and_order_are_compared_within_themselves(estimator: Estimator) -> None:
    together = estimator.apply(outcomes([1, 0.5, 0, 0, 1], [7, 3, 7, 3, 3], [1, 2, 3, 4, 5]), memory())
    first = estimator.apply(outcomes([1, 0], lengths=[1, 3]), memory())
    torch.testing.assert_close(together[[0, 2]], first)


def test_hapo_falls_back_on_grpo_in_the_group_that_reaches_the_limit() -> None:
    some = outcomes([1, 0, 1, 0], [0, 0, 1, 1], [1, 100, 1, 3])
    found = HAPO.apply(some, memory())
    torch.testing.assert_close(found[:2], grpo.estimate(some, "sample", 1e-6)[:2])
    assert float(found[2]) == pytest.approx(1.732047, abs=1e-6)


def test_hapo_sums_to_nothing_over_the_tokens_of_a_group() -> None:
    some = outcomes([1, 0, 0.5], lengths=[2, 3, 7])
    found = HAPO.apply(some, memory())
    assert float((found * some.num_tokens_B).sum()) == pytest.approx(0, abs=1e-9)


def test_an_answer_without_a_token_does_not_count_in_hapo() -> None:
    found = HAPO.apply(outcomes([1, 0, 0.9], lengths=[1, 3, 0]), memory())
    torch.testing.assert_close(found, f64([1.732047, -0.577349, 0]), atol=1e-6, rtol=0)
