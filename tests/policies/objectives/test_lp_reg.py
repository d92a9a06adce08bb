from dataclasses import replace

import pytest
import torch

from policies.objectives import ObjectiveError, ShapedRows
from policies.objectives.parts import Term
from policies.objectives.ratio_rules import ppo
from policies.objectives.terms import lp_reg
from tests.policies.objectives.steps import begun
from tests.policies.objectives.surrogates.case import random_case
from tests.policies.objectives.worked import f64, rows, surveyed, totals_of

FILTERED_OUT = -1e4


def make(**options: float) -> Term:
    term = lp_reg.create(lp_reg.Config.model_validate(options))
    assert term is not None
    return term


def with_proxy(some: ShapedRows, proxy: list[float]) -> ShapedRows:
    return replace(some, lp_proxy_BT=f64([proxy]).log().clamp(min=FILTERED_OUT))


@pytest.mark.parametrize(
    ("current", "proxy", "value", "slope"),
    [(0.085, 0.085 / 0.997, 4.5e-6, -0.003009), (0.06, 0.09, 0.094535, -0.5)],
    ids=["on-policy", "fallen"],
)
def test_a_rare_plausible_token_is_pulled_up_to_its_proxy(
    current: float, proxy: float, value: float, slope: float
) -> None:
    """Reference: objectives.md 11.4."""
    added = lp_reg.pull(f64([[current / proxy]]).log(), f64([[1]]), 1.0)
    assert added.w_BT is not None
    assert float(added.value_BT) == pytest.approx(value, abs=5e-7 if value > 1e-3 else 5e-8)
    assert float(added.w_BT) == pytest.approx(-slope, abs=1e-6)


def test_total_coefficient_of_a_fallen_token() -> None:
    """Reference: objectives.md 11.4."""
    some = with_proxy(rows([[-1]], [[0.06]], [[0.09]]), [0.09 / 0.997])
    some, totals = surveyed(make(), some)
    some = replace(some, lp_proxy_BT=f64([[0.09]]).log())
    ratio, added = (
        ppo.create(ppo.Config(clip_low=1, clip_high=9)).apply(some.advantage_BT, some),
        make().apply(some, totals),
    )
    assert added.w_BT is not None
    assert float(some.advantage_BT * ratio.c_BT + added.w_BT) == pytest.approx(-0.166667, abs=1e-6)


P = [[0.5, 0.01, 0.3, 0.02, 0.9, 0.001]]
STEP = with_proxy(rows([[-1, 1, -1, -1, 0, -1]], P), [0.51, 0.011, 0.31, 0.021, 0.91, 0])


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.01, [0] * 6), (0.5, [0, 0, 0, 1, 0, 0]), (0.75, [0, 0, 1, 1, 0, 0]), (1, [1, 0, 1, 1, 0, 0])],
    ids=["the rarest is filtered out", "half of the bad ones", "three quarters", "all bad ones"],
)
def test_bad_rare_tokens_that_are_plausible_are_selected(share: float, expected: list[int]) -> None:
    """Reference: objectives.md 11.4."""
    some, _ = surveyed(make(lp_reg_share=share), STEP)
    assert some.noted["lp_reg.selected"].tolist() == [expected]
    assert torch.equal(some.noted[ppo.FREE], some.noted["lp_reg.selected"])


def test_a_selected_token_is_not_clipped() -> None:
    some = with_proxy(rows([[-1, -1]], [[0.01, 0.9]], [[0.4, 0.5]]), [0.41, 0.51])
    rule = ppo.create(ppo.Config(clip_low=0.2))
    assert rule.apply(some.advantage_BT, some).clipped_BT.tolist() == [[True, False]]
    some, _ = surveyed(make(), some)
    assert rule.apply(some.advantage_BT, some).clipped_BT.tolist() == [[False, False]]


def test_a_token_that_rose_above_its_proxy_is_not_pushed_down() -> None:
    added = lp_reg.pull(f64([[0.4, -0.4]]), f64([[1, 1]]), 1.0)
    assert added.w_BT is not None
    assert (added.w_BT > 0).tolist() == [[False, True]]
    assert added.value_BT[0, 0] == 0


def test_ties_are_selected_together() -> None:
    some = with_proxy(rows([[-1, -1, -1]], [[0.1, 0.2, 0.1]]), [0.11, 0.22, 0.11])
    assert surveyed(make(), some)[0].noted["lp_reg.selected"].tolist() == [[1, 0, 1]]


@pytest.mark.parametrize("some", [rows([[1, 0]], [[0.5, 0.1]]), rows([[-1, -1]], [[0.5, 0.1]], mask=[[False, False]])])
def test_nothing_to_pull(some: ShapedRows) -> None:
    some, totals = surveyed(make(), with_proxy(some, [0.6, 0.2]))
    added = make().apply(some, totals)
    assert added.w_BT is not None
    assert not added.w_BT.any()


def test_a_random_step_has_something_to_pull() -> None:
    """Else the comparison with the published loss would compare nothing."""
    assert sum(bool(begun("lp_reg", random_case(seed)).rows.noted["lp_reg.selected"].any()) for seed in range(6)) > 2


@pytest.mark.parametrize("options", [{"lp_reg_coefficient": 0}, {"lp_reg_share": 0}])
def test_off(options: dict[str, float]) -> None:
    assert lp_reg.create(lp_reg.Config.model_validate(options)) is None


def test_the_filter_is_told_to_the_learner_and_missed() -> None:
    assert make(lp_reg_kappa=0.05).kappa == 0.05
    assert "old_filter" in make().needs
    some = rows([[-1]], [[0.5]])
    with pytest.raises(ObjectiveError, match="after its filter"):
        make().apply(some, totals_of(some))
