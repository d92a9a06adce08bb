import pytest
import torch

from policies.objectives.estimators import dr_grpo, grpo, rloo
from policies.objectives.parts import Estimator
from tests.policies.objectives.worked import f64, memory, outcomes

GRPO = grpo.create(grpo.Config())
RLOO = rloo.create(rloo.Config())
DR_GRPO = dr_grpo.create(dr_grpo.Config())
ALL = pytest.mark.parametrize("estimator", [GRPO, RLOO, DR_GRPO], ids=["grpo", "rloo", "dr_grpo"])


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (GRPO, [1.499997, -0.499999, -0.499999, -0.499999]),
        (grpo.create(grpo.Config(eps=1e-4)), [1.499700, -0.499900, -0.499900, -0.499900]),
        (grpo.create(grpo.Config(std="population")), [1.732047, -0.577349, -0.577349, -0.577349]),
        (RLOO, [1.0, -0.333333, -0.333333, -0.333333]),
        (DR_GRPO, [0.75, -0.25, -0.25, -0.25]),
    ],
    ids=["grpo", "grpo eps 1e-4", "grpo population", "rloo", "dr_grpo"],
)
def test_one_success_of_four(estimator: Estimator, expected: list[float]) -> None:
    """Reference: objectives.md 4."""
    advantage_B = estimator.apply(outcomes([1, 0, 0, 0]), memory())
    torch.testing.assert_close(advantage_B, f64(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("estimator", "by_successes"),
    [
        (DR_GRPO, [0, 0.218750, 0.375000, 0.468750, 0.500000]),
        (RLOO, [0, 0.250000, 0.428571, 0.535714, 0.571429]),
        (GRPO, [0, 0.618717, 0.810091, 0.905709, 0.935413]),
    ],
    ids=["dr_grpo", "rloo", "grpo"],
)
def test_mean_size_for_k_successes_of_eight(estimator: Estimator, by_successes: list[float]) -> None:
    """Reference: objectives.md 4."""
    for k, expected in enumerate(by_successes):
        for successes in (k, 8 - k):
            advantage_B = estimator.apply(outcomes([1.0] * successes + [0.0] * (8 - successes)), memory())
            assert float(advantage_B.abs().mean()) == pytest.approx(expected, abs=2e-6)


@ALL
def test_a_group_of_one_gets_nothing(estimator: Estimator) -> None:
    assert estimator.apply(outcomes([0.7, 1, 0], [5, 2, 2]), memory())[0] == 0


@ALL
def test_equal_rewards_give_exactly_zero_even_where_their_mean_rounds(estimator: Estimator) -> None:
    assert estimator.apply(outcomes([0.1] * 7), memory()).tolist() == [0.0] * 7


@ALL
def test_groups_of_any_size_and_order_are_compared_within_themselves(estimator: Estimator) -> None:
    together = estimator.apply(outcomes([1, 0.5, 0, 0, 1], [7, 3, 7, 3, 3]), memory())
    torch.testing.assert_close(together[[0, 2]], estimator.apply(outcomes([1, 0]), memory()))
    torch.testing.assert_close(together[[1, 3, 4]], estimator.apply(outcomes([0.5, 0, 1]), memory()))
