import pytest
import torch

from policies.objectives.parts import Term
from policies.objectives.terms import entropic
from tests.policies.objectives.steps import begun
from tests.policies.objectives.surrogates import entropy_terms
from tests.policies.objectives.surrogates.case import random_case
from tests.policies.objectives.worked import f64, rows, totals_of


def make(alpha: float, threshold: float = 0.95) -> Term:
    return entropic.create(entropic.Config(entropic_alpha=alpha, entropic_threshold=threshold))


def test_likely_tokens_get_alpha_times_rho_times_the_size_of_their_advantage() -> None:
    """Reference: objectives.md 11.3."""
    some = rows([[1, -1]], [[0.96, 0.99]])
    added = make(0.2).apply(some, totals_of(some))
    assert added.w_BT is not None
    torch.testing.assert_close(added.w_BT, f64([[0.2, 0.2]]))
    torch.testing.assert_close(some.advantage_BT + added.w_BT, f64([[1.2, -0.8]]))
    assert float(added.value_BT.mean()) == pytest.approx(-0.2)


def test_only_tokens_above_the_threshold_under_the_policy_that_is_updated() -> None:
    some = rows([[2, 2, 2, 0]], [[0.94, 0.96, 0.7, 0.99]], [[0.99, 0.5, 0.7, 0.99]])
    added = make(-0.5).apply(some, totals_of(some))
    assert added.w_BT is not None
    torch.testing.assert_close(added.w_BT, f64([[0, -0.5 * 2 * 0.96 / 0.5, 0, 0]]))
    assert added.means["entropic_frac"].tolist() == [[0, 1, 0, 1]]


@pytest.mark.parametrize("alpha", [0.3, -0.7])
def test_its_gradient_is_that_of_the_published_loss(alpha: float) -> None:
    case = random_case(3)
    case.lp_BT.data[::2] *= 0.01  # likely tokens
    found = begun({"preset": "entropic", "entropic_alpha": alpha}, case).fill()  # type: ignore[arg-type]
    [expected] = torch.autograd.grad(-entropy_terms.entropic(case, alpha), case.lp_BT)
    [without] = torch.autograd.grad(-entropy_terms.entropic(case), case.lp_BT)
    torch.testing.assert_close(found.w_BT, expected, rtol=1e-6, atol=1e-8)
    assert (expected != without).any()


def test_without_strength_it_does_nothing_and_stays_on_for_its_controller() -> None:
    some = rows([[1, -1]], [[0.96, 0.99]])
    added = make(0.0).apply(some, totals_of(some))
    assert added.w_BT is not None
    assert not added.w_BT.any()
    assert not added.value_BT.any()


def test_a_huge_ratio_stays_finite() -> None:
    assert entropic.extra(f64([[1.0]]), f64([[1e4]]), 1.0).isfinite().all()
