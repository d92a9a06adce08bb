"""The table of objectives.md 6 and the worked numbers of its subsections, one test a subsection."""

import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from policies.objectives import ObjectiveConfig, ShapedRows, Totals
from policies.objectives.errors import ObjectiveError
from policies.objectives.parts import Ratio, RatioRule
from policies.objectives.ratio_rules import ce_gppo, cispo, dppo, gspo, hapo, ppo, ratio, reinforce, sapo
from policies.objectives.terms import squared_log_ratio
from tests.policies.objectives.worked import P_NEW, P_OLD, f64, rows, two_by_two

FIXTURE = rows([[1, -1, -1, 1]], [P_NEW], [P_OLD])
RHO = [1.4, 0.5, 1.055556, 3.0]


def applied(rule: RatioRule, advantages: list[float], log_ratio: float) -> Ratio:
    """To one sequence whose tokens all moved by this much."""
    advantage_BT = f64([advantages])
    zero_BT, is_any_BT = torch.zeros_like(advantage_BT), advantage_BT != 0
    some = ShapedRows(is_any_BT, advantage_BT, zero_BT + log_ratio, zero_BT, zero_BT)
    return rule.apply(advantage_BT, some)


@pytest.mark.parametrize(
    ("rule", "c", "value"),
    [
        (reinforce.create(reinforce.Config()), [1, 1, 1, 1], [0.356675, -2.302585, -0.051293, 1.203973]),
        (ratio.create(ratio.Config()), RHO, [-1.4, 0.5, 1.055556, -3.0]),
        (ppo.create(ppo.Config(clip_high=0.2)), [0, 0, 1.055556, 0], [-1.2, 0.8, 1.055556, -1.2]),
        (ppo.create(ppo.Config(clip_high=0.28)), [0, 0, 1.055556, 0], [-1.28, 0.8, 1.055556, -1.28]),
        (cispo.create(cispo.Config()), RHO, [0.499345, -1.151293, -0.054143, 3.611918]),
        (
            cispo.create(cispo.Config(cispo_high=2)),
            [1.4, 0.5, 1.055556, 2.0],
            [0.499345, -1.151293, -0.054143, 2.407946],
        ),
        (ce_gppo.create(ce_gppo.Config()), [1.2, 0.6, 1.055556, 1.2], [-1.2, 0.6, 1.055556, -1.2]),
        (
            sapo.create(sapo.Config()),
            [1.345460, 0.467070, 1.054658, 1.259923],
            [-2.394751, 1.415938, 1.960302, -3.523188],
        ),
    ],
    ids=["reinforce", "ratio", "ppo .2/.2", "ppo .2/.28", "cispo 5", "cispo 2", "ce_gppo", "sapo"],
)
def test_coefficients_and_values_of_the_rules_by_ratio_and_sign(
    rule: RatioRule, c: list[float], value: list[float]
) -> None:
    """Reference: objectives.md 6."""
    found = rule.apply(FIXTURE.advantage_BT, FIXTURE)
    torch.testing.assert_close(found.c_BT[0], f64(c), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.value_BT[0], f64(value), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("rule", "clipped"),
    [
        (ratio.create(ratio.Config()), [False, False, False, False]),
        (ppo.create(ppo.Config()), [True, True, False, True]),
        (cispo.create(cispo.Config(cispo_high=2)), [False, False, False, True]),
        (ce_gppo.create(ce_gppo.Config()), [True, True, False, True]),
        (sapo.create(sapo.Config()), [False, False, False, False]),
    ],
    ids=["ratio", "ppo", "cispo 2", "ce_gppo", "sapo"],
)
def test_which_tokens_count_as_clipped(rule: RatioRule, clipped: list[bool]) -> None:
    """Reference: objectives.md 6."""
    assert rule.apply(FIXTURE.advantage_BT, FIXTURE).clipped_BT.tolist() == [clipped]


def test_mean_value_of_clip_higher() -> None:
    """Reference: objectives.md 6."""
    found = ppo.create(ppo.Config()).apply(FIXTURE.advantage_BT, FIXTURE)
    assert float(found.value_BT.mean()) == pytest.approx(-0.176111, abs=1e-6)


@pytest.mark.parametrize(("dual", "value", "c"), [(None, 5.0, 5.0), (3.0, 3.0, 0.0)])
def test_dual_clip_bounds_a_bad_token_that_rose(dual: float | None, value: float, c: float) -> None:
    """Reference: objectives.md 6.1."""
    found = ppo.rule(f64([[-1]]), f64([[math.log(5)]]), 0.2, 0.28, dual)
    assert float(found.value_BT) == pytest.approx(value)
    assert float(found.c_BT) == pytest.approx(c)


