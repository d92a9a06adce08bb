import pytest
import torch
from torch import Tensor

from policies.objectives import ShapedRows
from policies.objectives.parts import Term
from policies.objectives.ratio_rules import ratio
from policies.objectives.statistics import token_covariance
from policies.objectives.terms import kl_cov
from tests.policies.objectives.worked import f64, rows, surveyed

A = [[1, 1, -1, -1]]
P_NEW = [[0.9, 0.1, 0.5, 0.05]]
P_OLD = [[0.8, 0.12, 0.5, 0.06]]
STEP = rows(A, P_NEW, P_OLD)


def make(fraction: float = 0.25, coefficient: float = 1.0) -> Term:
    term = kl_cov.create(kl_cov.Config(kl_cov_fraction=fraction, kl_cov_coefficient=coefficient))
    assert term is not None
    return term


def held(some: ShapedRows, fraction: float) -> Tensor:
    return kl_cov.select(token_covariance(some), some, fraction)


def test_the_tokens_of_largest_covariance_are_held() -> None:
    """Reference: objectives.md 9."""
    covariance_BT = token_covariance(rows(A, P_NEW))
    torch.testing.assert_close(covariance_BT, f64([[1.418846, -0.778379, -0.831059, 1.471526]]), atol=1e-6, rtol=0)
    assert float(covariance_BT.mean()) == pytest.approx(0.320233, abs=1e-6)


def test_held_tokens_pay_the_distance_to_the_start_of_the_step() -> None:
    """Reference: objectives.md 9.2."""
    term = make()
    some, totals = surveyed(term, STEP)
    plain, added = ratio.rule(some.advantage_BT, some), term.apply(some, totals)
    assert added.w_BT is not None
    without_BT = some.advantage_BT * plain.c_BT
    expected: dict[str, tuple[Tensor, list[float]]] = {
        "held": (some.noted["kl_cov.held"], [0, 0, 0, 1]),
        "rho": (plain.c_BT, [1.125, 0.833333, 1, 0.833333]),
        "without": (without_BT, [1.125, 0.833333, -1, -0.833333]),
        "with": (without_BT + added.w_BT, [1.125, 0.833333, -1, 0.166667]),
        "value": (plain.value_BT + added.value_BT, [-1.125, -0.833333, 1, 1.015655]),
    }
    for found_BT, numbers in expected.values():
        torch.testing.assert_close(found_BT, f64([numbers]), atol=1e-6, rtol=0)
    assert float((plain.value_BT + added.value_BT).mean()) == pytest.approx(0.014330, abs=1e-6)


def test_at_a_ratio_of_1_it_does_nothing() -> None:
    """Reference: objectives.md 9.2."""
    some, totals = surveyed(make(), rows(A, P_OLD))
    added = make().apply(some, totals)
    assert added.w_BT is not None
    assert not added.w_BT.any()
    assert kl_cov.INFO.idle_at_one_update


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [(1e-4, [0, 0, 0, 1]), (0.49, [0, 0, 0, 1]), (0.5, [1, 0, 0, 1]), (1.0, [1, 0, 0, 1])],
)
def test_at_least_one_token_is_held_and_only_those_that_cost_entropy(fraction: float, expected: list[int]) -> None:
    assert held(STEP, fraction).long().tolist() == [expected]


@pytest.mark.parametrize(
    ("fraction", "says"),
    [(2e-3, None), (0.05, None), (0.2, "`kl_cov_fraction: 0.2` holds 20% of all tokens")],
)
def test_a_fraction_in_percent_is_warned_of(fraction: float, says: str | None) -> None:
    """Reference: objectives.md 9.2."""
    found = kl_cov.warning({"kl_cov_fraction": fraction})
    assert found is None if says is None else says in str(found)


def test_tokens_without_an_advantage_are_never_held() -> None:
    """A rare token of a silent group has the largest covariance, as the others are better than the mean."""
    some = rows([[0, 1, 1, -0.5]], [[1e-6, 0.5, 0.4, 0.5]])
    assert int(token_covariance(some).argmax()) == 0
    assert not held(some, 1.0)[0, 0]


def test_ties_are_held_together() -> None:
    some = rows([[1, 1], [1, -1], [-1, -1]], [[0.9, 0.9], [0.9, 0.5], [0.1, 0.6]])
    first_two = [[True, True], [True, False], [True, False]]  # the second is three
    assert held(some, 0.34).tolist() == held(some, 0.5).tolist() == first_two


@pytest.mark.parametrize(
    ("some", "what"),
    [
        (rows([[0, 0]], [[0.5, 0.1]]), "no signal"),
        (rows([[1, -1]], [[0.5, 0.1]], mask=[[False, False]]), "no token"),
        (rows([[1]], [[0.5]]), "one token"),
    ],
)
def test_nothing_to_hold(some: ShapedRows, what: str) -> None:
    assert not held(some, 1.0).any(), what


@pytest.mark.parametrize("options", [{"kl_cov_coefficient": 0}, {"kl_cov_fraction": 0}])
def test_off(options: dict[str, float]) -> None:
    assert kl_cov.create(kl_cov.Config.model_validate(options)) is None
