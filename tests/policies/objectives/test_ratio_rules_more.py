"""The property tests of objectives.md 18 that concern ratio rules, for every rule, over generated rows."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from policies.objectives import ShapedRows
from policies.objectives.ratio_rules import ce_gppo, cispo, dppo, gspo, hapo, ppo, ratio, reinforce, sapo
from policies.objectives.registry import names
from tests.policies.objectives.steps import rows_of
from tests.policies.objectives.surrogates.case import random_case

RULES = {
    "reinforce": reinforce.create(reinforce.Config()),
    "ratio": ratio.create(ratio.Config()),
    "ppo": ppo.create(ppo.Config()),
    "ppo, dual clip": ppo.create(ppo.Config(dual_clip=1.4)),
    "ppo, cap": ppo.create(ppo.Config(ratio_cap=1.5)),
    "cispo": cispo.create(cispo.Config(cispo_low=0.7, cispo_high=1.4)),
    "ce_gppo": ce_gppo.create(ce_gppo.Config(dual_clip=1.5)),
    "sapo": sapo.create(sapo.Config()),
    "dppo": dppo.create(dppo.Config(dppo_low=0.05, dppo_high=0.05)),
    "hapo": hapo.create(hapo.Config(dual_clip=1.6)),
    "gspo": gspo.create(gspo.Config(gspo_low=0.05, gspo_high=0.05)),
}
EVERY_RULE = pytest.mark.parametrize("rule", RULES)
OF_TOKENS = pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "gspo"])
seeds = st.integers(0, 2**31 - 1)
few = settings(max_examples=20, derandomize=True)
STEP, FAR = 1e-6, 1e-4  # nats: of the finite difference, and how far it keeps from a bound


def some_rows(seed: int, of_tokens: bool = True) -> ShapedRows:
    """A step with advantages of either sign and 0, HAPO's scores, and some tokens that are never clipped."""
    case = random_case(seed)
    rng = torch.Generator().manual_seed(seed)
    shape = case.mask_BT.shape if of_tokens else (len(case.mask_BT), 1)
    advantage_BT = torch.randn(shape, generator=rng, dtype=torch.float64)
    advantage_BT = advantage_BT.masked_fill(torch.rand(shape, generator=rng) < 0.1, 0) * case.mask_BT
    rows = rows_of(case, advantage_BT)
    clean = {name: getattr(rows, name).masked_fill(~case.mask_BT, 0) for name in ("lp_BT", "lp_old_BT", "lp_roll_BT")}
    score_BT = 2 * torch.rand(case.mask_BT.shape, generator=rng, dtype=torch.float64) - 1
    free_BT = torch.rand(case.mask_BT.shape, generator=rng) < 0.1
    return replace(rows, **clean, noted={"hapo.score": score_BT, "unclipped": free_BT})


def value_of(rule: str, rows: ShapedRows, start: ShapedRows) -> Tensor:
    """The conventional value [B, T] at these rows, with what the paper stops as it is at the start."""
    if rule == "cispo":
        log_ratio_BT = start.lp_BT - start.lp_old_BT
        return cispo.rule(rows.advantage_BT, log_ratio_BT, rows.lp_BT, 0.7, 1.4).value_BT
    if rule == "ce_gppo":
        at_start = RULES[rule].apply(start.advantage_BT, start)
        is_held_BT = at_start.clipped_BT & (at_start.c_BT != 0)  # rho over its stopped self is exp of the shift
        moved_BT = at_start.value_BT * (rows.lp_BT - start.lp_BT).exp()
        return moved_BT.where(is_held_BT, RULES[rule].apply(rows.advantage_BT, rows).value_BT)
    return RULES[rule].apply(rows.advantage_BT, rows).value_BT


def shifted(rows: ShapedRows, by: float | Tensor) -> ShapedRows:
    return replace(rows, lp_BT=rows.lp_BT + by)


def is_far(rule: str, rows: ShapedRows) -> Tensor:
    """Tokens that no small shift brings across a bound, where the gradient is not defined."""

    def clipped(by: float) -> Tensor:
        return RULES[rule].apply(rows.advantage_BT, shifted(rows, by)).clipped_BT

    return (clipped(-FAR) == clipped(0)) & (clipped(0) == clipped(FAR)) & rows.mask_BT


def test_no_rule_is_left_out() -> None:
    assert {rule.split(",")[0] for rule in RULES} == set(names("ratio_rules"))


@EVERY_RULE
@few
@given(seeds)
def test_a_rule_sees_only_the_sign_of_the_advantage(rule: str, seed: int) -> None:
    """Reference: objectives.md 18."""
    rows = some_rows(seed)
    weight_BT = 10 ** (4 * torch.rand(rows.lp_BT.shape, generator=torch.Generator().manual_seed(seed)) - 2)
    expected = RULES[rule].apply(rows.advantage_BT, rows)
    found = RULES[rule].apply(rows.advantage_BT * weight_BT, rows)
    assert torch.equal(found.c_BT, expected.c_BT)
    assert torch.equal(found.clipped_BT, expected.clipped_BT)