def test_dual_clip_leaves_good_tokens_alone() -> None:
    log_ratio_BT = f64([[math.log(5), math.log(0.5)]])
    with_dual = ppo.rule(f64([[1, 1]]), log_ratio_BT, 0.2, 0.28, 3.0)
    without = ppo.rule(f64([[1, 1]]), log_ratio_BT, 0.2, 0.28, None)
    assert with_dual.value_BT.tolist() == without.value_BT.tolist()
    assert with_dual.c_BT.tolist() == without.c_BT.tolist()


def test_an_outer_cap_holds_on_every_branch() -> None:
    """MAI-Thinking-1 holds rho in [0, 50]: a bad token stops counting there, its loss stands still.

    Reference: objectives.md 8.4.
    """
    log_ratio_BT = f64([[math.log(60), math.log(60), math.log(49), math.log(60)]])
    found = ppo.rule(f64([[-1, 1, -1, 0]]), log_ratio_BT, 0.6, 1.5, cap=50.0)
    torch.testing.assert_close(found.c_BT[0, :3], f64([0, 0, 49]))
    torch.testing.assert_close(found.value_BT, f64([[50, -2.5, 49, 0]]))
    assert found.clipped_BT.tolist() == [[True, True, False, False]]


@pytest.mark.parametrize("dual", [None, 1.3])
def test_tokens_noted_as_unclipped_are_never_clipped(dual: float | None) -> None:
    """Lp-Reg's rows: p_old .09 and p .06 with A = -1 keep c = rho = .666667 where a clip of .2 would give 0.

    Reference: objectives.md 11.4.
    """
    some = rows([[-1, -1, 1, -1]], [[0.06, 0.06, 0.3, 0.5]], [[0.09, 0.09, 0.1, 0.1]])
    noted = replace(some, noted={"unclipped": f64([[1, 0, 1, 1]])})
    found = ppo.create(ppo.Config(dual_clip=dual)).apply(some.advantage_BT, noted)
    torch.testing.assert_close(found.c_BT, f64([[2 / 3, 0, 3, 5]]))
    torch.testing.assert_close(found.value_BT, f64([[2 / 3, 0.8, -3, 5]]))
    assert found.clipped_BT.tolist() == [[False, True, False, False]]


@pytest.mark.parametrize(
    ("low", "high", "c"),
    [(0.75, 1.0, [1.2, 0.6]), (0.5, 1.0, [1.2, 0.4]), (0.0, 0.0, [0, 0])],
    ids=["7B", "1.5B", "0 is PPO"],
)
def test_clipped_tokens_keep_a_bounded_gradient(low: float, high: float, c: list[float]) -> None:
    """Reference: objectives.md 6.4."""
    rule = ce_gppo.create(ce_gppo.Config(ce_gppo_low=low, ce_gppo_high=high))
    found = rule.apply(FIXTURE.advantage_BT, FIXTURE)
    torch.testing.assert_close(found.c_BT[0, :2], f64(c))


def test_dual_clip_ends_the_gradient_of_a_bad_token_that_rose() -> None:
    """Reference: objectives.md 6.4."""
    found = applied(ce_gppo.create(ce_gppo.Config()), [-1, 1], math.log(12))
    torch.testing.assert_close(found.c_BT, f64([[0, 1.2]]))
    torch.testing.assert_close(found.value_BT, f64([[10, -1.2]]))


@pytest.mark.parametrize(
    ("signs", "c", "values"),
    [
        ([1, -1], [0.836660, 1.779513], [-0.836660, 1.779513]),
        ([-1, 1], [0.836660, 0], [0.836660, -1.2]),
    ],
    ids=["as in the fixture", "swapped"],
)
def test_one_ratio_a_sequence(signs: list[float], c: list[float], values: list[float]) -> None:
    """Reference: objectives.md 6.5."""
    some = rows([[sign] * 2 for sign in signs], two_by_two(P_NEW), two_by_two(P_OLD))
    found = gspo.create(gspo.Config(gspo_low=0.2, gspo_high=0.2)).apply(some.advantage_BT, some)
    torch.testing.assert_close(found.c_BT, f64([[x, x] for x in c]), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.value_BT.mean(-1), f64(values), atol=1e-6, rtol=0)


