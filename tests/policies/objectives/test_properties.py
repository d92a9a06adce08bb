"""The property tests of objectives.md 18 that concern coefficients, over generated rows."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from policies.objectives import Coefficients, Objective, ObjectiveConfig, Rows
from policies.objectives.presets import PRESETS
from policies.objectives.ratio_rules import ppo, reinforce
from policies.objectives.shapers import repo, repo_r, tis
from tests.policies.objectives.worked import f64, totals_of

EVERY_PRESET = pytest.mark.parametrize("preset", PRESETS)
PUSHES_WITHOUT_SIGNAL = {"repo", "entropy_bonus"}
seeds = st.integers(0, 2**31 - 1)
few = settings(max_examples=20, deadline=None, derandomize=True)


def some_rows(seed: int) -> Rows:
    """Five sequences of up to six tokens, one of them without a token of the policy, one without a signal."""
    rng = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(5, 6, generator=rng, dtype=torch.float64)

    mask_BT = torch.rand(5, 6, generator=rng) < 0.7
    mask_BT[4] = False
    mask_BT[0, 0] = mask_BT[1, 1] = True
    advantage_B = torch.randn(5, generator=rng, dtype=torch.float64)
    advantage_B[1] = 0
    lp_BT = uniform(-4, -0.01)
    return Rows(
        mask_BT=mask_BT,
        advantage_BT=advantage_B[:, None] * mask_BT,
        lp_BT=lp_BT * mask_BT,
        lp_old_BT=(lp_BT + uniform(-0.5, 0.5)) * mask_BT,
        lp_roll_BT=(lp_BT + uniform(-0.5, 0.5)) * mask_BT,
        entropy_BT=uniform(0, 3) * mask_BT,
        group_B=torch.tensor([0, 0, 1, 1, 1]),
    )


def on_every_tensor(rows: Rows, change: object) -> Rows:
    return Rows(**{f.name: change(getattr(rows, f.name)) for f in fields(rows)})  # type: ignore[operator]


@cache
def objective(preset: str) -> Objective:
    return Objective.from_config(ObjectiveConfig.model_validate(preset))


def fill(preset: str, rows: Rows, of: Rows) -> Coefficients:
    """Coefficients of some rows of the update `of`."""
    return objective(preset).coefficients(rows, totals_of(of))


def assert_same(found: Coefficients, expected: Coefficients, change: object) -> None:
    torch.testing.assert_close(found.w_BT, change(expected.w_BT))  # type: ignore[operator]
    assert (found.k_BT is None) == (expected.k_BT is None)
    if found.k_BT is not None:
        torch.testing.assert_close(found.k_BT, change(expected.k_BT))  # type: ignore[operator]


@EVERY_PRESET
@few
@given(seeds)
def test_section_18_the_micro_batch_split_does_not_matter(preset: str, seed: int) -> None:
    rows = some_rows(seed)
    whole = fill(preset, rows, rows)
    for cut in (slice(0, 2), slice(2, 5)):
        piece = fill(preset, on_every_tensor(rows, lambda x, cut=cut: x[cut]), rows)
        assert_same(piece, whole, lambda x, cut=cut: x[cut])


@EVERY_PRESET
@few
@given(seeds)
def test_section_18_the_order_of_rows_does_not_matter(preset: str, seed: int) -> None:
    rows = some_rows(seed)
    order = torch.tensor([3, 0, 4, 2, 1])
    assert_same(
        fill(preset, on_every_tensor(rows, lambda x: x[order]), rows),
        fill(preset, rows, rows),
        lambda x: x[order],
    )


@EVERY_PRESET
@few
@given(seeds, st.sampled_from([float("nan"), float("inf"), -float("inf")]))
def test_section_18_padding_and_what_stands_in_it_do_not_matter(preset: str, seed: int, junk: float) -> None:
    rows = some_rows(seed)

    def pad(x: Tensor) -> Tensor:
        return x if x.ndim == 1 else torch.nn.functional.pad(x, (0, 3))

    wide = on_every_tensor(rows, pad)
    dirty = {
        f.name: getattr(wide, f.name).masked_fill(~wide.mask_BT, junk)
        for f in fields(wide)
        if f.name.endswith("_BT") and f.name != "mask_BT"
    }
    found = fill(preset, replace(wide, **dirty), rows)
    expected = fill(preset, rows, rows)
    assert_same(found, expected, pad)
    for name, metric in expected.sums.items():
        assert found.sums[name] == pytest.approx(metric)
    assert found.maxima == expected.maxima


@EVERY_PRESET
@few
@given(seeds)
def test_section_18_nothing_reaches_tokens_the_policy_did_not_write(preset: str, seed: int) -> None:
    rows = some_rows(seed)
    found = fill(preset, rows, rows)
    assert not found.w_BT[~rows.mask_BT].any()
    assert found.k_BT is None or not found.k_BT[~rows.mask_BT].any()


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - PUSHES_WITHOUT_SIGNAL))
@few
@given(seeds)
def test_section_18_no_signal_gives_no_coefficient(preset: str, seed: int) -> None:
    rows = some_rows(seed)
    found = fill(preset, rows, rows)
    assert not found.w_BT[1].any()
    assert found.k_BT is None


@few
@given(seeds)
def test_section_18_without_strength_a_shaper_is_the_identity(seed: int) -> None:
    rows = some_rows(seed)
    assert torch.equal(repo.shape(rows.advantage_BT, rows.lp_BT, 0.0), rows.advantage_BT)
    assert torch.equal(repo_r.shape(rows.advantage_BT, rows.lp_BT, 0.0), rows.advantage_BT)
    assert torch.equal(tis.weigh(torch.zeros_like(rows.lp_BT), 2.0), torch.ones_like(rows.lp_BT))


@few
@given(seeds, st.floats(-1, 1))
def test_section_18_repo_r_never_changes_the_sign(seed: int, zeta: float) -> None:
    rows = some_rows(seed)
    shaped_BT = repo_r.shape(rows.advantage_BT, rows.lp_BT, zeta)
    assert (shaped_BT * rows.advantage_BT >= 0).all()


RULES = {
    "reinforce": reinforce.create(reinforce.Config()),
    "ppo": ppo.create(ppo.Config()),
    "ppo dual clip": ppo.create(ppo.Config(dual_clip=1.4)),
}
EVERY_RULE = pytest.mark.parametrize("rule", RULES)


@EVERY_RULE
@few
@given(seeds, st.floats(0.01, 100))
def test_section_18_a_ratio_rule_sees_only_the_sign(rule: str, seed: int, weight: float) -> None:
    rows = some_rows(seed)
    c_BT = RULES[rule].apply(rows.advantage_BT, rows).c_BT
    assert torch.equal(RULES[rule].apply(weight * rows.advantage_BT, rows).c_BT, c_BT)


@EVERY_RULE
@few
@given(seeds)
def test_section_18_the_gradient_of_the_value_is_minus_a_times_c(rule: str, seed: int) -> None:
    rows, step = some_rows(seed), 1e-6
    rho_BT = (rows.lp_BT - rows.lp_old_BT).exp()
    is_far_BT = ((rho_BT[..., None] - f64([0.8, 1.28, 1.4])).abs() > 1e-4).all(-1)  # undefined at the bounds

    def value(shift: float) -> Tensor:
        return RULES[rule].apply(rows.advantage_BT, replace(rows, lp_BT=rows.lp_BT + shift)).value_BT

    slope_BT = (value(step) - value(-step)) / (2 * step)
    expected_BT = -rows.advantage_BT * RULES[rule].apply(rows.advantage_BT, rows).c_BT
    torch.testing.assert_close(slope_BT[is_far_BT], expected_BT[is_far_BT], atol=1e-7, rtol=1e-6)