@OF_TOKENS
@few
@given(seeds)
def test_the_gradient_of_the_value_is_minus_a_times_c(rule: str, seed: int) -> None:
    """Reference: objectives.md 18."""
    rows = some_rows(seed)
    ends = [value_of(rule, shifted(rows, by), rows) for by in (STEP, -STEP)]
    slope_BT = (ends[0] - ends[1]) / (2 * STEP)
    found = RULES[rule].apply(rows.advantage_BT, rows)
    at_BT = is_far(rule, rows)
    assert at_BT.any()
    torch.testing.assert_close(slope_BT[at_BT], (-rows.advantage_BT * found.c_BT)[at_BT], atol=1e-8, rtol=1e-6)
    torch.testing.assert_close(value_of(rule, rows, rows), found.value_BT)


@few
@given(seeds, st.integers(1, 7))
def test_the_gradient_of_a_sequences_value_is_minus_a_times_c_over_n(seed: int, at: int) -> None:
    """Reference: objectives.md 18."""
    rows = some_rows(seed, of_tokens=False)
    num_B = rows.mask_BT.sum(-1)
    one_T = (torch.arange(rows.lp_BT.shape[1]) == at) * rows.mask_BT

    def losses(by: float) -> Tensor:
        value_BT = value_of("gspo", shifted(rows, by * one_T), rows)
        return (value_BT * rows.mask_BT).sum(-1) / num_B.clamp(min=1)

    slope_B = (losses(STEP) - losses(-STEP)) / (2 * STEP)
    c_BT = RULES["gspo"].apply(rows.advantage_BT, rows).c_BT
    at_B = is_far("gspo", rows)[:, at]
    expected_B = -(rows.advantage_BT * c_BT)[:, at] / num_B.clamp(min=1)
    torch.testing.assert_close(slope_B[at_B], expected_B[at_B], atol=1e-8, rtol=1e-6)


@EVERY_RULE
@few
@given(seeds)
def test_no_advantage_gives_no_coefficient_no_loss_and_no_clip(rule: str, seed: int) -> None:
    """Reference: objectives.md 18."""
    rows = some_rows(seed)
    found = RULES[rule].apply(torch.zeros_like(rows.lp_BT), rows)
    assert RULES[rule].zero_stays_zero
    assert not found.value_BT.any()
    assert found.c_BT.isfinite().all()
    assert not found.clipped_BT.any() or rule == "cispo", "CISPO bounds the weight whatever the advantage is"


@EVERY_RULE
@few
@given(seeds)
def test_at_a_ratio_of_1_every_rule_is_reinforce(rule: str, seed: int) -> None:
    rows = some_rows(seed)
    fresh = replace(rows, lp_old_BT=rows.lp_BT, lp_roll_BT=rows.lp_BT)
    found = RULES[rule].apply(rows.advantage_BT, fresh)
    torch.testing.assert_close(found.c_BT, torch.ones_like(rows.lp_BT))
    assert not found.clipped_BT.any()


@EVERY_RULE
def test_a_huge_log_ratio_stays_finite(rule: str) -> None:
    rows = some_rows(0)
    far_BT = torch.where(torch.arange(rows.lp_BT.shape[1]) % 2 == 0, -1e4, 0.0).expand_as(rows.lp_BT)
    for moved in (replace(rows, lp_BT=far_BT), replace(rows, lp_old_BT=far_BT, lp_roll_BT=far_BT)):
        found = RULES[rule].apply(rows.advantage_BT, moved)
        assert found.c_BT.isfinite().all()
        assert found.value_BT.isfinite().all()


@pytest.mark.parametrize("rule", ["ppo", "ppo, dual clip", "hapo", "dppo"])
@few
@given(seeds)
def test_what_counts_as_clipped_has_no_coefficient(rule: str, seed: int) -> None:
    found = RULES[rule].apply(some_rows(seed).advantage_BT, some_rows(seed))
    assert not found.c_BT[found.clipped_BT].any()
    assert (found.c_BT[~found.clipped_BT] > 0).all()


@few
@given(seeds)
def test_infinite_bounds_are_the_plain_ratio(seed: int) -> None:
    rows = some_rows(seed)
    plain = RULES["ratio"].apply(rows.advantage_BT, rows)
    for found in (
        ppo.rule(rows.advantage_BT, rows.lp_BT - rows.lp_old_BT, 1.0, math.inf),
        cispo.create(cispo.Config(cispo_high=1e9)).apply(rows.advantage_BT, rows),
        ce_gppo.create(ce_gppo.Config(clip_low=1, clip_high=1e9, dual_clip=None)).apply(rows.advantage_BT, rows),
    ):
        torch.testing.assert_close(found.c_BT, plain.c_BT)