def test_coefficients_of_tokens_and_mean_value() -> None:
    """Reference: objectives.md 6.5."""
    some = rows([[1, 1], [-1, -1]], two_by_two(P_NEW), two_by_two(P_OLD))
    found = gspo.create(gspo.Config(gspo_low=0.2, gspo_high=0.2)).apply(some.advantage_BT, some)
    assert float(found.value_BT.mean()) == pytest.approx(0.471427, abs=1e-6)
    per_token_BT = some.advantage_BT * found.c_BT / 2
    expected = f64([[0.418330, 0.418330], [-0.889757, -0.889757]])
    torch.testing.assert_close(per_token_BT, expected, atol=1e-6, rtol=0)


def test_the_mean_is_over_the_tokens_of_the_policy() -> None:
    """Reference: objectives.md 6.5."""
    mask = [[True, False, True, False], [False] * 4]
    some = rows([[1, 0, 1, 0], [0] * 4], [P_NEW] * 2, [P_OLD] * 2, mask=mask)
    found = gspo.create(gspo.Config(gspo_low=1, gspo_high=1)).apply(some.advantage_BT, some)
    assert float(found.c_BT[0, 0]) == pytest.approx(math.sqrt(1.4 * 0.95 / 0.9))
    assert found.c_BT[1].tolist() == [1] * 4, "a sequence without a token of the policy"


def test_advantages_of_each_token_are_clipped_by_their_own_sign() -> None:
    """The second sequence has s = 1.779513: its good token is clipped, its bad one is not.

    Reference: objectives.md 6.5.
    """
    some = rows([[1, -1]], [P_NEW[2:]], [P_OLD[2:]])
    found = gspo.create(gspo.Config(gspo_low=0.2, gspo_high=0.2)).apply(some.advantage_BT, some)
    torch.testing.assert_close(found.c_BT, f64([[0, 1.779513]]), atol=1e-6, rtol=0)


def test_the_mean_log_ratio_is_cut_at_10() -> None:
    """Reference: objectives.md 6.5."""
    found = applied(gspo.create(gspo.Config(gspo_low=0.2, gspo_high=0.2)), [-1, -1], 15)
    assert found.c_BT.tolist() == [[0, 0]]
    torch.testing.assert_close(found.value_BT, f64([[math.exp(10)] * 2]))


@pytest.mark.parametrize("tau", [0.5, 1.0, 1.05, 4.0])
def test_the_gate_is_open_at_a_ratio_of_1(tau: float) -> None:
    """Reference: objectives.md 6.6."""
    rule = sapo.create(sapo.Config(sapo_tau_good=tau, sapo_tau_bad=tau))
    assert applied(rule, [1, -1], 0).c_BT.tolist() == [[1, 1]]


def test_bad_tokens_fade_faster() -> None:
    """Reference: objectives.md 6.6."""
    good, bad = applied(sapo.create(sapo.Config()), [1, -1], math.log(4)).c_BT[0].tolist()
    assert bad < good


P_ROLL_6_7 = [0.45, 0.2, 0.95, 0.02]


def test_trust_region_on_probabilities() -> None:
    """Reference: objectives.md 6.7."""
    some = rows([[1, -1, -1, 1]], [P_NEW], [P_OLD], [P_ROLL_6_7])
    found = dppo.create(dppo.Config()).apply(some.advantage_BT, some)
    torch.testing.assert_close(found.c_BT, f64([[0, 0.5, 1, 0]]))
    torch.testing.assert_close(some.advantage_BT * found.c_BT, f64([[0, -0.5, -1, 0]]))
    torch.testing.assert_close(found.value_BT, f64([[0, 0.5, 1, 0]]))
    assert found.clipped_BT.tolist() == [[True, False, False, True]]


def test_a_rare_token_may_move_freely_in_ratio() -> None:
    """Reference: objectives.md 6.7."""
    some = rows([[1, 1]], [[0.2, 0.99]], roll=[[0.02, 0.75]])
    found = dppo.create(dppo.Config()).apply(some.advantage_BT, some)
    torch.testing.assert_close(found.c_BT, f64([[10, 0]]))


