import math

import pytest
import torch

from policies.objectives.parts import RatioRule
from policies.objectives.ratio_rules import ppo, reinforce
from tests.policies.objectives.worked import P_NEW, P_OLD, f64, rows

FIXTURE = rows([[1, -1, -1, 1]], [P_NEW], [P_OLD])


@pytest.mark.parametrize(
    ("rule", "c", "value"),
    [
        (reinforce.create(reinforce.Config()), [1, 1, 1, 1], [0.356675, -2.302585, -0.051293, 1.203973]),
        (ppo.create(ppo.Config(clip_high=0.2)), [0, 0, 1.055556, 0], [-1.2, 0.8, 1.055556, -1.2]),
        (ppo.create(ppo.Config(clip_high=0.28)), [0, 0, 1.055556, 0], [-1.28, 0.8, 1.055556, -1.28]),
    ],
    ids=["reinforce", "ppo .2/.2", "ppo .2/.28"],
)
def test_section_6_table(rule: RatioRule, c: list[float], value: list[float]) -> None:
    ratio = rule.apply(FIXTURE.advantage_BT, FIXTURE)
    torch.testing.assert_close(ratio.c_BT[0], f64(c), atol=1e-6, rtol=0)
    torch.testing.assert_close(ratio.value_BT[0], f64(value), atol=1e-6, rtol=0)


def test_section_6_mean_value_of_clip_higher() -> None:
    ratio = ppo.create(ppo.Config()).apply(FIXTURE.advantage_BT, FIXTURE)
    assert float(ratio.value_BT.mean()) == pytest.approx(-0.176111, abs=1e-6)
    assert ratio.clipped_BT.tolist() == [[True, True, False, True]]


@pytest.mark.parametrize(("dual", "value", "c"), [(None, 5.0, 5.0), (3.0, 3.0, 0.0)])
def test_section_6_1_dual_clip_bounds_a_bad_token_that_rose(
    dual: float | None, value: float, c: float
) -> None:
    ratio = ppo.rule(f64([[-1]]), f64([[math.log(5)]]), 0.2, 0.28, dual)
    assert float(ratio.value_BT) == pytest.approx(value)
    assert float(ratio.c_BT) == pytest.approx(c)


def test_dual_clip_leaves_good_tokens_alone() -> None:
    log_ratio_BT = f64([[math.log(5), math.log(0.5)]])
    with_dual = ppo.rule(f64([[1, 1]]), log_ratio_BT, 0.2, 0.28, 3.0)
    without = ppo.rule(f64([[1, 1]]), log_ratio_BT, 0.2, 0.28, None)
    assert with_dual.value_BT.tolist() == without.value_BT.tolist()
    assert with_dual.c_BT.tolist() == without.c_BT.tolist()


def test_a_huge_log_ratio_stays_finite() -> None:
    ratio = ppo.rule(f64([[-1, 1]]), f64([[1e4, -1e4]]), 0.2, 0.28, None)
    assert ratio.c_BT.isfinite().all()
    assert ratio.value_BT.isfinite().all()
