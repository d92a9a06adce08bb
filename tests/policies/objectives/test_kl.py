import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from policies.objectives import ObjectiveError, ShapedRows
from policies.objectives.parts import Term
from policies.objectives.terms import entropy_bonus, kl
from tests.policies.objectives.worked import f64, rows, totals_of


def seen(new: float, ref: float, old: float | None = None) -> ShapedRows:
    some = rows([[0.0]], [[new]], [[new if old is None else old]])
    return replace(some, lp_ref_BT=f64([[ref]]).log())


def added(some: ShapedRows, **options: object) -> tuple[float, float]:
    """Value and extra W of one token."""
    term = kl.create(kl.Config.model_validate(options))
    assert term is not None
    found = term.apply(some, totals_of(some))
    assert found.w_BT is not None
    return float(found.value_BT), float(found.w_BT)


@pytest.mark.parametrize(("form", "value", "w"), [("k2", 0.02, -0.02), ("k3", 0.018731, -0.018127)], ids=["k2", "k3"])
def test_values_and_slopes_of_the_estimates_of_the_kl(form: str, value: float, w: float) -> None:
    """Reference: objectives.md 11.1."""
    some = seen(0.5 * math.exp(0.2), 0.5)
    assert added(some, kl=0.1, kl_form=form) == pytest.approx((0.1 * value, w), abs=1e-6)


def test_k1_in_the_loss_is_refused() -> None:
    """Reference: objectives.md 11.1."""
    with pytest.raises(ValidationError, match="the mean of its gradient is 0"):
        kl.Config.model_validate({"kl": 0.1, "kl_form": "k1"})


def test_off_policy_it_is_weighed_by_the_ratio() -> None:
    """Reference: objectives.md 11.1."""
    plain = added(seen(0.6, 0.5), kl=0.1)
    assert added(seen(0.6, 0.5, old=0.4), kl=0.1) == pytest.approx([1.5 * x for x in plain])
    assert added(seen(0.6, 0.5, old=0.4), kl=0.1, kl_off_policy=False) == pytest.approx(plain)


def test_with_the_ratio_the_mean_over_old_samples_is_the_gradient_of_the_kl() -> None:
    """Exactly, over all actions of a small policy: k2 weighed by rho, drawn from the old policy.

    Reference: objectives.md 11.1.
    """
    logits = torch.tensor([0.3, -0.2, 1.0], dtype=torch.float64, requires_grad=True)
    lp_ref, old = f64([0.5, 0.3, 0.2]).log(), f64([0.2, 0.5, 0.3])
    lp = logits.log_softmax(-1)
    [expected] = torch.autograd.grad((lp.exp() * (lp - lp_ref)).sum(), logits, retain_graph=True)
    some = rows([[0] * 3], [lp.exp().tolist()], [old.tolist()])
    some = replace(some, lp_ref_BT=lp_ref[None])
    term = kl.create(kl.Config(kl=1.0, kl_form="k2"))
    assert term is not None
    w_BT = term.apply(some, totals_of(some)).w_BT
    assert w_BT is not None
    [found] = torch.autograd.grad(-(old * w_BT[0] * lp).sum(), logits)
    torch.testing.assert_close(found, expected)


def test_the_gradient_of_k2_is_that_of_the_kl_and_that_of_k3_is_not() -> None:
    """Reference: objectives.md 11.1."""
    p, lp_ref = f64([0.5, 0.3, 0.2]), f64([0.2, 0.3, 0.5]).log()
    logits = p.log().requires_grad_()
    lp = logits.log_softmax(-1)
    [exact] = torch.autograd.grad((lp.exp() * (lp - lp_ref)).sum(), logits, retain_graph=True)
    found = {}
    for form, penalty in (("k2", kl.k2), ("k3", kl.k3)):
        _, slope = penalty((p.log() - lp_ref)[None])
        [found[form]] = torch.autograd.grad((p * slope[0] * lp).sum(), logits, retain_graph=True)
    torch.testing.assert_close(found["k2"], exact)
    torch.testing.assert_close(exact, f64([0.320702, -0.082466, -0.238236]), atol=1e-6, rtol=0)
    torch.testing.assert_close(found["k3"], f64([0.3, 0.0, -0.3]), atol=1e-6, rtol=0)
    assert float((found["k3"] - exact).norm() / exact.norm()) == pytest.approx(0.257620, abs=1e-6)


@pytest.mark.parametrize("form", ["k2", "k3"])
@pytest.mark.parametrize("ratio", [0.2, 0.9, 1.0, 3.0])
def test_the_slope_is_that_of_the_value(form: str, ratio: float) -> None:
    penalty, d, step = {"k2": kl.k2, "k3": kl.k3}[form], math.log(ratio), 1e-6
    high, low = (float(penalty(f64([[x]]))[0]) for x in (d + step, d - step))
    assert float(penalty(f64([[d]]))[1]) == pytest.approx((high - low) / (2 * step), abs=1e-6)


@pytest.mark.parametrize(("gap", "value", "slope"), [(-2.5, 8.682494, -11.182494), (-3, 10, 0), (-20, 10, 0)])
def test_k3_lets_go_of_what_fell_too_far(gap: float, value: float, slope: float) -> None:
    found = kl.k3(f64([[gap]]))
    assert [float(x) for x in found] == pytest.approx([value, slope], abs=1e-6)


def test_the_estimate_is_reported_without_its_weights() -> None:
    some = seen(0.6, 0.5, old=0.4)
    term = kl.create(kl.Config(kl=0.1))
    assert term is not None
    assert float(term.apply(some, totals_of(some)).means["kl_ref"]) == pytest.approx(added(seen(0.6, 0.5), kl=1)[0])


@pytest.mark.parametrize(
    ("term", "needs"),
    [
        (kl.create(kl.Config(kl=0.1)), {"lp_ref", "lp_old"}),
        (kl.create(kl.Config(kl=0.1, kl_off_policy=False)), {"lp_ref"}),
        (entropy_bonus.create(entropy_bonus.Config(entropy_bonus=0.1)), {"entropy", "entropy_grad"}),
    ],
    ids=["kl", "kl as published", "entropy_bonus"],
)
def test_what_terms_need(term: Term, needs: set[str]) -> None:
    assert term.needs == needs


def test_a_coefficient_of_0_leaves_a_term_out() -> None:
    assert kl.create(kl.Config()) is None
    assert entropy_bonus.create(entropy_bonus.Config()) is None


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (kl.create(kl.Config(kl=0.1)), "reference's log-probs"),
        (entropy_bonus.create(entropy_bonus.Config(entropy_bonus=0.1)), "entropy of every token"),
    ],
    ids=["kl", "entropy_bonus"],
)
def test_rows_without_what_a_term_reads_are_refused(term: Term, message: str) -> None:
    some = rows([[1.0]], [[0.5]])
    with pytest.raises(ObjectiveError, match=message):
        term.apply(some, totals_of(some))


def test_the_entropy_bonus_is_a_constant_k() -> None:
    """Reference: objectives.md 11.2."""
    found = entropy_bonus.reward(f64([[0.5, 1.5]]), 0.01)
    assert found.k_BT is not None
    assert found.w_BT is None
    assert found.k_BT.tolist() == [[0.01, 0.01]]
    assert float(found.value_BT.mean()) == pytest.approx(-0.01 * 1.0)