def test_companion_acts_on_all_tokens() -> None:
    """Reference: objectives.md 6.7."""
    some = rows([[1, -1, 0, 1]], [P_NEW], [P_OLD], [P_ROLL_6_7])
    term = squared_log_ratio.create(squared_log_ratio.Config(squared_log_ratio=1e-3))
    assert term is not None
    assert term.needs == {"lp_roll"}
    assert not term.zero_stays_zero
    added = term.apply(some, Totals(num_tokens=4, num_sequences=1))
    assert added.w_BT is not None
    torch.testing.assert_close(added.w_BT, f64([[-0.000884, 0.001386, 0, -0.005416]]), atol=1e-6, rtol=0)
    squares = [1e-3 * math.log(new / roll) ** 2 for new, roll in zip(P_NEW, P_ROLL_6_7, strict=True)]
    torch.testing.assert_close(added.value_BT, f64([squares]))


def test_a_companion_without_strength_is_left_out() -> None:
    assert squared_log_ratio.create(squared_log_ratio.Config()) is None


SCORE = [-1, -0.606912, -0.268324, 0, 1]


def test_bounds_of_each_token() -> None:
    """Reference: objectives.md 10.5."""
    low_BT, high_BT = hapo.bounds(f64([SCORE]), 0.2, 0.2)
    torch.testing.assert_close(low_BT, f64([[0.4, 0.321382, 0.253665, 0.2, 0.2]]), atol=1e-6, rtol=0)
    torch.testing.assert_close(high_BT, f64([[0.2, 0.2, 0.2, 0.2, 0.4]]), atol=1e-6, rtol=0)


def test_the_clip_is_each_tokens_own() -> None:
    """Ratios of .7 and 1.3: outside of .2, inside where the score doubles the bound. Reference: objectives.md 10.5."""
    some = rows([[-1, -1, 1, 1]], [[0.35, 0.35, 0.65, 0.65]], [[0.5] * 4])
    noted = replace(some, noted={"hapo.score": f64([[-1, 1, -1, 1]])})
    found = hapo.create(hapo.Config()).apply(some.advantage_BT, noted)
    torch.testing.assert_close(found.c_BT, f64([[0.7, 0, 0, 1.3]]))
    torch.testing.assert_close(found.value_BT, f64([[0.7, 0.8, -1.2, -1.3]]))


def test_a_score_of_0_is_ppo() -> None:
    """Reference: objectives.md 10.5."""
    noted = replace(FIXTURE, noted={"hapo.score": torch.zeros_like(FIXTURE.lp_BT)})
    found = hapo.create(hapo.Config()).apply(FIXTURE.advantage_BT, noted)
    expected = ppo.create(ppo.Config(clip_high=0.2)).apply(FIXTURE.advantage_BT, FIXTURE)
    torch.testing.assert_close(found.c_BT, expected.c_BT)
    torch.testing.assert_close(found.value_BT, expected.value_BT)


def test_hapos_bounds_without_scores_say_what_to_add() -> None:
    with pytest.raises(ObjectiveError, match="add `shaper: hapo`"):
        hapo.create(hapo.Config()).apply(FIXTURE.advantage_BT, FIXTURE)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ratio_cap": 1.2}, "ratio_cap 1.2 is inside the clip range; take more than 1.28"),
        ({"ratio": "hapo", "dual_clip": 1.3}, "inside the widest clip range; take more than 1.4"),
        ({"ratio": "ce_gppo", "dual_clip": 1.1}, "inside the clip range; take more than 1.2"),
        ({"ratio": "cispo", "cispo_low": 1, "cispo_high": 1}, "take `ratio: reinforce`"),
        ({"ratio": "dppo"}, "say `mismatch: none`"),
    ],
)
def test_bounds_without_sense_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ObjectiveConfig.model_validate({"preset": "rloo", **given})


def test_the_clip_of_mai_stays_at_4_tenths_and_moves_above() -> None:
    """Reference: objectives.md 8.4."""
    config = ObjectiveConfig.model_validate("mai_clip")
    [controller] = config.create_controllers()
    assert 1 - config.options["clip_low"] == pytest.approx(0.4)
    assert 1 + config.options["clip_high"] == pytest.approx(1 / 0.4)
    uppers = [1 + controller.update(entropy) for entropy in (0.2, 0.25, 0.4, 0.35, 0.3)]
    assert uppers == pytest.approx([2.75, 3.0, 2.75, 2.5, 2.5])


def test_the_upper_clip_of_adapo_follows_the_entropy() -> None:
    """Reference: objectives.md 8.4."""
    [controller] = ObjectiveConfig.model_validate("adapo").create_controllers()
    highs = [controller.update(entropy) for entropy in (0.8, 0.7, 1.1, 1.0)]
    assert highs == pytest.approx([0.308, 0.3388, 0.308, 0.308])
